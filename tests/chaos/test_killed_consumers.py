"""Consumers killed at named points, frozen past the session's end, coming and going."""

from random import Random

import pytest

from tests.chaos.audit import audit
from tests.chaos.crashing import CONSUMER
from tests.chaos.system import CITIES, CLOCK, KILLED, Told, assigned, freeze, let_pass, system, thaw
from tests.support.eventually import eventually
from tests.support.processes import Program

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

AT_ONCE = 6
SAMPLE = 6
"""Points, when a sample has to do."""
FREEZING = ("after-reserve", "before-send")
SESSION_S = 10.0
"""After which the group takes a silent consumer for dead."""


def test_consumers_killed_at_every_point_lose_nothing(
    database_url: str, crash_round: int, thorough: bool, record_property: Told
) -> None:
    random = Random(crash_round)
    points = random.sample(sorted(CONSUMER), len(CONSUMER) if thorough else SAMPLE)
    with system(database_url, with_outlets=True) as running:
        doomed: list[Program] = []

        def one_died() -> bool:
            running.keep_busy(random)
            return any(program.process.poll() is not None for program in doomed)

        while points or doomed:
            while points and len(doomed) < AT_ONCE:
                doomed.append(running.consumer("--point", points.pop(), "--passage", str(random.randint(1, 3))))
            eventually(one_died, 90, every_s=0.2)
            for dead in [program for program in doomed if program.process.poll() is not None]:
                assert dead.ended() == KILLED, dead.output
                doomed.remove(dead)
        running.consumer()
        audit(running)
        record_property("published by killed consumers", running.figures)


def test_a_consumer_frozen_past_its_session_sends_nothing_late(database_url: str, fault_round: int) -> None:
    point = FREEZING[fault_round % 2]
    with system(database_url) as running:
        running.post(CITIES[:100])
        frozen = running.consumer("--point", point, "--passage", str(2 + fault_round), "--freeze")
        eventually(lambda: "crash point" in frozen.output, 60)
        running.consumer()
        let_pass(SESSION_S + 3)
        thaw(frozen)
        audit(running)
        if point == "after-reserve":
            assert "too late to send" in frozen.output


def test_a_consumer_frozen_anywhere_harms_nobody(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running:
        running.post(CITIES[:300])
        consumers = [running.consumer() for _ in range(2)]
        for consumer in consumers:
            eventually(lambda c=consumer: assigned(c), 40)  # type: ignore[misc]
        running.until_some_are_settled(random)
        freeze(consumers[0])
        let_pass(SESSION_S + 3)
        thaw(consumers[0])
        audit(running)


def test_consumers_joining_and_leaving_lose_nothing(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running:
        consumers = [running.consumer(), running.consumer()]
        began = CLOCK.monotonic()

        def due(seconds: float) -> bool:
            running.keep_busy(random)
            return CLOCK.monotonic() - began >= seconds

        for change in range(1, 11):
            eventually(lambda change=change: due(2.0 * change), 30)  # type: ignore[misc]
            if change % 2:
                consumers.append(running.consumer())
            elif random.random() < 0.5:
                consumers.pop(0).kill()
            else:
                assert consumers.pop(0).stop() == 0
        audit(running)
