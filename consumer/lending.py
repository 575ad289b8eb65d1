"""What consumers that wait for quota lend each other: cities that whoever is granted first may ask for, too.

They lie in tickets, as JSON: of each city its id, and some of those who want it as `[collection, batch, since]`.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from consumer.look import Candidate
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import Want

MOST_EACH: Final = 5
"""Of those who want a city, so many are told: for the others its owner copies what was fetched."""
MOST_WANTS: Final = 400
"""In one ticket: with the longest ids they still fit into a TEXT column of MySQL."""


def written(candidates: Iterable[Candidate]) -> str:
    """These of the candidates that may be lent, as far as a ticket has room."""
    offers, room = [], MOST_WANTS
    for candidate in candidates:
        if 0 < len(candidate.wants) <= room:
            room -= len(candidate.wants)
            wants = [[want.ref.collection_id, want.ref.batch, want.since.isoformat()] for want in candidate.wants]
            offers.append([candidate.city_id, wants])
    return json.dumps(offers, separators=(",", ":"))


def read(offers: str | None) -> list[Candidate]:
    """What a ticket lends; nothing, if a consumer of an older version wrote it."""
    return [] if offers is None else [_candidate(city_id, wants) for city_id, wants in json.loads(offers)]


def _candidate(city_id: int, given: Sequence[tuple[str, int, str]]) -> Candidate:
    wants = tuple(Want(BatchRef(name, batch), city_id, datetime.fromisoformat(since)) for name, batch, since in given)
    return Candidate(city_id, min(want.since for want in wants), wants[0].ref.collection_id, wants)


class Spurned:
    """Cities that were borrowed in vain: for a while their owners ask for them. Moments on one monotonic clock."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def add(self, city_ids: Iterable[int], until: float) -> None:
        """Borrow none of these before then."""
        self._until |= dict.fromkeys(city_ids, until)

    def at(self, now: float) -> frozenset[int]:
        """Those that are not to be borrowed now."""
        self._until = {city_id: until for city_id, until in self._until.items() if until > now}
        return frozenset(self._until)
