"""What a process is observed by, put together in its composition root. It must not measure anything itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from raingauge.clock import SystemClock
from raingauge.observability.health import Facts
from raingauge.observability.metrics import Telemetry
from raingauge.observability.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """Metrics, traces and health of a process; by default nothing leaves the process."""

    telemetry: Telemetry = field(default_factory=lambda: Telemetry(SystemClock()))
    tracing: Tracing = field(default_factory=Tracing)
    facts: Sequence[Facts] = ()
    """What its parts report in health."""
