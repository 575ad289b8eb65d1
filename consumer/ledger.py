"""The quota ledger: holds quota for cities before they are requested. Settling them closes their charge.

One row (the gate) per provider account orders all reservations of all consumers; the queue decides whose city is next.
The rule, its proof and its limits: docs/quota.md. No consumer's clock enters it, only durations.
"""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from consumer import gate as gates
from consumer.gate import EndpointSetting, Event, Plan
from raingauge.clock import Clock
from raingauge.database.identity import UNKNOWN, FindIdentity, Identity, server_identity
from raingauge.database.transactions import Transactions
from raingauge.errors import GateMismatch
from raingauge.model import CALL_SIZE, Gate
from raingauge.quota.pacing import Terms, Wait, admit, month_allows, month_moment, next_month, room_beside
from raingauge.storage import cities, outbox, queue, quota
from raingauge.storage.queue import Candidate
from raingauge.storage.settling import ALONE_AFTER

log = logging.getLogger("raingauge.ledger")

OTHER_TERMS: Final = timedelta(minutes=1)
"""The wait when `quota adopt` has changed the gate's terms: this consumer must be restarted with the same settings."""
IDLE_S: Final = 1.0
"""How soon to look again when nothing is ready: another consumer may enqueue more than it can request."""
JOINED_FOR: Final = timedelta(seconds=2)
"""How long a row waits for a call that is fetching its city: the call may just have been settled without it."""
HINT: Final = "its last charges may be missing; repeated, consumers reach several servers: give them all one writer"
KEPT_IN_GATE: Final = ("cities_per_window", "window_s", "pacing")
NO_CALLS: Final = Plan("group", probe=False)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Calls that may go now, and cities that need none."""

    reserved_at: datetime
    """Database time."""
    charge_id: int | None = None
    """None: there are no calls."""
    calls: tuple[tuple[int, ...], ...] = ()
    """The cities of each call."""
    plan: Plan = NO_CALLS
    gate_was_untroubled: bool = False
    """An ordinary answer changes nothing about the gate. Always False for a probe."""
    fresh: tuple[int, ...] = ()
    """Cities that need no call any more: their rows are to be settled."""
    began: float = 0.0
    """The program's clock just before `reserved_at` was read: waiting for the gate's lock does not count."""

    @property
    def lanes(self) -> int:
        """Group calls; up to 20 calls of one city count as one."""
        single = sum(len(call) == 1 for call in self.calls)
        return len(self.calls) - single + math.ceil(single / CALL_SIZE)

    @property
    def city_ids(self) -> list[int]:
        """The cities of all calls."""
        return [city_id for call in self.calls for city_id in call]


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing may go for that long."""

    seconds: float
    reason: str | None
    """None: nothing is wanted."""
    moved: tuple[str, str] | None = None
    """The old and the new database server, if this reservation closed the gate because of the change."""


def lock_gate(connection: Connection, account: str) -> Gate:
    """The gate, locked until the transaction ends. Raises as `lock_gate_on`."""
    return lock_gate_on(connection, account, UNKNOWN)[0]


def lock_gate_on(connection: Connection, account: str, server: Identity) -> tuple[Gate, str | None]:
    """The gate, locked until the transaction ends, and `server`'s value.

    Raises:
        GateMismatch: there is none.
    """
    locked = quota.lock_gate_on(connection, account, server)
    if locked is None:
        raise GateMismatch(f"the gate of account {account} does not exist: start a consumer first")
    return locked


def create_gate(connection: Connection, now: datetime, account: str, terms: Terms) -> None:
    """Create the gate with these terms. Raises IntegrityError: it exists."""
    quota.insert_gate(connection, account, now, kept(terms))
    quota.note_terms(connection, account, now, terms)


def kept(terms: Terms | Gate) -> dict[str, Any]:
    """What a gate keeps of its account's terms."""
    return {name: getattr(terms, name) for name in KEPT_IN_GATE}


