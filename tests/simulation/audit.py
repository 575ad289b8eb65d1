"""The audit: whether a run kept its promises. It reads the database and what the stand-ins saw."""

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from raingauge.database import Database
from raingauge.messaging.port import ADDED_HEADERS, Delivery
from raingauge.model import CollectionState
from raingauge.storage import quota
from raingauge.storage.events import NOT_PROCESSED
from raingauge.storage.models import Batch, Collection, Event, OutgoingReading, QueuedCity, QuotaCharge, Reading
from tests.simulation.handoff import POISON, Topic
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.provider import Witness
from tests.simulation.virtual import EPOCH

TOLERANCE = timedelta(milliseconds=5)
STANDSTILL_S = 30.0
"""Longer than any call or pause of a consumer in calm times."""


class Audit:
    """Watches a run and judges it at the end."""

    def __init__(self, database: Database, topic: Topic, streams: Topic, witness: Witness, plan: Plan) -> None:
        self.accepted: dict[str, frozenset[int]] = {}
        """By id, the cities of each collection that is to be there at the end."""
        self._asked_for: dict[str, set[frozenset[int]]] = {}
        """By id, the cities of each collection that ever was; a failover may bring a deleted one back."""
        self.deleted: set[str] = set()
        """Ids of collections that a client has deleted, or is deleting. A later one may have such an id."""
        self._deleted_ends: Counter[tuple[str, str]] = Counter()
        self.posted: set[str] = set()
        """Collections that clients have begun to ask for."""
        self.lost: set[str] = set()
        """Those of them that a failover may have lost."""
        self.failed_over = False
        """What Kafka, users and the provider were given before may be unknown to the database."""
        self.poison: list[bytes | None] = []
        self.notified: list[str] = []
        """The notifications, each a line."""
        self.violations: list[str] = []
        """What was seen inside the system's own calls: raised there, its code might swallow it."""
        self._database = database
        self._topic = topic
        self._streams = streams
        self._witness = witness
        self._plan = plan
        self._seen: dict[tuple[str, datetime, int], tuple[Any, ...]] = {}
        self._charges: dict[int, tuple[Any, ...]] = {}
        self._newest: dict[int, datetime] = {}
        """By city, when the newest weather of a reading was fetched; the reading may be deleted since."""
        self._progress: object = None
        self._moved_at = 0.0
        topic.on_publish = self._publishes
        topic.on_acknowledge = self._acknowledges

    # -- while it runs -------------------------------------------------------------------------------------------

    def accept(self, name: str, cities: frozenset[int]) -> None:
        """A client was told that this collection is accepted."""
        self.accepted[name] = cities
        self._asked_for.setdefault(name, set()).add(cities)

    def delete(self, state: CollectionState) -> None:
        """A client is about to delete this collection, which has ended."""
        self.deleted.add(state.id)
        self.accepted.pop(state.id, None)  # a failover may have lost it, and a client posted it again
        self._deleted_ends[_end_of(state), state.id] += 1

    def _publishes(self, process: Process, key: bytes) -> None:
        """Only who holds a batch's lease publishes it."""
        if self.failed_over:
            return  # the lease may be lost
        collection, _, number = key.decode().rpartition("/")
        holder = self._database.read(
            lambda c: c.scalar(
                select(Batch.leased_by).where(Batch.collection_id == collection, Batch.batch == int(number))
            )
        )
        is_leased = holder == process.name or collection in self.deleted
        self._expect(is_leased, f"{process.name} publishes {key!r}, leased by {holder}")

    def _acknowledges(self, delivery: Delivery) -> None:
        """Only what is settled is acknowledged, or what went to the dead letters."""
        if delivery.key == POISON:
            buried = any(dead.value == delivery.value for dead in self._topic.dead)
            self._expect(buried, "poison acknowledged before it is buried")
            return
        if self.failed_over:
            return
        message = json.loads(delivery.value or b"")
        batch = (Batch.collection_id == message["collection_id"], Batch.batch == message["batch"])
        over = select(Collection.requested_at, func.coalesce(Batch.settled_at, Collection.cancelled_at)).join(
            Collection, Collection.id == Batch.collection_id
        )
        row = self._database.read(lambda c: c.execute(over.where(*batch)).one_or_none())
        if row is None or row.requested_at > datetime.fromisoformat(message["requested_at"]):
            self._expect(message["collection_id"] in self.deleted, f"{delivery.key!r} acknowledged, of nothing")
            return
        self._expect(row[1] is not None, f"{delivery.key!r} acknowledged before it is settled")

    def fail_over(self) -> None:
        """The database lacks its last transactions from now on: what was seen of them is forgotten."""
        self.failed_over = True
        self._seen, self._charges, self._newest = {}, {}, {}
        kept = select(Collection.id).where(Collection.removing.is_(None))
        self.lost = self.posted - set(self._database.read(lambda c: c.scalars(kept).all()))

    def _expect(self, kept: bool, violation: str) -> None:
        if not kept:
            self.violations.append(violation)

    def look(self) -> None:
        """A settled reading never changes; a charge is never taken back; counters are exact at any time."""
        assert not self.violations, "\n".join(self.violations[:5])
        self._database.read(self._look)

    def _look(self, connection: Connection) -> None:
        rows = connection.execute(select(Reading)).all()
        states = {row.id: row for row in connection.execute(select(Collection))}
        kept = {(row.id, row.requested_at) for row in states.values() if row.removing is None}
        now = {(row.collection_id, states[row.collection_id].requested_at, row.city_id): tuple(row) for row in rows}
        for key, before in self._seen.items():
            is_deleted = key[0] in self.deleted and key[:2] not in kept
            assert is_deleted or now.get(key) == before, f"reading {key} changed from {before} to {now.get(key)}"
        self._seen = now
        for reading in rows:
            if (at := reading.fetched_at) is not None:
                self._newest[reading.city_id] = max(at, self._newest.get(reading.city_id, at))
        counts = Counter((row.collection_id, row.status) for row in rows)
        for state in states.values():
            if state.removing is not None:
                continue
            real = (counts[state.id, "collected"], counts[state.id, "failed"])
            assert (state.collected, state.failed) == real, f"{state.id}: counters ≠ rows"
        queued = {(row.collection_id, row.city_id): row for row in connection.execute(select(QueuedCity))}
        twice = queued.keys() & {(name, city_id) for name, _, city_id in now}
        assert not twice, f"settled and queued: {twice}"
        for place, row in queued.items():
            waits = row.turn is None and row.ready_at is not None
            assert waits or row.turn is not None, f"{place} is queued but can never be taken"
        charges = {row.id: tuple(row) for row in connection.execute(select(QuotaCharge))}
        gone = self._charges.keys() - charges.keys()
        assert not gone, f"charges {gone} are gone"
        self._charges = charges

    def look_for_standstill(self, account: str, at_s: float) -> None:
        """Nothing stands still while the gate is open, quota is free and cities are queued. In calm times."""
        progress, may_go = self._database.read(lambda connection: self._may_go(connection, account))
        if progress != self._progress or not may_go:
            self._progress, self._moved_at = progress, at_s
        stood_s = at_s - self._moved_at
        assert stood_s <= STANDSTILL_S, f"no call for {stood_s} s: gate open, quota free, cities queued"

    def _may_go(self, connection: Connection, account: str) -> tuple[object, bool]:
        """How far everything is, and whether a call might go."""
        done = [connection.scalar(select(func.count()).select_from(table)) for table in (QuotaCharge, Reading)]
        now, gate = self._database.now(connection), quota.find_gate(connection, account)
        if gate is None or gate.state != "open" or max(gate.blocked_until, gate.next_start_at) > now:
            return done, False
        ready = set(connection.scalars(select(QueuedCity.city_id).where(QueuedCity.turn.is_not(None))))
        claimed = set(connection.scalars(select(QueuedCity.city_id).where(QueuedCity.charge_id.is_not(None))))
        held = quota.held(connection, account, now, self._plan.terms.window_s)
        return done, held < self._plan.terms.cities_per_window and bool(ready - claimed)

    # -- at the end ----------------------------------------------------------------------------------------------

    def all_done(self) -> bool:
        """Whether everything is settled and acknowledged."""
        return not self._database.read(_unfinished) and self._topic.unacknowledged == 0

    def open_work(self) -> str:
        """What is not done, for a person."""
        return f"{self._database.read(_unfinished)}, {self._topic.unacknowledged} messages unacknowledged"

    def check(self) -> None:
        """All promises."""
        self.look()
        self._database.read(self._check_collections)
        self._database.read(self._check_charges)
        self._database.read(self._check_events)
        if self._plan.streams:
            self._database.read(self._check_streams)
        buried = {d.value for d in self._topic.dead if d.key == POISON or not self.failed_over}
        assert buried == set(self.poison), "dead letters ≠ poison"
        most = self._witness.most_in_any_window(self._plan.terms.window_s)
        assert most <= self._plan.terms.cities_per_window, f"{most} arrivals in one window"
        assert not self._witness.fetched_at_once, f"fetched at once: {self._witness.fetched_at_once}"

    def _check_collections(self, connection: Connection) -> None:
        readings: dict[str, dict[int, Any]] = {}
        for row in connection.execute(select(Reading)):
            readings.setdefault(row.collection_id, {})[row.city_id] = row
        states = {row.id: row for row in connection.execute(select(Collection))}
        assert self.accepted.keys() <= states.keys() | self.lost, "an accepted collection is gone"
        left = connection.execute(select(QueuedCity)).all()
        assert not left, f"queued although nothing is open: {left}"
        for name, state in states.items():
            rows = readings.get(name, {})
            asked_for = self._asked_for[name] if self.failed_over else {self.accepted[name]}
            whole = state.cancelled_at is None
            fits = any(rows.keys() == cities if whole else rows.keys() <= cities for cities in asked_for)
            assert fits, f"{name}: other cities than were asked for"
            for row in rows.values():
                self._check_reading(row, state)
        wrong = connection.execute(
            select(Batch)
            .join(Collection, Collection.id == Batch.collection_id)
            .where(Collection.cancelled_at.is_(None))
            .where((Batch.settled != Batch.size) | Batch.settled_at.is_(None))
        ).all()
        assert not wrong, f"batches not settled whole: {wrong}"

    def _check_reading(self, row: Any, state: Any) -> None:
        expected = "failed" if row.city_id in self._plan.unknown | self._plan.hopeless else "collected"
        assert row.status == expected, f"city {row.city_id} of {row.collection_id}: {row.status} ({row.reason})"
        if row.status == "collected":
            assert row.temperature == row.city_id % 40 / 2
            oldest = state.requested_at - timedelta(seconds=state.max_age_s) - TOLERANCE
            assert row.fetched_at >= oldest, f"city {row.city_id} is older than {row.collection_id} allows"

    def _check_events(self, connection: Connection) -> None:
        """Each cause has one event, each event its cause, and its user was notified."""
        found = connection.execute(select(Event)).all()
        there = Counter((_end_of(state), state.id) for state in connection.execute(select(Collection)))
        causes = there + self._deleted_ends
        buried = Counter({("dead_letter", identity): 1 for identity in map(_buried, self._topic.dead)})
        stored = Counter(
            (row.type, row.event_id if row.type == "dead_letter" else row.user_id)
            for row in found
            if row.type not in {"gate.closed", "key.refused"}
        )
        required, allowed = (there if self.failed_over else causes + buried), causes + buried
        assert not required - stored, f"causes without their event: {required - stored}"
        assert not stored - allowed, f"events without their cause: {stored - allowed}"
        notified, events = {line.split()[1] for line in self.notified}, {row.event_id for row in found}
        invented = set() if self.failed_over else notified - events
        assert not events - notified | invented, "not notified, or of nothing"

    def _check_streams(self, connection: Connection) -> None:
        """Each reading was published, and of each city's weather the newest one last."""
        stored = {tuple(row) for row in connection.execute(select(Reading.collection_id, Reading.city_id))}
        messages = [json.loads(delivery.value or b"") for delivery in self._streams.messages]
        published = {(message["collection_id"], message["city_id"]) for message in messages}
        lost = published - stored if self.failed_over else set()
        differ = {key for key in (published - lost) ^ stored if key[0] not in self.deleted}
        assert not differ, f"not published, or not stored: {differ}"
        latest = [json.loads(delivery.value or b"") for delivery in self._streams.dead]  # not the topic's own messages
        last = {message["city_id"]: datetime.fromisoformat(message["fetched_at"]) for message in latest}
        for city_id, fetched_at in self._newest.items():
            assert city_id in last, f"not published: the latest weather of city {city_id}"
            assert last[city_id] >= fetched_at, f"the latest weather of city {city_id} is old"

    def _check_charges(self, connection: Connection) -> None:
        """Each is held as long as the rule says; together they cover every arrival."""
        terms = self._plan.terms
        for row in connection.execute(select(QuotaCharge)):
            worst = row.reserved_at + timedelta(seconds=terms.claim_s)
            due = worst if row.closed_at is None else min(worst, row.closed_at)
            assert row.ends_at >= due - TOLERANCE, f"charge {row.id} ends too early"
        spent = connection.scalar(select(func.sum(QuotaCharge.cost))) or 0
        arrived = sum(cost for _, cost in self._witness.arrivals)
        assert spent >= arrived or self.failed_over, "arrivals that nobody was charged for"
        assert all(moment >= 0 for moment, _ in self._witness.arrivals), EPOCH


def _unfinished(connection: Connection) -> list[str]:
    is_open = select(Collection.id).where(Collection.finished_at.is_(None))
    due = select(Event.event_id).where(Event.status == NOT_PROCESSED)
    removed = select(Collection.id).where(Collection.removing.is_not(None))
    waiting = (select(table.collection_id) for table in (QueuedCity, OutgoingReading))
    return list(connection.scalars(is_open.union(*waiting, due, removed)))


def _end_of(state: Any) -> str:
    """The type of the event that a collection's end causes."""
    if state.cancelled_at is not None:
        return "collection.cancelled"
    return "collection.finished_with_failures" if state.failed else "collection.finished"


def _buried(dead: Delivery) -> str:
    """The identity of the delivery that became a dead letter."""
    added = {name.removeprefix(ADDED_HEADERS): value.decode() for name, value in dead.headers}
    where = added["topic"], int(added["partition"]), int(added["offset"])
    return Delivery(*where, dead.key, dead.value).identity
