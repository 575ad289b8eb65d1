"""The consumer's transactions, each one whole: what is left of batches, what is fresh, what a call brought.

Blocking; every method raises DatabaseUnavailable when the database is away.
"""

import logging
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from consumer.admission import Grant
from consumer.quota import Ledger
from raingauge.observation import Observation
from raingauge.storage.batches import BatchRef
from raingauge.storage.cities import good_city, remember
from raingauge.storage.consumers import beat, leave
from raingauge.storage.database import Database
from raingauge.storage.readings import count_attempt, settle
from raingauge.storage.wanted import UNKNOWN_CITY, OpenBatch, Outcome, Want, fresh, fresh_in, open_batches

log = logging.getLogger("raingauge.store")

INTERNAL_ERROR: Final = "internal error"


@dataclass(frozen=True, slots=True)
class Harvest:
    """What the calls of one charge brought."""

    fetched_at: datetime
    observations: Mapping[int, Observation] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    given_up: Mapping[int, str] = field(default_factory=dict)
    """City ids that are failed for good, and why."""

    def outcome(self, city_id: int) -> Outcome:
        """What becomes of a city that is settled by it."""
        if city_id in self.observations:
            return None
        return UNKNOWN_CITY if city_id in self.unknown else self.given_up[city_id]

    def settles(self, want: Want) -> bool:
        """Whether it has what someone wants, and late enough."""
        if want.city_id in self.observations:
            return want.since <= self.fetched_at
        return want.city_id in self.unknown or want.city_id in self.given_up

    @property
    def city_ids(self) -> list[int]:
        """All that it settles."""
        return [*self.observations, *self.unknown, *self.given_up]


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of one charge, and whose cities it settles."""

    grant: Grant
    harvest: Harvest
    wants: Sequence[Want]
    closes: bool
    """All its answers are in."""


class Store:
    """The database as one consumer uses it."""

    def __init__(self, database: Database, ledger: Ledger, consumer: str, account: str) -> None:
        self._database = database
        self._ledger = ledger
        self._consumer = consumer
        self._account = account

    def open_batches(self, refs: Many[BatchRef]) -> tuple[dict[BatchRef, OpenBatch], list[Want]]:
        """What is left of these batches, and what of that needs no call. Unknown batches are not in the answer."""

        def work(connection: Connection) -> tuple[dict[BatchRef, OpenBatch], list[Want]]:
            batches = open_batches(connection, refs)
            return batches, fresh_in(connection, self._database.now(connection), batches.values())

        return self._database.read(work)

    def copy_fresh(self, wants: Many[Want]) -> list[Want]:
        """Settle the wants that need no call; answer them."""
        if not wants:
            return []

        def work(connection: Connection) -> tuple[list[Want], list[str]]:
            now = self._database.now(connection)
            outcomes = fresh(connection, now, wants, lock=True)  # cities before collections, as in `keep`
            return list(outcomes), settle(connection, now, outcomes)

        settled, done = self._database.write(work)
        _tell(done)
        return settled

    def keep(self, brought: Sequence[Brought]) -> None:
        """Store what calls brought, for everybody who wants it; end their claims, and close the charges that closed."""
        observed = {
            city: (one.harvest.fetched_at, o) for one in brought for city, o in one.harvest.observations.items()
        }
        unknown = {city: one.harvest.fetched_at for one in brought for city in one.harvest.unknown}
        outcomes = {want: one.harvest.outcome(want.city_id) for one in brought for want in one.wants}
        closed = [one.grant for one in brought if one.closes]
        unanswered = [one.grant for one in brought if not one.closes]

        def work(connection: Connection) -> list[str]:
            remember(connection, observed, unknown)  # cities before collections, whoever locks both
            now = self._database.now(connection)
            done = settle(connection, now, outcomes)
            if unanswered:
                self._ledger.unclaim(connection, unanswered)
            if closed:
                self._ledger.close(connection, closed)
            return done

        _tell(self._database.write(work))

    def good_city(self) -> int | None:
        """A city that the provider has answered for, the latest one; None before any."""
        return self._database.read(good_city)

    def count_attempt(self, ref: BatchRef) -> int:
        """Remember that a batch met an unexpected error; answer how often by now."""
        return self._database.write(lambda connection: count_attempt(connection, ref))

    def fail(self, ref: BatchRef) -> None:
        """Fail what is left of a batch."""

        def work(connection: Connection) -> list[str]:
            batch = open_batches(connection, [ref]).get(ref)
            wants = batch.wants if batch is not None else []
            return settle(connection, self._database.now(connection), dict.fromkeys(wants, INTERNAL_ERROR))

        _tell(self._database.write(work))

    def beat(self) -> None:
        """Say that this consumer is alive."""
        self._database.write(
            lambda connection: beat(connection, self._database.now(connection), self._consumer, self._account)
        )

    def leave(self) -> None:
        """Say that it stops."""
        self._database.write(lambda connection: leave(connection, self._consumer))


def _tell(done: Many[str]) -> None:
    """Say which collections are done."""
    for collection_id in done:
        log.info("collection.done", extra={"collection_id": collection_id})
