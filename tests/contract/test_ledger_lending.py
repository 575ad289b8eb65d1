"""Consumers that wait for quota lend each other cities: whoever is granted asks for those whose turn it is."""

from collections.abc import Sequence
from typing import Final

import pytest
from sqlalchemy import update

from consumer.admission import Grant, LeftOut, NotNow
from consumer.gate import EndpointSetting, Event
from consumer.lending import read
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.pacing import FIRST_FEW
from raingauge.storage.batches import BatchRef
from raingauge.storage.cities import remember
from raingauge.storage.database import Database
from raingauge.storage.models import Collection, QuotaCharge, QuotaTicket
from raingauge.storage.wanted import Want
from tests.contract.storage_support import NOW, SECOND, Account, accept, an_observation, cancel, claim, claims, rows

CALL_S: Final = 20.01
CITY_S: Final = 1.01
"""From one call to the next, and a little."""
HERS: Final = range(1001, 1061)
"""Cities that the second consumer holds."""


def wanted(name: str, city_ids: Sequence[int]) -> list[Candidate]:
    """Cities of one collection that may be lent."""
    return [
        Candidate(city_id, NOW, name, (Want(BatchRef(name, place // 20), city_id, NOW),))
        for place, city_id in enumerate(city_ids)
    ]


class Two:
    """Two consumers of one account: the first had a call, the second waits and has told what it wants."""

    def __init__(self, database: Database, endpoint: EndpointSetting = "group") -> None:
        self.account = Account(database)
        self.one, self.two = (self.account.ledger(name, endpoint) for name in ("one", "two"))
        for name, cities in (("his", range(1, 81)), ("hers", HERS)):
            accept(database, name, cities)
        old = update(Collection).values(last_progress_at=NOW, collected=FIRST_FEW)
        database.write(lambda connection: connection.execute(old))
        self.first = self.granted(self.one, wanted("his", range(1, 21)))
        self.account.close(self.one, self.first)
        self.refused(self.two, wanted("hers", HERS))
        # Behind all others in line: so the first is granted at once.
        last = update(QuotaTicket).values(taken_at=NOW + 3600 * SECOND)
        database.write(lambda connection: connection.execute(last))
        self.account.moment.forward(CALL_S if endpoint == "group" else CITY_S)

    def granted(self, ledger: Ledger, candidates: Sequence[Candidate], avoid: frozenset[int] = frozenset()) -> Grant:
        answer = ledger.reserve(candidates, together=True, avoid=avoid)
        assert isinstance(answer, Grant), answer
        return answer

    def refused(self, ledger: Ledger, candidates: Sequence[Candidate]) -> None:
        assert isinstance(ledger.reserve(candidates, together=True), NotNow)


def hers(grant: Grant) -> list[int]:
    return sorted(city_id for city_id in grant.city_ids if city_id in HERS)


def test_the_cities_of_both_ride_in_turn_in_the_call_of_the_first(database: Database) -> None:
    two = Two(database)
    grant = two.granted(two.one, wanted("his", range(21, 81)))
    assert (len(grant.city_ids), hers(grant)) == (20, list(HERS[:10]))
    assert set(grant.lent) == {want for one in wanted("hers", HERS)[:10] for want in one.wants}
    assert [city_id for city_id, holder in claims(database).items() if city_id in HERS and holder == "one"] == hers(
        grant
    )
    assert [row.cost for row in rows(database, QuotaCharge)] == [20, 20]


def test_a_call_that_its_own_cities_do_not_fill_is_filled(database: Database) -> None:
    two = Two(database)
    grant = two.granted(two.one, wanted("his", [21, 22]))
    assert (len(grant.city_ids), len(hers(grant))) == (20, 18)


@pytest.mark.parametrize("kind", ["avoided", "cancelled", "fetched", "claimed"])
def test_what_must_not_be_asked_for_is_not(database: Database, kind: str) -> None:
    two = Two(database)
    few = HERS[:5]
    avoid: frozenset[int] = frozenset()
    if kind == "avoided":
        avoid = frozenset(few)
    elif kind == "cancelled":
        cancel(database, "hers")
        few = HERS
    elif kind == "fetched":
        observed = {city_id: (NOW, an_observation(city_id)) for city_id in few}
        database.write(lambda c: remember(c, observed, {}))
    else:
        until = two.account.moment.now + 10 * SECOND
        database.write(lambda c: claim(c, few, "three", until))
    grant = two.granted(two.one, wanted("his", range(21, 81)), avoid=avoid)
    assert len(grant.city_ids) == 20
    assert not set(few) & set(grant.city_ids)
    assert bool(hers(grant)) is (kind != "cancelled")


def test_what_is_borrowed_is_not_borrowed_again_while_its_call_is_under_way(database: Database) -> None:
    two = Two(database)
    first = two.granted(two.one, wanted("his", range(21, 81)))
    # A slow answer: the next moment comes before it, and her ticket still lends the same cities.
    two.account.moment.forward(CALL_S)
    last = update(QuotaTicket).values(due_at=two.account.moment.now)
    database.write(lambda connection: connection.execute(last))
    second = two.granted(two.one, wanted("his", range(41, 81)))
    assert (len(hers(first)), len(hers(second))) == (10, 10)
    assert not set(hers(first)) & set(hers(second))


def test_when_calls_fail_everybody_asks_for_its_own(database: Database) -> None:
    two = Two(database)
    two.one.report(two.first, Event.SILENT)
    grant = two.granted(two.one, wanted("his", range(21, 81)))
    assert (len(grant.city_ids), hers(grant), grant.lent) == (20, [], ())


def test_who_has_to_go_alone_takes_nobody_along(database: Database) -> None:
    two = Two(database)
    answer = two.one.reserve(wanted("his", [21]), together=False)
    assert isinstance(answer, Grant)
    assert answer.city_ids == (21,)


def test_one_by_one_the_city_goes_whose_turn_it_is(database: Database) -> None:
    two = Two(database, "single")
    grant = two.granted(two.one, wanted("his", range(21, 81)))
    assert (grant.city_ids, grant.lent) == ((HERS[0],), wanted("hers", HERS)[0].wants)


def test_a_ticket_of_an_older_version_lends_nothing(database: Database) -> None:
    two = Two(database)
    database.write(lambda c: c.execute(update(QuotaTicket).values(offers=None)))
    assert hers(two.granted(two.one, wanted("his", range(21, 81)))) == []


def test_the_owner_leaves_out_at_once_all_that_others_fetched_for_it(database: Database) -> None:
    two = Two(database)
    observed = {city_id: (NOW + SECOND, an_observation(city_id)) for city_id in HERS[:30]}
    database.write(lambda c: remember(c, observed, {}))
    assert two.two.reserve(wanted("hers", HERS), together=True) == LeftOut(frozenset(HERS[:30]), frozenset())


def test_what_another_fetches_is_not_lent_again(database: Database) -> None:
    two = Two(database)
    two.granted(two.one, wanted("his", range(21, 81)))
    two.refused(two.two, wanted("hers", HERS))
    [ticket] = [row for row in rows(database, QuotaTicket) if row.id == "two"]
    assert [candidate.city_id for candidate in read(ticket.offers)] == list(HERS[10:])
