"""What the handlers work with. A handler names what it needs as a parameter: `collections: CollectionsDep`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from producer.access.admission import Admission
from producer.api.collections.acceptance import Acceptance
from producer.collections import Collections
from producer.events import Events
from producer.exports.exporting import Exports
from producer.live import Live
from producer.quota import QuotaReports
from producer.readings import Readings
from producer.retention import Retention
from producer.schedules.registry import Schedules
from raingauge.clock import Clock
from raingauge.observability.instrumentation import Instrumentation
from raingauge.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What one application works with; it is in `api.state.parts`."""

    settings: Settings
    observed: Instrumentation
    clock: Clock
    admission: Admission
    collections: Collections
    acceptance: Acceptance
    exports: Exports
    readings: Readings
    events: Events
    schedules: Schedules
    quota: QuotaReports
    live: Live
    retention: Retention


def parts_of(request: Request) -> ApiParts:
    """For handlers that are called most: FastAPI takes 20 µs to resolve a dependency, a tenth of the time of a GET."""
    parts: ApiParts = request.app.state.parts
    return parts


def _part(choose: Callable[[ApiParts], Any]) -> Any:
    async def part(request: Request) -> Any:  # async, or FastAPI would call it in a thread
        return choose(parts_of(request))

    return Depends(part)


SettingsDep = Annotated[Settings, _part(lambda parts: parts.settings)]
ClockDep = Annotated[Clock, _part(lambda parts: parts.clock)]
AdmissionDep = Annotated[Admission, _part(lambda parts: parts.admission)]
CollectionsDep = Annotated[Collections, _part(lambda parts: parts.collections)]
AcceptanceDep = Annotated[Acceptance, _part(lambda parts: parts.acceptance)]
ExportsDep = Annotated[Exports, _part(lambda parts: parts.exports)]
ReadingsDep = Annotated[Readings, _part(lambda parts: parts.readings)]
EventsDep = Annotated[Events, _part(lambda parts: parts.events)]
SchedulesDep = Annotated[Schedules, _part(lambda parts: parts.schedules)]
QuotaDep = Annotated[QuotaReports, _part(lambda parts: parts.quota)]
LiveDep = Annotated[Live, _part(lambda parts: parts.live)]
RetentionDep = Annotated[Retention, _part(lambda parts: parts.retention)]
