"""Names that resemble a misspelt one. Only the command imports it: the producer does without rapidfuzz."""

from collections.abc import Sequence
from typing import Final

from rapidfuzz import fuzz, process

MOST: Final = 3
LEAST_SCORE: Final = 75
"""Of 100, which identical names have."""


def similar_names(name: str, names: Sequence[str]) -> list[str]:
    """Up to three of the folded names that resemble this one, the most similar first."""
    return [found[0] for found in process.extract(name, names, scorer=fuzz.ratio, limit=MOST, score_cutoff=LEAST_SCORE)]
