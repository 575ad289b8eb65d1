"""The gate as all consumers of an account see it: what they report, and who probes. The rules are tested as such."""

import math
from typing import Any

import pytest
from sqlalchemy.engine import Row

from consumer.gate import Event, Plan
from consumer.ledger import NotNow, Reservation
from raingauge.database import Database
from tests.contract.ledger_support import Account, Consumer, milliseconds
from tests.contract.storage_support import NOW, SECOND


class Consumers:
    """Two consumers of an account whose quota is never what holds them back."""

    def __init__(self, database: Database) -> None:
        self.account = Account(database, cities_per_window=6000)
        self.one = self.account.consumer("one", "auto")
        self.two = self.account.consumer("two", "auto")
        self.forward = self.account.moment.forward
        self.account.want_new(200)

    @property
    def gate(self) -> Row[Any]:
        return self.account.gate

    def probe(self, endpoint: str, consumer: Consumer | None = None) -> Reservation:
        """The probe of that endpoint that may go now: one city, and nobody else may try before it is answered."""
        taken = (consumer or self.one).take()
        assert (taken.plan.endpoint, taken.plan.probe, len(taken.city_ids)) == (endpoint, True, 1)
        assert not taken.gate_was_untroubled
        assert all(0 < other.refused().seconds <= 1 for other in (self.one, self.two))
        return taken

    def goes(self, endpoint: str) -> Reservation:
        """An ordinary call, or as many single ones."""
        taken = self.two.take()
        assert (taken.plan.endpoint, taken.plan.probe) == (endpoint, False)
        assert [len(call) for call in taken.calls] == ([20] if endpoint == "group" else [1] * 20)
        return taken

    def closed(self, reason: str, seconds: float) -> None:
        """Nobody may go for that long."""
        assert [each.refused() for each in (self.one, self.two)] == [NotNow(milliseconds(seconds), reason)] * 2


@pytest.fixture
def consumers(database: Database) -> Consumers:
    return Consumers(database)


@pytest.fixture
def grouped(consumers: Consumers) -> Consumers:
    """Consumers who know that the group endpoint works."""
    consumers.one.report(consumers.probe("group"), Event.ANSWERED)
    return consumers


def test_the_first_call_is_a_probe_of_the_group_endpoint_and_its_answer_lets_all_go(consumers: Consumers) -> None:
    probe = consumers.probe("group")
    consumers.forward(0.2)
    assert consumers.one.report(probe, Event.ANSWERED)["endpoint"] == "group"
    assert (consumers.gate.endpoint, consumers.gate.endpoint_at) == ("group", NOW + 0.2 * SECOND)
    taken = consumers.goes("group")
    assert taken.gate_was_untroubled
    assert consumers.one.report(taken, Event.ANSWERED) == {}, "an ordinary answer changes nothing"


@pytest.mark.parametrize("event", [Event.KEY, Event.ENDPOINT])
def test_a_group_endpoint_that_is_refused_gives_way_to_single_calls(consumers: Consumers, event: Event) -> None:
    consumers.one.report(consumers.probe("group"), event)
    assert consumers.gate.endpoint == "refused"
    consumers.two.report(consumers.probe("single", consumers.two), Event.ANSWERED)
    assert consumers.goes("single").gate_was_untroubled
    assert consumers.gate.endpoint == "single"


def test_a_refused_key_closes_the_gate_and_a_consumer_that_starts_with_another_one_tries_it_once(
    consumers: Consumers,
) -> None:
    consumers.one.report(consumers.probe("group"), Event.KEY)
    same, other, worse = (consumers.account.consumer(key, "auto", key_hash=key) for key in ("one", "two", "three"))
    same.report(consumers.probe("single", same), Event.KEY)
    consumers.closed("key", 60)
    consumers.forward(60)
    same.report(consumers.probe("single", same), Event.KEY)
    for starting in (worse, other):
        assert same.refused() == NotNow(milliseconds(60), "key")
        taken = starting.take()
        assert (taken.plan, len(taken.city_ids)) == (Plan("single", probe=True), 1)
        if starting is worse:
            worse.report(taken, Event.KEY)
            assert worse.refused().seconds == milliseconds(60)
    other.report(taken, Event.ANSWERED)
    assert consumers.gate.state == "open"


def test_a_probe_whose_consumer_died_is_followed_by_another(consumers: Consumers) -> None:
    consumers.probe("group")
    consumers.forward(24.5)
    assert 0 < consumers.two.refused().seconds <= 0.5
    consumers.forward(0.5)
    consumers.probe("group", consumers.two)


@pytest.mark.parametrize(
    ("retry_after_s", "first_s", "second_s"), [(None, 60, 120), (90.0, 90, 180), (math.inf, 3600, 3600)]
)
def test_a_refusal_for_quota_closes_the_gate_and_the_next_one_for_longer(
    grouped: Consumers, retry_after_s: float | None, first_s: float, second_s: float
) -> None:
    grouped.one.report(grouped.goes("group"), Event.QUOTA, retry_after_s)
    grouped.closed("quota", first_s)
    grouped.forward(first_s)
    grouped.two.report(grouped.probe("group", grouped.two), Event.QUOTA, retry_after_s)
    grouped.closed("quota", second_s)
    grouped.forward(second_s)
    grouped.one.report(grouped.probe("group"), Event.ANSWERED)
    assert grouped.goes("group").gate_was_untroubled
    assert (grouped.gate.state, grouped.gate.strikes) == ("open", 0)


def test_three_silences_in_a_row_close_the_gate_for_longer_and_longer_and_an_answer_opens_it(
    grouped: Consumers,
) -> None:
    for event in (Event.SILENT, Event.SILENT, Event.ANSWERED, Event.SILENT, Event.SILENT):
        grouped.one.report(grouped.goes("group"), event)
    taken = grouped.goes("group")
    assert taken.gate_was_untroubled is False
    for longest in (1, 2, 4):
        grouped.one.report(taken, Event.SILENT)
        answer = grouped.two.refused()
        assert answer.reason == "provider"
        assert longest / 2 <= answer.seconds <= longest
        grouped.forward(longest)
        taken = grouped.probe("group")
    grouped.two.report(taken, Event.ANSWERED)
    assert grouped.goes("group").gate_was_untroubled


@pytest.mark.parametrize("endpoint", ["group", "single"])
def test_an_endpoint_that_was_set_is_neither_probed_nor_given_up(database: Database, endpoint: Any) -> None:
    account = Account(database, cities_per_window=6000)
    consumer = account.consumer(endpoint=endpoint)
    account.want_new(60)
    taken = consumer.take()
    assert (taken.plan, taken.gate_was_untroubled) == (Plan(endpoint, probe=False), True)
    consumer.report(taken, Event.ENDPOINT)
    assert consumer.refused() == NotNow(milliseconds(60), "provider")
    account.moment.forward(60)
    assert consumer.take().plan.probe
