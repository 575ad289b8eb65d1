"""The metrics that the two services export, by the objects that their composition roots make; and those of a scrape."""

from types import SimpleNamespace
from typing import Any, Final, cast

from prometheus_client.parser import text_string_to_metric_families

from consumer.metrics import ConsumerMetrics
from producer.metrics import ProducerMetrics
from raingauge.clock import SystemClock
from raingauge.observability.metrics import Telemetry

SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def exported(service: str) -> dict[str, set[str]]:
    """Raingauge's own metrics of a producer or consumer: by the name in the documents, the names of the samples."""
    telemetry = Telemetry(SystemClock())
    if service == "producer":
        ProducerMetrics(telemetry, cast("Any", SimpleNamespace(pending=0)), cast("Any", None))
    else:
        ConsumerMetrics(telemetry)
    families = [family for family in telemetry.registry.collect() if family.name.startswith("raingauge_")]
    return {
        family.name + ("_total" if family.type == "counter" else ""): {family.name + s for s in SUFFIXES[family.type]}
        for family in families
    }


def samples(text: str) -> dict[str, float]:
    """The samples of a scrape by name and labels, for example `raingauge_gate_closed{reason=key}`."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    labels = [",".join(f"{name}={value}" for name, value in sorted(sample.labels.items())) for sample in found]
    return {f"{s.name}{{{label}}}" if label else s.name: s.value for s, label in zip(found, labels, strict=True)}
