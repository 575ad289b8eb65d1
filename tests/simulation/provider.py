"""The provider's stand-in: answers as OpenWeather does, loses calls, refuses at times, and witnesses every arrival."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.errors import ProviderUnavailable
from raingauge.model import Observation
from raingauge.quota.pacing import MARGIN_S
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.virtual import EPOCH, VirtualClock
from tests.support.windows import most_in_any_window

T = TypeVar("T")


class Witness:
    """Every arrival at the provider: its moment and how many cities it counts."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, int]] = []
        self.under_way: Counter[int] = Counter()
        """Cities in group calls that are not answered yet."""
        self.fetched_at_once: set[int] = set()

    def most_in_any_window(self, window_s: float) -> int:
        """The most cities that ever arrived in one half-open window."""
        return most_in_any_window(self.arrivals, window_s)


class Line:
    """The provider as one process reaches it."""

    def __init__(self, plan: Plan, clock: VirtualClock, process: Process, witness: Witness) -> None:
        self._plan = plan
        self._clock = clock
        self._process = process
        self._witness = witness
        self._cities: tuple[int, ...] = ()

    async def run(self, call: Callable[[], T], /) -> T:
        """The seam for calls: delays before the send and after it."""
        await self._clock.sleep(self._plan.pause_before_send())
        self._process.check()
        self._cities = ()
        try:
            reply = call()
        except ProviderUnavailable:
            await self._clock.sleep(self._plan.terms.timeout_s)
            raise
        cities: tuple[int, ...] = self._cities
        self._witness.under_way.update(cities)
        self._witness.fetched_at_once |= {c for c in cities if self._witness.under_way[c] > 1}
        try:
            await self._clock.sleep(self._plan.latency())
        finally:
            self._witness.under_way.subtract(cities)
        return reply

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """As the port says."""
        assert len(set(city_ids)) == len(city_ids) <= 20
        self._cities = tuple(city_ids) if len(city_ids) > 1 else ()
        refusal = self._arrive(len(city_ids), send_by)
        if refusal is not None:
            return refusal
        if self._plan.group_mode == "removed":
            return Refusal(Reason.KEY, "Invalid API key")
        if self._plan.hopeless & set(city_ids):
            raise ProviderUnavailable("500")
        unknown = self._plan.unknown & set(city_ids)
        if unknown and self._plan.group_mode == "strict" and len(city_ids) > 1:
            return Refusal(Reason.CITIES, "city not found")
        return Weather({city: self._observation(city) for city in city_ids if city not in unknown}, unknown)

    def single(self, city_id: int, send_by: float) -> Reply:
        """As the port says."""
        refusal = self._arrive(1, send_by)
        if refusal is not None:
            return refusal
        if city_id in self._plan.hopeless:
            raise ProviderUnavailable("500")
        if city_id in self._plan.unknown:
            return Weather({}, frozenset({city_id}))
        return Weather({city_id: self._observation(city_id)})

    def _arrive(self, cost: int, send_by: float) -> Refusal | None:
        now = self._clock.monotonic()
        if now > send_by:
            raise ProviderUnavailable("too late to send")
        refused = self._plan.refusal()
        if self._plan.call_lost() or refused == "silent":
            # It may still arrive: at any moment until the margin after the timeout is over.
            late = self._plan.chance.uniform(0, self._plan.terms.timeout_s + MARGIN_S)
            asyncio.get_running_loop().call_later(late, self._count, cost)
            raise ProviderUnavailable("timeout")
        self._count(cost)
        if refused == "quota":
            return Refusal(Reason.QUOTA, "temporary blocked", self._plan.chance.choice([None, 3.0]))
        return Refusal(Reason.KEY, "Invalid API key") if refused == "key" else None

    def _count(self, cost: int) -> None:
        self._witness.arrivals.append((self._clock.monotonic(), cost))

    def _observation(self, city_id: int) -> Observation:
        now = self._clock.now()
        observed_at = EPOCH + (now - EPOCH) // timedelta(minutes=10) * timedelta(minutes=10)
        return Observation(city_id, f"City {city_id}", "UY", -33.0, -56.0, observed_at, city_id % 40 / 2, 50)
