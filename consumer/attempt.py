"""One attempt to get quota: lock the gate, look, decide, then charge and claim. It is a part of one transaction.

What is decided lies elsewhere: `consumer.gate` and `consumer.admission` say whether and how much, `consumer.turns` who.
"""

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, insert, update

from consumer.account import Account
from consumer.admission import Grant, LeftOut, NotNow, Over, allowed, is_left_out, left_out
from consumer.gate import Plan, is_untroubled, plan, spend
from consumer.look import Candidate, known_cities, look
from consumer.opening import differences
from consumer.turns import TURN, Line, Shares
from raingauge.pacing import CALL_SIZE, Wait
from raingauge.storage.message import Statement, finish
from raingauge.storage.models import QuotaCharge

CLOCK_STEP: Final = timedelta(seconds=2)
OTHER_TERMS: Final = timedelta(minutes=1)
"""The terms were changed while this consumer runs (`quota adopt`): it must start again with the same settings."""

# Built once: it runs for every call of the provider.
_NEW_CHARGE: Final = insert(QuotaCharge)

Answer = Grant | NotNow | LeftOut | Over
"""What a reservation is answered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a consumer asks for."""

    candidates: Sequence[Candidate]
    calls: int
    """Group calls that they may ride in; 0: they go one by one."""
    avoid: Container[int]
    """Cities that it does not take from others."""


class Attempt:
    """A reservation under way; the gate is locked as long as it is."""

    def __init__(self, connection: Connection, account: Account, shares: Shares, asked: Asked) -> None:
        self._connection = connection
        self._account = account
        self._terms = account.terms
        self._shares = shares
        self._asked = asked
        self._found = look(connection, account, asked.candidates, patience=TURN)
        self._gate = self._found.gate
        self._now = self._found.now

    def answer(self) -> Answer:
        """Reserve what may go now, or say why nothing does."""
        if self._found.read_at < self._gate.last_now - CLOCK_STEP:
            return self._clock_stepped_back(self._found.read_at)
        if differences(self._gate, self._terms):
            return self._not_now(Wait(self._now + OTHER_TERMS, "terms"))
        planned = plan(self._gate, self._now, self._account.endpoint, self._terms)
        if isinstance(planned, Wait):
            return self._not_now(planned)
        candidates, consumer = self._asked.candidates, self._account.consumer
        line = Line(self._connection, consumer, self._terms, self._found, candidates, self._shares)
        return Over(line.over) if line.over else self._in_line(line, planned)

    def _in_line(self, line: Line, planned: Plan) -> Answer:
        together = self._asked.calls > 0 and planned.endpoint == "group"
        most = CALL_SIZE * self._asked.calls if together else self._terms.singles_at_once
        if planned.probe:
            # It takes whose turn it is here: with the city that had least it could fail for that city for ever.
            wanted = list(self._asked.candidates[:1])
        else:
            wanted = line.in_turn([*self._asked.candidates, *self._lent(line)])[:most]
        answer = self._admitted(line, wanted, most)
        if not isinstance(answer, int):
            return answer
        return self._grant(wanted[:answer], planned, line.leaving, together=together)

    def _lent(self, line: Line) -> Sequence[Candidate]:
        """What others lend, while all goes well: when calls fail, everybody must learn of its own cities."""
        if not self._asked.calls or not is_untroubled(self._gate):
            return []
        lent = line.lent(self._asked.avoid)
        claimed = self._found.claimed | self._found.claimed_here
        known = known_cities(self._connection, lent)
        return [candidate for candidate in lent if not is_left_out(candidate, known, claimed, self._now)]

    def _admitted(self, line: Line, wanted: Sequence[Candidate], most: int) -> int | NotNow | LeftOut:
        """How many of these may go now, if it is this consumer's turn."""
        held, want = self._found.held, len(wanted)
        number = allowed(
            self._connection, self._gate, self._now, held_then=held, want=want, full=most, terms=self._terms
        )
        if isinstance(number, Wait):
            if number.reason == "pace":
                line.stand(self._connection, self._account.name, number.until)
            return self._not_now(number)
        without_call = left_out(wanted[:number], self._asked.candidates, self._found)
        if without_call is not None:
            return without_call
        if (again := line.wait_for_others()) is not None:
            line.stand(self._connection, self._account.name, again)
            return self._not_now(Wait(again, "turn"))
        return number

    def _grant(self, chosen: Sequence[Candidate], call: Plan, leaving: Sequence[Statement], *, together: bool) -> Grant:
        asked = Counter(candidate.collection_id for candidate in chosen if candidate.collection_id is not None)
        city_ids = tuple(candidate.city_id for candidate in chosen)
        changes = spend(self._gate, self._now, len(chosen), call, self._terms)
        charging = self._charging(city_ids, asked)
        charged, *_ = finish(self._connection, [charging, self._account.changing(changes), *leaving])
        self._shares.tried(asked)
        clean = is_untroubled(self._gate) and not call.probe
        own = {candidate.city_id for candidate in self._asked.candidates}
        lent = tuple(want for one in chosen if one.city_id not in own for want in one.wants)
        return Grant(charged.key, self._now, city_ids, call, together, clean, lent)

    def _charging(self, city_ids: Sequence[int], asked: Mapping[str, int]) -> Statement:
        return _NEW_CHARGE, {
            "account": self._account.name,
            "cost": len(city_ids),
            "reserved_at": self._now,
            "release_at": self._now + timedelta(seconds=self._terms.worst_hold_s),
            "consumer": self._account.consumer,
            "asked": json.dumps(asked),
            "cities": json.dumps(city_ids),
        }

    def _clock_stepped_back(self, now: datetime) -> NotNow:
        """By then all that was reserved has been answered or given up: nothing of it lasts longer."""
        until = now + timedelta(seconds=self._terms.worst_hold_s)
        changes = {"last_now": now, "next_start_at": now, "probe_until": min(self._gate.probe_until, until)}
        self._account.change(self._connection, changes | {"state": "database", "blocked_until": until})
        late = (QuotaCharge.account == self._account.name, QuotaCharge.release_at > until)
        self._connection.execute(update(QuotaCharge).where(*late).values(release_at=until))
        return NotNow(self._terms.worst_hold_s, "database")

    def _not_now(self, wait: Wait) -> NotNow:
        return NotNow(max(0.0, (wait.until - self._now).total_seconds()), wait.reason)
