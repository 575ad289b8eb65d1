"""Which cities a reservation is to choose from: whose turn it is, and what tells whether failing ones are to blame."""

from collections.abc import Sequence
from typing import Final

from consumer.lending import MOST_EACH
from consumer.look import Candidate
from consumer.means import Means
from consumer.patience import Patience
from consumer.pool import Pool, Turn
from raingauge.pacing import CALL_SIZE
from raingauge.storage.wanted import Want

CHOICE: Final = 3
"""A reservation may choose from so many times the cities that it can be granted, and from so many newcomers:"""
MOST_NEW: Final = 200


class Offers:
    """Takes cities out of the pool for a reservation."""

    def __init__(self, pool: Pool, means: Means, patience: Patience) -> None:
        self._pool = pool
        self._means = means
        self._patience = patience

    def take(self, calls: int) -> tuple[list[Turn], bool]:
        """Cities, and whether they may ride in group calls: more than go, if who had less can be given more."""
        most = (CHOICE if self._pool.shared else 1) * calls * CALL_SIZE
        turns, together = self._pool.take(most)
        if not together and self._all_suspects(turns):
            # Any other's answer tells whether they are to blame; without one they would be asked for for ever.
            others, _ = self._pool.take(most, alone=False)
            if others:
                self._pool.give_back(turns)
                turns, together = others, True
        turns += self._pool.take_new(MOST_NEW) if together else []
        if any(self._patience.suspects(turn.city_id) for turn in turns):
            self._pool.give_back(turns[CALL_SIZE:])  # which of them go must be known: see `good_city`
            turns = turns[:CALL_SIZE]
        return turns, together

    def candidates(self, turns: Sequence[Turn], *, may_be_lent: bool) -> list[Candidate]:
        """These for a reservation. Where quota is scarce, other consumers learn who wants them."""
        lends = may_be_lent and self._means.ledger.terms.calls_at_once == 1
        return [
            Candidate(turn.city_id, turn.since, turn.collection_id, self._wants(turn) if lends else ())
            for turn in turns
        ]

    def _wants(self, turn: Turn) -> tuple[Want, ...]:
        """Who wants it, the one whose turn it is first; nobody, if it must be asked for here."""
        if turn.city_id in self._patience.failing:
            return ()
        return self._pool.some_wants(turn.city_id, turn.collection_id, MOST_EACH)

    async def good_city(self, turns: Sequence[Turn]) -> int | None:
        """A city to ask for instead, when all of these are suspects; None when they are not, or none is known."""
        if not self._all_suspects(turns):
            return None
        if self._patience.good is None:
            self._patience.good = await self._means.persist(self._means.store.good_city)
        good = self._patience.good
        return None if good is None or self._pool.wants([good]) else good

    def _all_suspects(self, turns: Sequence[Turn]) -> bool:
        return all(self._patience.suspects(turn.city_id) for turn in turns)