def differences(gate: Gate, terms: Terms) -> dict[str, Any]:
    """Those of these terms that differ from the gate's."""
    return dict(kept(terms).items() - kept(gate).items())


class Ledger:
    """The ledger of one account, as one consumer uses it.

    Raises (all but `open` and `report`, which wait): DatabaseUnavailable.
    """

    def __init__(
        self,
        transactions: Transactions,
        clock: Clock,
        account: str,
        terms: Terms,
        endpoint: EndpointSetting,
        consumer: str,
        key_hash: str | None = None,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._account = account
        self._endpoint = endpoint
        self._consumer = consumer
        self._key_hash = self._new_key = key_hash
        self._span_s = 0.0
        self._server: Identity = UNKNOWN
        self.terms = terms
        self.find_identity: FindIdentity = server_identity

    @property
    def calls_at_once(self) -> int:
        """Group calls that the next charge may cover."""
        return math.ceil(self.terms.at_once(self._span_s, together=True) / CALL_SIZE)

    async def open(self) -> None:
        """Create the account's gate, or check that it has these terms. Waits for the database.

        Raises:
            GateMismatch: consumers of one account would pace by different terms.
        """
        try:
            await self._transactions.persist(self._create_gate)
        except IntegrityError:
            await self._transactions.persist(self._compare)

    async def reserve(self, calls: int) -> Reservation | NotNow:
        """Hold quota for the next cities of the queue, as many as may go in up to `calls` group calls; claim them."""
        began = self._clock.monotonic()
        answer = await self._transactions.write(lambda connection: self._reserve(connection, calls))
        if isinstance(answer, Reservation):
            self._span_s = self._clock.monotonic() - began
            if answer.charge_id is not None:
                self._new_key = None
        elif answer.moved:
            log.warning("gate.failover", extra={"servers": " -> ".join(answer.moved), "hint": HINT})
        return answer

    async def report(self, plan: Plan, event: Event, retry_after_s: float | None = None) -> Mapping[str, Any]:
        """Record at the gate what became of a call; return the columns that changed. Waits for the database."""

        def work(connection: Connection) -> Mapping[str, Any]:
            gate = lock_gate(connection, self._account)
            now, jitter = self._transactions.now(connection), random.random()
            changes = gates.after(gate, now, event, plan, self._endpoint, self.terms, retry_after_s, jitter)
            if event is Event.KEY:
                changes["refused_key"] = self._key_hash
            quota.change_gate_with_event(connection, now, gate, changes)
            return changes

        return await self._transactions.persist(work)

    async def prune(self, kept_for: timedelta) -> bool:
        """Delete some charges that were released longer than `kept_for` ago; return whether there may be more."""
        age = kept_for + timedelta(seconds=self.terms.window_s)
        return await self._transactions.write(
            lambda c: quota.forget_charges(c, self._account, self._transactions.now(c) - age)
        )

    async def beat(self, partitions_held: int = 0) -> None:
        """Record that this consumer is alive, and how many partitions wait in it."""
        await self._transactions.write(
            lambda c: quota.beat(c, self._transactions.now(c), self._consumer, self._account, partitions_held)
        )

    async def leave(self) -> None:
        """Record that this consumer stops."""
        await self._transactions.write(lambda connection: quota.leave(connection, self._consumer))

    # -- the gate's row ------------------------------------------------------------------------------------------------

    def _create_gate(self, connection: Connection) -> None:
        self._server = self.find_identity(connection)
        create_gate(connection, self._transactions.now(connection), self._account, self.terms)

    def _compare(self, connection: Connection) -> None:
        self._server, gate = self.find_identity(connection), lock_gate(connection, self._account)
        if differences(gate, self.terms):
            theirs, ours = kept(gate), kept(self.terms)
            raise GateMismatch(
                f"the gate of account {self._account} has {theirs}, these settings say {ours}: "
                "make them the same, or run `python -m consumer quota adopt` to change the gate"
            )
        quota.note_terms(connection, self._account, self._transactions.now(connection), self.terms)

    # -- reserving -----------------------------------------------------------------------------------------------------

    def _reserve(self, connection: Connection, calls: int) -> Reservation | NotNow:
        gate, server = lock_gate_on(connection, self._account, self._server)
        began = self._clock.monotonic()
        read_at = self._transactions.now(connection)
        doubts = gates.doubt(gate, read_at, server, self.terms)
        if "state" in doubts:
            return self._close(connection, gate, read_at, doubts)
        quota.change_gate(connection, self._account, doubts)
        answer = self._decide(connection, gate, max(read_at, gate.last_now), calls)
        return replace(answer, began=began) if isinstance(answer, Reservation) else answer

    def _decide(self, connection: Connection, gate: Gate, now: datetime, calls: int) -> Reservation | NotNow:
        """The reservation at that moment, under the gate's lock."""
        plan = self._plan(gate, now)
        if isinstance(plan, Wait):
            return _not_now(plan, now)
        room = self._room(connection, gate, now, self._full(plan, calls))
        if isinstance(room, Wait):
            return _not_now(room, now)
        queue.give_turns(connection, now, self._account, gate.turn)
        picked = queue.pick(connection, now, self._account, room, gate.month_spent)
        for one in picked:
            if one.claim is not None:  # it waits for the call that is fetching it
                charge_id, until = one.claim
                queue.claim(connection, [one.city_id], charge_id, min(until, now + JOINED_FOR))
        fresh = tuple(one.city_id for one in picked if one.needs_no_call and one.claim is None)
        wanted = [one for one in picked if queue.needs_call(one)]
        answer = self._charge(connection, gate, now, wanted, plan, calls) if wanted else self._idle(connection, now)
        if not fresh:
            return answer
        if isinstance(answer, Reservation):
            return replace(answer, fresh=fresh)
        return Reservation(now, fresh=fresh)

    def _plan(self, gate: Gate, now: datetime) -> Plan | Wait:
        """How the next call is to be made, or until when to wait."""
        if differences(gate, self.terms):
            return Wait(now + OTHER_TERMS, "terms")
        return gates.plan(gate, now, self._endpoint, self.terms, self._new_key)

    def _full(self, plan: Plan, calls: int) -> int:
        """How many cities a charge may cover."""
        if plan.probe:
            return 1
        return min(calls * CALL_SIZE, self.terms.at_once(self._span_s, together=plan.endpoint == "group"))

    def _idle(self, connection: Connection, now: datetime) -> NotNow:
        ready_at = queue.next_ready(connection, self._account)
        seconds = IDLE_S if ready_at is None else min(IDLE_S, max(0.0, (ready_at - now).total_seconds()))
        return NotNow(seconds, None)

    def _good_city(self, connection: Connection, gate: Gate, first: Candidate) -> Candidate | None:
        """A city to request instead, when nobody knows whether the provider is out or has no answer for `first` alone.

        None: none is needed, or none is known.
        """
        if gate.is_untroubled or not (first.attempts or gates.is_long_silent(gate)):
            return None
        city_id = cities.good_city(connection, first.city_id)
        return None if city_id is None else Candidate(city_id, 0, 0, False, None)

    def _room(self, connection: Connection, gate: Gate, now: datetime, full: int) -> int | Wait:
        """How many cities the pace has room for now, or until when to wait. A full charge has `full` cities."""
        planned, terms = gate.next_start_at, self.terms
        if terms.pacing == "burst" or planned <= now:
            return full
        lately = quota.charged(connection, self._account, now - timedelta(seconds=terms.gather_s))
        beside = room_beside(planned, now, lately, full, terms)
        return beside if beside > 0 else Wait(planned, "pace")

    def _admit(self, connection: Connection, gate: Gate, now: datetime, want: int) -> int | Wait:
        """How many of `want` cities month and window admit now, or until when to wait."""
        terms = self.terms
        spent = gate.spent(now)
        want = min(want, terms.cities_per_month - spent)
        if want <= 0:
            return Wait(next_month(now), "month")
        allowed, least = month_allows(now, spent, terms), min(want, CALL_SIZE)
        if allowed < least:
            return Wait(month_moment(now, spent, least, terms), "month")
        want, window = min(want, allowed), timedelta(seconds=terms.window_s)
        free = terms.cities_per_window - quota.held(connection, self._account, now, terms.window_s)
        # An open charge ends at its worst case. If it closes now, it is released in a window: look again then.
        ends = [] if free >= want else quota.next_ends(connection, self._account, now - window, want)
        releases = [(min(end, now) + window, cost) for end, cost in ends]
        number, moment = admit(now, want, free, releases, timedelta(seconds=terms.gather_s))
        return Wait(moment, "pace") if moment > now else number

    def _charge(
        self, connection: Connection, gate: Gate, now: datetime, wanted: Sequence[Candidate], plan: Plan, calls: int
    ) -> Reservation | NotNow:
        """Hold quota for as many of the wanted cities as may go, in their order, and claim them."""
        instead = self._good_city(connection, gate, wanted[0])
        composed = _composed([instead] if instead else wanted, plan, calls)
        number = self._admit(connection, gate, now, sum(map(len, composed)))
        if isinstance(number, Wait):
            return _not_now(number, now)
        chosen = [one for call in composed for one in call][:number]
        until = now + timedelta(seconds=self.terms.claim_s)
        composed = _composed(chosen, plan, calls)
        charge_id = quota.insert_charge(connection, self._account, self._consumer, number, now, until, len(composed))
        queue.claim(connection, [one.city_id for one in chosen], charge_id, until)
        turn = max(gate.turn, *(one.turn for one in chosen))
        changes = gates.spend(gate, now, number, plan, self.terms, self._span_s) | {"turn": turn}
        quota.change_gate(connection, self._account, changes)
        return Reservation(
            reserved_at=now,
            charge_id=charge_id,
            calls=tuple(tuple(one.city_id for one in call) for call in composed),
            plan=plan,
            gate_was_untroubled=gate.is_untroubled and not plan.probe,
        )

    def _close(self, connection: Connection, gate: Gate, now: datetime, doubts: Mapping[str, Any]) -> NotNow:
        """Close the gate: charges may be missing, or cannot be compared with this clock."""
        quota.change_gate_with_event(connection, now, gate, doubts)
        if "last_now" in doubts:  # after a step back: nothing that was reserved lasts longer
            ends_at = now + timedelta(seconds=self.terms.claim_s)
            quota.clip_charges(connection, self._account, ends_at)
            outbox.clip_moments(connection, now)
            queue.clip_moments(connection, self._account, now, ends_at)
            cities.clip_moments(connection, now)
        closed = _not_now(Wait(doubts["blocked_until"], doubts["state"]), now)
        moved = doubts["state"] == "failover" and gate.database_id
        return replace(closed, moved=(moved, doubts["database_id"])) if moved else closed


def _composed(cities: Sequence[Candidate], plan: Plan, calls: int) -> list[list[Candidate]]:
    """The cities as calls, as far as `calls` lanes go; up to 20 calls of one city share a lane.

    A city that failed before is requested alone.
    """
    if plan.probe:
        return [list(cities[:1])]
    if plan.endpoint == "single":
        return [[one] for one in cities[: calls * CALL_SIZE]]
    alone = [[one] for one in cities if one.attempts >= ALONE_AFTER][:CALL_SIZE]
    together = [one for one in cities if one.attempts < ALONE_AFTER]
    grouped = [list(together[start : start + CALL_SIZE]) for start in range(0, len(together), CALL_SIZE)]
    return [*alone, *grouped[: calls - bool(alone)]]


def _not_now(wait: Wait, now: datetime) -> NotNow:
    return NotNow(max(0.0, (wait.until - now).total_seconds()), wait.reason)
