"""The producer's questions about the quota: how the account stands, and whether its promise was kept. Speaks no HTTP.

It reads what the ledger wrote, and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Connection

from producer.desk import Desk
from raingauge.pacing import Release, Terms, month_allows, next_month
from raingauge.proof import Charge, Worst, worst_window
from raingauge.storage.gate import Gate, charged, charges, find_gate

KEPT_FOR: Final = timedelta(days=1)
"""Consumers forget a charge that long after its release."""
RECENT: Final = timedelta(hours=1)
"""What the present rate is taken from."""
MOST_CHARGES: Final = 100_000
"""Replayed for one proof: a day of the free plan, city by city."""
PROOF_S: Final = 5.0
"""A long proof may take that much longer than other answers."""

Endpoint = Literal["group", "single", "unknown"]
Period = tuple[datetime, datetime]


class TooManyCharges(Exception):
    """There are more charges in that time than are replayed for one proof."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands at a moment of the database's."""

    now: datetime
    gate: Gate
    terms: Terms
    """Q, W and pacing as the gate has them, the month's as the settings have them."""
    held: int
    """Cities held by charges that are not released."""
    charges_open: int
    """Those of them that are not closed: no answer, or none yet."""
    next_release: Release | None
    recent: int
    """Cities charged in the last hour."""
    endpoint: Endpoint

    @property
    def free(self) -> int:
        """Cities that the window would admit."""
        return max(0, self.terms.cities_per_window - self.held)

    @property
    def spent(self) -> int:
        """Cities spent of the month."""
        return self.gate.spent(self.now)

    @property
    def month_allows(self) -> int:
        """Cities that the month allows at this moment."""
        return month_allows(self.now, self.spent, self.terms)

    @property
    def forecast(self) -> int:
        """Cities spent at the month's end, if each hour until then is like the last one."""
        return self.spent + round(self.recent * ((next_month(self.now) - self.now) / RECENT))


@dataclass(frozen=True, slots=True)
class Proof:
    """What the charges of a time say about the promise."""

    since: datetime
    until: datetime
    terms: Terms
    worst: Worst


class QuotaDesk:
    """Answers questions about one account's quota; None: no consumer has made its gate.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(self, desk: Desk, account: str, terms: Terms, endpoint: str) -> None:
        self._desk = desk
        self._account = account
        self._terms = terms
        self._endpoint = endpoint

    async def standing(self) -> Standing | None:
        """How the account stands."""

        def question(connection: Connection, read: datetime) -> Standing | None:
            gate = find_gate(connection, self._account)
            if gate is None:
                return None
            now = max(read, gate.last_now)  # as the ledger takes it
            unreleased = charges(connection, self._account, now, now, MOST_CHARGES)
            return Standing(
                now=now,
                gate=gate,
                terms=_terms_of(gate, self._terms),
                held=sum(charge.cost for charge in unreleased),
                charges_open=sum(charge.closed_at is None for charge in unreleased),
                next_release=_next_release(unreleased),
                recent=charged(connection, self._account, now - RECENT),
                endpoint=_endpoint_in_use(gate.endpoint, self._endpoint),
            )

        return await self._desk.ask(question)

    async def proof(self, period_of: Callable[[datetime], Period]) -> Proof | None:
        """The charges replayed; `period_of` says, given the database's time, from when to when.

        Raises:
            TooManyCharges: the time is too long for as many as there are.
        """

        # By itself and first, so that a database that is away is reported as soon as anywhere.
        begun = await self._desk.ask(lambda connection, now: (find_gate(connection, self._account), period_of(now)))
        gate, (since, until) = begun
        if gate is None:
            return None
        terms = _terms_of(gate, self._terms)
        window = timedelta(seconds=terms.window_s)
        # However early it was released: a charge's last call can have arrived D + T + M after its reservation.
        earliest = since - window - timedelta(seconds=terms.claim_s)

        def replayed(connection: Connection, _now: datetime) -> Proof:
            found = charges(connection, self._account, earliest, until + window, MOST_CHARGES + 1)
            if len(found) > MOST_CHARGES:
                raise TooManyCharges
            return Proof(since, until, terms, worst_window(found, terms, since, until))

        return await self._desk.ask(replayed, PROOF_S)


def _terms_of(gate: Gate, terms: Terms) -> Terms:
    """What holds: Q, W and pacing stand in the gate."""
    pacing: Literal["smooth", "burst"] = "burst" if gate.pacing == "burst" else "smooth"
    return replace(terms, cities_per_window=gate.cities_per_window, window_s=gate.window_s, pacing=pacing)


def _next_release(unreleased: Sequence[Charge]) -> Release | None:
    """The next moment at which something is released, and how many cities then."""
    moment = min((charge.release_at for charge in unreleased), default=None)
    if moment is None:
        return None
    return moment, sum(charge.cost for charge in unreleased if charge.release_at == moment)


def _endpoint_in_use(found: str, setting: str) -> Endpoint:
    """What consumers call: as set, or as they found out."""
    chosen = found if setting == "auto" else setting
    if chosen == "group":
        return "group"
    # A group endpoint that was refused leaves the single one, though nobody has had an answer from that yet.
    return "single" if chosen in {"single", "refused"} else "unknown"
