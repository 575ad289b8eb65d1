"""The quota ledger: reserves cities before they are asked for and closes the charge when the answers are in.

One row (the gate) per provider account orders all reservations of all consumers. The rule, its proof and its limits:
docs/quota.md. No worker's clock enters it. Blocking; every method raises DatabaseUnavailable when the database is away.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, insert, update
from sqlalchemy.exc import IntegrityError

from consumer.admission import Grant, LeftOut, NotNow, Over, allowed, left_out
from consumer.gate import EndpointSetting, Event, Plan, after, plan, spend
from consumer.look import Candidate, Look, look
from consumer.opening import differences, make_gate, reconcile
from consumer.turns import Line, Shares, forget_tickets
from raingauge.errors import GateMismatch
from raingauge.pacing import CALL_SIZE, Terms, Wait, month_of
from raingauge.storage.cities import claim
from raingauge.storage.database import Database
from raingauge.storage.gate import Gate, find_gate, ledger_time
from raingauge.storage.models import City, QuotaCharge, QuotaGate, UtcDateTime

CLOCK_STEP: Final = timedelta(seconds=2)
KEPT_FOR: Final = timedelta(days=1)
LATELY_WINDOWS: Final = 20
"""How far back collections are compared."""
OTHER_TERMS: Final = timedelta(minutes=1)
"""The terms were changed while this consumer runs (`quota adopt`): it must start again with the same settings."""

# Built once: these run for every call of the provider.
_NEW_CHARGE: Final = insert(QuotaCharge)
_RELEASE_AT: Final = bindparam("release", type_=UtcDateTime)
_CLOSE: Final = (
    update(QuotaCharge)
    .where(QuotaCharge.id.in_(bindparam("charges", expanding=True)), QuotaCharge.closed_at.is_(None))
    .values(
        release_at=case((QuotaCharge.release_at > _RELEASE_AT, _RELEASE_AT), else_=QuotaCharge.release_at),
        closed_at=bindparam("answered", type_=UtcDateTime),
    )
)
_SET: Final = update(QuotaGate).where(QuotaGate.account == bindparam("gate"))


Answer = Grant | NotNow | LeftOut | Over
"""What a reservation is answered."""


class Ledger:
    """The ledger of one account, as one consumer uses it."""

    def __init__(
        self, database: Database, account: str, terms: Terms, endpoint: EndpointSetting, consumer: str
    ) -> None:
        self._database = database
        self._account = account
        self._terms = terms
        self._endpoint = endpoint
        self._consumer = consumer
        self._shares = Shares(timedelta(seconds=LATELY_WINDOWS * terms.window_s))

    @property
    def terms(self) -> Terms:
        """What the account may spend."""
        return self._terms

    def open(self, *, change: bool = False) -> None:
        """Make the account's gate, or check that it was made with the same terms; `change` writes ours into it.

        Raises:
            GateMismatch: consumers of one account would pace by different terms.
        """
        try:
            self._database.write(lambda c: make_gate(c, self._account, self._terms, self._database.now(c)))
        except IntegrityError:
            self._database.write(lambda connection: self._check(connection, change))

    def reserve(self, candidates: Sequence[Candidate], *, together: bool, calls: int = 1) -> Answer:
        """Hold quota for as many of the candidates (at least one, in turn order) as may go now, and claim them.

        `together`: they may ride in group calls, where there are such, and in so many of them at most.
        """
        return self._database.write(lambda connection: self._reserve(connection, candidates, calls if together else 0))

    def now(self, connection: Connection) -> datetime:
        """The time as the ledger takes it."""
        return ledger_time(connection, self._database, self._account)

    def close(self, connection: Connection, grants: Sequence[Grant], answered: datetime) -> None:
        """Within the transaction that stores the answers: the charges are held one window longer, and no more.

        `answered`: the ledger's time, read after the answers were in.
        """
        release_at = answered + timedelta(seconds=self._terms.window_s)
        if self._database.dialect == "sqlite":
            release_at += timedelta(milliseconds=1)  # its clock has whole milliseconds: round up
        charges = [grant.charge_id for grant in grants]
        self._shares.answered(charges)
        connection.execute(_CLOSE, {"charges": charges, "release": release_at, "answered": answered})

    def report(self, grant: Grant, event: Event, retry_after_s: float | None = None) -> Mapping[str, Any]:
        """Tell the gate what became of a call; answer which of its columns changed."""

        def work(connection: Connection) -> Mapping[str, Any]:
            gate = self._locked(connection)
            now = self._database.now(connection)
            jitter = random.random()
            changes = after(gate, now, event, grant.call, self._endpoint, self._terms, retry_after_s, jitter)
            self._set(connection, changes)
            return changes

        return self._database.write(work)

    def prune(self) -> None:
        """Forget charges that were released long ago, and who waited then."""

        def work(connection: Connection) -> None:
            old = self._database.now(connection) - KEPT_FOR
            connection.execute(
                delete(QuotaCharge).where(QuotaCharge.account == self._account, QuotaCharge.release_at < old)
            )
            forget_tickets(connection, old)

        self._database.write(work)

    def set_month(self, spent: int) -> None:
        """Say how many cities of this month are spent already, by whatever program."""

        def work(connection: Connection) -> None:
            gate = self._locked(connection)
            month = month_of(self._database.now(connection))
            carried = gate.next_month_spent if gate.month == month else 0
            self._set(connection, {"month": month, "month_spent": spent, "next_month_spent": carried})

        self._database.write(work)

    def shut(self) -> None:
        """Close the gate for the longest hold: after a database was restored without its last commits."""

        def work(connection: Connection) -> None:
            self._locked(connection)
            until = self._database.now(connection) + timedelta(seconds=self._terms.worst_hold_s)
            self._set(connection, {"state": "database", "blocked_until": until})

        self._database.write(work)

    def _check(self, connection: Connection, change: bool) -> None:
        changes = reconcile(self._locked(connection), self._terms, self._database.now(connection), change=change)
        self._set(connection, changes)

    # -- reserving -----------------------------------------------------------------------------------------------

    def _reserve(self, connection: Connection, candidates: Sequence[Candidate], calls: int) -> Answer:
        gate = self._locked(connection)
        found = look(connection, self._database, gate, self._consumer, candidates)
        if found.read_at < gate.last_now - CLOCK_STEP:
            return self._clock_stepped_back(connection, gate, found.read_at)
        now = found.now
        if differences(gate, self._terms):
            return _not_now(Wait(now + OTHER_TERMS, "terms"), now)
        planned = plan(gate, now, self._endpoint, self._terms)
        if isinstance(planned, Wait):
            return _not_now(planned, now)
        line = Line(connection, self._consumer, self._terms, found, candidates, self._shares)
        if line.over:
            return Over(line.over)
        together = calls > 0 and planned.endpoint == "group"
        # A probe takes whose turn it is here: with the city that had least it could fail for that city for ever.
        most = self._most(calls if together else 0)
        wanted = candidates[:1] if planned.probe else line.in_turn(candidates)[:most]
        answer = self._choose(connection, gate, found, wanted, most, line)
        if not isinstance(answer, int):
            return answer
        line.leave(connection)
        return self._grant(connection, gate, now, wanted[:answer], planned, together)

    def _choose(
        self, connection: Connection, gate: Gate, found: Look, wanted: Sequence[Candidate], most: int, line: Line
    ) -> int | NotNow | LeftOut:
        """How many of these may go now, if it is this consumer's turn."""
        now, want = found.now, len(wanted)
        number = allowed(connection, gate, now, held_then=found.held, want=want, full=most, terms=self._terms)
        if isinstance(number, Wait):
            if number.reason == "pace":
                line.stand(connection, self._account, number.until)
            return _not_now(number, now)
        if (without_call := left_out(wanted[:number], found.cities, now)) is not None:
            return without_call
        if (again := line.wait_for_others()) is not None:
            line.stand(connection, self._account, again)
            return _not_now(Wait(again, "turn"), now)
        return number

    def _grant(
        self, connection: Connection, gate: Gate, now: datetime, chosen: Sequence[Candidate], call: Plan, together: bool
    ) -> Grant:
        charge_id = self._charge(connection, gate, now, len(chosen), call)
        city_ids = tuple(candidate.city_id for candidate in chosen)
        until = now + timedelta(seconds=self._terms.claim_s)
        claim(connection, city_ids, self._consumer, until)
        self._shares.asked(charge_id, chosen, until)
        clean = gate.state == "open" and gate.strikes == 0 and not call.probe
        return Grant(charge_id, now, city_ids, call, together, clean)

    def _most(self, group_calls: int) -> int:
        """Cities in so many group calls, or of those that are asked for one by one together."""
        return CALL_SIZE * group_calls if group_calls else self._terms.singles_at_once

    def _charge(self, connection: Connection, gate: Gate, now: datetime, cost: int, call: Plan) -> int:
        terms = self._terms
        values = {
            "account": self._account,
            "cost": cost,
            "reserved_at": now,
            "release_at": now + timedelta(seconds=terms.worst_hold_s),
            "consumer": self._consumer,
        }
        key: Any = connection.execute(_NEW_CHARGE, values).inserted_primary_key
        self._set(connection, spend(gate, now, cost, call, terms))
        return int(key[0])

    def _clock_stepped_back(self, connection: Connection, gate: Gate, now: datetime) -> NotNow:
        """By then all that was reserved has been answered or given up: nothing of it lasts longer."""
        until = now + timedelta(seconds=self._terms.worst_hold_s)
        changes = {"last_now": now, "next_start_at": now, "probe_until": min(gate.probe_until, until)}
        self._set(connection, changes | {"state": "database", "blocked_until": until})
        late = (QuotaCharge.account == self._account, QuotaCharge.release_at > until)
        connection.execute(update(QuotaCharge).where(*late).values(release_at=until))
        connection.execute(update(City).where(City.claimed_until > until).values(claimed_until=until))
        return NotNow(self._terms.worst_hold_s, "database")

    def _locked(self, connection: Connection) -> Gate:
        gate = find_gate(connection, self._account, lock=True)
        if gate is None:
            raise GateMismatch(f"the gate of account {self._account} does not exist: start a consumer first")
        return gate

    def _set(self, connection: Connection, changes: Mapping[str, Any]) -> None:
        if changes:
            connection.execute(_SET, {"gate": self._account, **changes})


def _not_now(wait: Wait, now: datetime) -> NotNow:
    return NotNow(max(0.0, (wait.until - now).total_seconds()), wait.reason)
