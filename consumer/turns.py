"""Whose turn it is: in a call, who had least lately; between consumers, who waits longest, then the oldest ticket.

Consumers that wait for the same moment all come at once, and the one nearest to the database would always win. So
whoever is refused leaves a ticket; a grant goes to the first in line, as long as it comes within `TURN` of its moment.
To be called under the gate's lock.
"""

import heapq
import json
import threading
from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, delete

from consumer.admission import is_left_out
from consumer.lending import read, written
from consumer.look import Candidate, Look, Open, Ticket, open_ones
from raingauge.pacing import FIRST_FEW, HEAD_START, Terms
from raingauge.storage.message import Statement
from raingauge.storage.models import QuotaTicket
from raingauge.storage.rows import upsert

TURN: Final = timedelta(seconds=0.25)
"""How long a grant waits for the first in line. Longer than some round trips to a far database."""
RECHECK: Final = timedelta(milliseconds=25)
"""How soon one who let another go first looks whether it has gone."""

_LEAVE: Final = delete(QuotaTicket).where(QuotaTicket.id == bindparam("consumer"))


class Shares:
    """How many cities the open collections had lately, over all consumers, as one of them sees it in its reservations.

    A new one begins with as many as the least of the others, so nobody has to make up for its whole past; but its first
    few cities are a gift. What this consumer asks for counts as had, whatever becomes of it. Thread-safe.
    """

    def __init__(self, lately: timedelta) -> None:
        self._lately = lately
        self._begin = datetime.min.replace(tzinfo=UTC)
        self._met: dict[str, tuple[int, int]] = {}
        self._least = 0
        self._tried: Counter[str] = Counter()
        self._lock = threading.Lock()

    def tried(self, asked: Counter[str]) -> None:
        """So many cities of these are being asked for by this consumer."""
        with self._lock:
            self._tried += asked

    def of(
        self, settled: Mapping[str, int], under_way: Counter[str], now: datetime
    ) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """What these had, whose settled cities are given; and how many of their first few cities are left.

        `under_way`: cities in calls, whoever makes them.
        """
        with self._lock:
            if now - self._begin > self._lately:
                self._begin, self._met, self._least, self._tried = now, {}, 0, Counter()
            had = Counter(settled) + under_way
            first = {name: max(0, FIRST_FEW - max(had[name], self._tried[name])) for name in settled}
            shares = {name: self._share(name, had[name]) for name in settled if name in self._met}
            self._least = min((share + first[name] for name, share in shares.items()), default=self._least)
            for name in settled.keys() - shares.keys():
                shares[name] = self._least - first[name]
                self._met[name] = had[name] - self._tried[name], shares[name]
            return shares, first

    def _share(self, name: str, had: int) -> int:
        """What it began with, and has had since it was met."""
        then, share = self._met[name]
        return share + max(had - then, self._tried[name])


