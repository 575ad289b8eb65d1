"""How large a run is: a full one, or a quick one whose figures are rough."""

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """What every scenario is given."""

    quick: bool

    def of(self, full: T, quick: T) -> T:
        """One of the two."""
        return quick if self.quick else full
