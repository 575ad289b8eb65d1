"""Whose turn it is: between collections, who waits longest for progress; between consumers of one, the oldest ticket.

Consumers that wait for the same moment all come at once, and the one nearest to the database would always win. So
whoever is refused leaves a ticket; a grant goes to the first in line, as long as it comes within `TURN` of its moment.
To be called under the gate's lock.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from consumer.admission import Candidate
from raingauge.pacing import Terms
from raingauge.storage.database import upsert
from raingauge.storage.models import Collection, QuotaTicket, UtcDateTime

TURN: Final = timedelta(seconds=0.25)
"""How long a grant waits for the first in line. Longer than some round trips to a far database."""
RECHECK: Final = timedelta(milliseconds=25)
"""How soon one who let another go first looks whether it has gone."""

# Built once: these run for every call of the provider.
_TICKETS: Final = select(QuotaTicket.id, QuotaTicket.collection_ids, QuotaTicket.taken_at, QuotaTicket.due_at).where(
    QuotaTicket.account == bindparam("gate"), QuotaTicket.due_at >= bindparam("oldest", type_=UtcDateTime)
)
_OPEN: Final = select(Collection.id, Collection.requested_at, Collection.last_progress_at).where(
    Collection.id.in_(bindparam("ids", expanding=True)), Collection.finished_at.is_(None)
)
_LEAVE: Final = delete(QuotaTicket).where(QuotaTicket.id == bindparam("consumer"))


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A consumer that waits."""

    consumer: str
    collection_ids: tuple[str, ...]
    """Those that it asked for."""
    taken_at: datetime
    due_at: datetime
    """When it comes again."""


class Line:
    """The open collections and the waiting consumers, as one attempt to reserve finds them."""

    def __init__(
        self,
        connection: Connection,
        account: str,
        consumer: str,
        terms: Terms,
        now: datetime,
        candidates: Sequence[Candidate],
    ) -> None:
        self._connection = connection
        self._account = account
        self._consumer = consumer
        self._terms = terms
        self._now = now
        rows = connection.execute(_TICKETS, {"gate": account, "oldest": now - TURN}).all()
        tickets = [_Ticket(row[0], tuple(json.loads(row[1])), row[2], row[3]) for row in rows]
        self._own = next((ticket for ticket in tickets if ticket.consumer == consumer), None)
        self._others = [ticket for ticket in tickets if ticket.consumer != consumer]
        self._asked = {candidate.collection_id for candidate in candidates if candidate.collection_id is not None}
        self._open = self._read(self._asked.union(*(ticket.collection_ids for ticket in self._others)))
        self.over = frozenset(self._asked - self._open.keys())
        """Collections asked for that are done or cancelled: nothing is to be spent for them."""

    def in_turn(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates, those of collections that wait longest first; as they stood within a collection."""
        return sorted(candidates, key=lambda candidate: self._open.get(candidate.collection_id or "", self._now))

    def wait_for_others(self) -> datetime | None:
        """When to come again, because somebody else is first in line; None when nobody is."""
        mine = (self._waiting_since(self._asked), self._taken_at, self._consumer)
        soon = self._now + timedelta(seconds=self._terms.gather_s)
        first = not any(self._key(ticket) < mine for ticket in self._others if ticket.due_at <= soon)
        return None if first else self._now + RECHECK

    def stand(self, due_at: datetime) -> None:
        """Leave a ticket: this consumer was refused, and comes again then."""
        row = {
            "id": self._consumer,
            "account": self._account,
            "collection_ids": json.dumps(sorted(self._asked)),
            "taken_at": self._taken_at,
            "due_at": due_at,
        }
        upsert(self._connection, QuotaTicket, [row], ("collection_ids", "taken_at", "due_at"))

    def leave(self) -> None:
        """This consumer got a grant: it goes to the end of the line."""
        if self._own is not None:
            self._connection.execute(_LEAVE, {"consumer": self._consumer})

    @property
    def _taken_at(self) -> datetime:
        return self._now if self._own is None else self._own.taken_at

    def _key(self, ticket: _Ticket) -> tuple[datetime, datetime, str]:
        return (self._waiting_since(ticket.collection_ids), ticket.taken_at, ticket.consumer)

    def _waiting_since(self, collection_ids: Iterable[str]) -> datetime:
        """Of the one that waits longest."""
        return min((self._open[name] for name in collection_ids if name in self._open), default=self._now)

    def _read(self, ids: Iterable[str]) -> Mapping[str, datetime]:
        """Since when each of the open ones of these waits. What never had progress is a window ahead of the others."""
        ahead = timedelta(seconds=self._terms.window_s)
        rows = self._connection.execute(_OPEN, {"ids": list(ids)})
        return {row.id: row.last_progress_at or row.requested_at - ahead for row in rows}


def forget_tickets(connection: Connection, due_before: datetime) -> None:
    """Tickets of consumers that never came again."""
    connection.execute(delete(QuotaTicket).where(QuotaTicket.due_at < due_before))