class Line:
    """The open collections and the waiting consumers, as one attempt to reserve finds them."""

    def __init__(
        self,
        connection: Connection,
        consumer: str,
        terms: Terms,
        found: Look,
        candidates: Sequence[Candidate],
        shares: Shares,
    ) -> None:
        self._consumer = consumer
        self._terms = terms
        self._now = found.now
        self._candidates = [one for one in candidates if not is_left_out(one, found.cities, found.claimed, found.now)]
        tickets = [ticket for ticket in found.tickets if ticket.due_at >= found.now - TURN]
        self._own = next((ticket for ticket in tickets if ticket.consumer == consumer), None)
        self._others = [ticket for ticket in tickets if ticket.consumer != consumer]
        self._asked = {candidate.collection_id for candidate in candidates if candidate.collection_id is not None}
        others = set[str]().union(*(ticket.collection_ids for ticket in self._others)) - self._asked
        known = {**found.collections, **open_ones(connection, sorted(others))}
        self._late: set[str] = set()
        self._open = self._waiting(known)
        settled = {name: one.settled for name, one in known.items()}
        self._had, self._first = shares.of(settled, _under_way(found), found.now)
        self.over = frozenset(self._asked - known.keys())
        """Collections asked for that are done or cancelled: nothing is to be spent for them."""

    def in_turn(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates: the first few of who waits long, the longest first; then the next of who had least."""
        queues: dict[str, deque[Candidate]] = {}
        for candidate in candidates:
            queues.setdefault(candidate.collection_id or "", deque()).append(candidate)
        if len(queues) == 1:
            return list(candidates)
        few = {**self._first, **dict.fromkeys(self._late, FIRST_FEW)}
        heap = [self._turn(name, 0, few) for name in queues]
        heapq.heapify(heap)
        ordered: list[Candidate] = []
        while heap:
            *_, more, name = heap[0]
            ordered.append(queues[name].popleft())
            if queues[name]:
                heapq.heapreplace(heap, self._turn(name, more + 1, few))
            else:
                heapq.heappop(heap)
        return ordered

    def _turn(self, name: str, more: int, few: Mapping[str, int]) -> tuple[bool, float, float, int, str]:
        """When it is a collection's turn, the lowest first, after it had so many more. A `few` go before all others."""
        since = self._open.get(name, self._now).timestamp()
        if more < few.get(name, 0):
            return False, since, 0.0, more, name
        return True, self._had.get(name, 0) + more, since, more, name

    def lent(self, avoid: Container[int]) -> list[Candidate]:
        """Cities of open collections that others in line lend; none that stands to be avoided, or that is asked for."""
        asked = {candidate.city_id for candidate in self._candidates}
        offers = (offer for ticket in self._others for offer in read(ticket.offers))
        found = {offer.city_id: offer for offer in offers if offer.collection_id in self._open}
        return [offer for city_id, offer in found.items() if city_id not in asked and city_id not in avoid]

    def wait_for_others(self) -> datetime | None:
        """When to come again, because somebody else is first in line; None when nobody is."""
        mine = (self._waiting_since(self._asked), self._taken_at, self._consumer)
        soon = self._now + timedelta(seconds=self._terms.gather_s)
        first = not any(self._key(ticket) < mine for ticket in self._others if ticket.due_at <= soon)
        return None if first else self._now + RECHECK

    def stand(self, connection: Connection, account: str, due_at: datetime) -> None:
        """Leave a ticket: this consumer was refused, and comes again then."""
        columns = ("collection_ids", "taken_at", "due_at", "offers")
        row = (json.dumps(sorted(self._asked)), self._taken_at, due_at, written(self._candidates))
        upsert(connection, QuotaTicket, ("id", "account", *columns), [(self._consumer, account, *row)], columns)

    @property
    def leaving(self) -> Sequence[Statement]:
        """What is to be said when this consumer gets a grant: it goes to the end of the line."""
        return [] if self._own is None else [(_LEAVE, {"consumer": self._consumer})]

    @property
    def _taken_at(self) -> datetime:
        return self._now if self._own is None else self._own.taken_at

    def _key(self, ticket: Ticket) -> tuple[datetime, datetime, str]:
        return (self._waiting_since(ticket.collection_ids), ticket.taken_at, ticket.consumer)

    def _waiting_since(self, collection_ids: Iterable[str]) -> datetime:
        """Of the one that waits longest."""
        return min((self._open[name] for name in collection_ids if name in self._open), default=self._now)

    def _waiting(self, known: Mapping[str, Open]) -> Mapping[str, datetime]:
        """Since when each of these waits. What has not had its first few is ahead of the others."""
        head_start = timedelta(seconds=HEAD_START * self._terms.window_s)
        since = {name: one.last_progress_at or one.requested_at for name, one in known.items()}
        newcomers = {name: one for name, one in known.items() if one.settled < FIRST_FEW}
        self._late = {name for name in since.keys() - newcomers if since[name] <= self._now - head_start}
        return since | {name: one.requested_at - head_start for name, one in newcomers.items()}


def _under_way(found: Look) -> Counter[str]:
    """Cities in calls, of each collection."""
    total = Counter[str]()
    for call in found.under_way:
        total.update(call.asked)
    return total


def forget_tickets(connection: Connection, due_before: datetime) -> None:
    """Tickets of consumers that never came again."""
    connection.execute(delete(QuotaTicket).where(QuotaTicket.due_at < due_before))
