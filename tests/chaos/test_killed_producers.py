"""Producers killed between transaction, publication and mark; several at once."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.chaos.audit import audit
from tests.chaos.crashing import PRODUCER
from tests.chaos.system import CITIES, KILLED, System, Told, system
from tests.support.eventually import eventually
from tests.support.processes import Program

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

AT_ONCE = 2
SAMPLE = 4
"""Points, when a sample has to do."""


def insist(running: System, random: Random, producer_number: int) -> None:
    """What a client does whose answer is lost: the same again, to whoever answers."""
    first = running.post(random.sample(CITIES, 30), producer=running.producers[producer_number])
    if first.status is None:
        again = running.post_as(first.name, sorted(first.city_ids), running.producers[0])
        assert again.status in {200, 202}, again
    running.report(running.producers[producer_number])


def test_producers_killed_at_every_point_lose_nothing(
    database_url: str, crash_round: int, thorough: bool, record_property: Told
) -> None:
    random = Random(crash_round)
    points = random.sample(sorted(PRODUCER), len(PRODUCER) if thorough else SAMPLE)
    with system(database_url, with_outlets=True) as running:
        running.consumer()
        doomed: dict[int, Program] = {}
        while points or doomed:
            while points and len(doomed) < AT_ONCE:
                passage = random.randint(3, 5) if points[-1] == "before-lease" else random.randint(1, 3)
                crashing = running.producer("--point", points.pop(), "--passage", str(passage))
                doomed[len(running.producers) - 1] = crashing

            def one_died() -> bool:
                for number, program in doomed.items():
                    if program.process.poll() is None:
                        insist(running, random, number)
                return any(program.process.poll() is not None for program in doomed.values())

            eventually(one_died, 60, every_s=0.3)
            for number in [n for n, program in doomed.items() if program.process.poll() is not None]:
                assert doomed.pop(number).ended() == KILLED, running.producers[number].output
        audit(running)
        record_property("published by killed producers", running.figures)


def test_two_producers_publish_together(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running:
        producers = [running.producers[0], running.producer()]
        running.consumer()
        wanted = [(random.sample(CITIES, 60), random.choice(producers)) for _ in range(20)]
        with ThreadPoolExecutor(8) as threads:
            posts = list(threads.map(lambda w: running.post(w[0], producer=w[1], max_age_s=600), wanted))
        same = random.sample(CITIES, 40)
        with ThreadPoolExecutor(8) as threads:
            twins = list(threads.map(lambda n: running.post_as("twin", same, producers[n % 2]), range(16)))
        # 503 when the database is busy: on a machine that does much else. Then it is asked again.
        assert {post.status for post in posts} <= {202, 503}
        assert {post.status for post in twins} <= {200, 202, 503}
        assert [post.status for post in twins].count(202) <= 1
        assert running.post_as("twin", same, producers[0]).status in {200, 202}
        audit(running)
