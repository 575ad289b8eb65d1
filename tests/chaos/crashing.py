"""`python -m tests.chaos.crashing PROGRAM`: a producer or consumer that kills or freezes itself at a named point.

It is the real composition root; only the named function is wrapped. `--knows 2` makes a consumer of the next version.
"""

import argparse
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any

import consumer.app
import producer.app
import raingauge.contracts
from consumer.ledger import Reservation
from raingauge.process import run_program

BEFORE, AFTER = "before", "after"


def always(_result: Any) -> bool:
    """Every passage counts."""
    return True


def reserved(result: Any) -> bool:
    """Whether quota was reserved."""
    return isinstance(result, Reservation) and result.charge_id is not None


def took(leased: Any) -> bool:
    """Whether there was something to publish."""
    return bool(leased.messages)


@dataclass(frozen=True, slots=True)
class Point:
    """Where to die: before or after a function; only the passages that count are counted."""

    module: str
    name: str
    when: str
    counts: Callable[[Any], bool] = always


CONSUMER = {
    "during-intake": Point("raingauge.storage.enqueueing", "enqueue", AFTER),
    "after-intake-commit": Point("consumer.intake", "Intake._finish", BEFORE),
    "before-reserve": Point("consumer.ledger", "Ledger.reserve", BEFORE),
    "under-the-gates-lock": Point("raingauge.storage.queue", "pick", AFTER),
    "after-reserve": Point("consumer.ledger", "Ledger.reserve", AFTER, reserved),
    "before-send": Point("consumer.provider.connections", "Exchange.start_sending", AFTER),
    "after-send": Point("consumer.provider.connections", "Connection.send", AFTER),
    "after-answer": Point("consumer.provider.openweather", "OpenWeather.group", AFTER),
    "settle-between-statements": Point("raingauge.storage.settling", "lock_collections", AFTER),
    "settle-before-commit": Point("raingauge.storage.settling", "settle", AFTER),
    "after-settle-commit": Point("consumer.caller", "Caller._store", AFTER),
    "before-acknowledge": Point("raingauge.messaging.kafka.subscription", "KafkaSubscription.acknowledge", BEFORE),
    "before-commit": Point("aiokafka", "AIOKafkaConsumer.commit", BEFORE),
    "after-commit": Point("aiokafka", "AIOKafkaConsumer.commit", AFTER),
    "after-posting-to-a-webhook": Point("consumer.webhooks", "WebhookSender._attempt", AFTER),
    "delivery-before-commit": Point("raingauge.storage.events", "end_attempt", AFTER),
}
PRODUCER = {
    "accept-before-commit": Point("raingauge.storage.collections", "accept_all", AFTER),
    "after-accept-commit": Point("producer.collections", "Collections.accept", AFTER),
    "before-lease": Point("producer.relays.batches", "Relay._lease", BEFORE),
    "lease-before-commit": Point("raingauge.storage.outbox", "lease", AFTER, took),
    "after-lease": Point("producer.relays.batches", "Relay._lease", AFTER, took),
    "before-publish": Point("raingauge.messaging.kafka.publisher", "KafkaPublisher.publish", BEFORE),
    "after-publish": Point("raingauge.messaging.kafka.publisher", "KafkaPublisher.publish", AFTER),
    "mark-before-commit": Point("raingauge.storage.outbox", "mark_published", AFTER),
    "report-before-commit": Point("raingauge.storage.events", "record", AFTER),
    "after-publishing-an-event": Point("producer.relays.events", "EventRelay._publish", AFTER),
    "after-publishing-a-reading": Point("producer.relays.streams", "StreamRelay._publish", AFTER),
    "remove-before-commit": Point("raingauge.storage.streams", "remove_published", AFTER),
}
PROGRAMS: dict[str, tuple[Callable[..., Any], dict[str, Point]]] = {
    "consumer": (consumer.app.run, CONSUMER),
    "producer": (producer.app.run, PRODUCER),
}


def place(point: Point) -> tuple[Any, str]:
    """What has the function, and its name there.

    Raises:
        AttributeError: there is no such function.
    """
    *path, name = point.name.split(".")
    owner = functools.reduce(getattr, path, import_module(point.module))
    getattr(owner, name)
    return owner, name


def arm(point: Point, passage: int, number: int) -> None:
    """Have this process send itself a signal when it passes the point for that time (1: the first)."""
    owner, name = place(point)
    passages = count(1)

    def passed(result: Any) -> None:
        if point.counts(result) and next(passages) == passage:
            print(f"crash point: signal {number}", flush=True)  # noqa: T201
            os.kill(os.getpid(), number)

    setattr(owner, name, _wrapped(getattr(owner, name), point.when, passed))


def _wrapped(original: Callable[..., Any], when: str, passed: Callable[[Any], None]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            if when == BEFORE:
                passed(True)
            result = await original(*arguments, **named)
            if when == AFTER:
                passed(result)
            return result

        return awaited

    @functools.wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        if when == BEFORE:
            passed(True)
        result = original(*arguments, **named)
        if when == AFTER:
            passed(result)
        return result

    return called


def main() -> int:
    """Run the program with its point armed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crashing", description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--point")
    parser.add_argument("--passage", type=int, default=1)
    parser.add_argument("--freeze", action="store_true", help="SIGSTOP instead of SIGKILL")
    parser.add_argument("--knows", type=int, default=raingauge.contracts.VERSION, help="the newest message version")
    options = parser.parse_args()
    raingauge.contracts.VERSION = options.knows  # type: ignore[misc]
    run, points = PROGRAMS[options.program]
    if options.point is not None:
        arm(points[options.point], options.passage, signal.SIGSTOP if options.freeze else signal.SIGKILL)
    return run_program(run)


if __name__ == "__main__":
    sys.exit(main())
