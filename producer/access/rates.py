"""How many requests a second a client may send: a token bucket in the memory of this producer."""

import math


class Bucket:
    """Fills at `rate` a second up to a second's worth, at least one request; each request takes one.

    https://en.wikipedia.org/wiki/Token_bucket
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._size = max(1.0, rate)
        self._level = self._size
        self._filled_at_s = -math.inf

    def take(self, now_s: float) -> int:
        """Take one request at this moment; return 0, or the whole seconds after which to try again."""
        self._level = min(self._size, self._level + (now_s - self._filled_at_s) * self.rate)
        self._filled_at_s = now_s
        if self._level >= 1:
            self._level -= 1
            return 0
        return math.ceil((1 - self._level) / self.rate)
