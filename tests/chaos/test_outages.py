"""Kafka and MariaDB killed and started again: what is accepted meanwhile, how soon the work goes on."""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from tests.chaos.audit import audit
from tests.chaos.system import ANSWER_S, CITIES, CLOCK, System, Told, assigned, let_pass, system
from tests.support.eventually import eventually
from tests.support.processes import Program
from tests.support.servers import Kafka, MariaDB, Server

pytestmark = [pytest.mark.services, pytest.mark.timeout(300), pytest.mark.xdist_group("outages")]

OUTAGES_S = (4.0, 15.0, 2.0, 30.0, 8.0)
"""One for each round."""
AFTER_KAFKA_S = 15.0
AFTER_DATABASE_S = 10.0


def assert_quick(took: list[float]) -> None:
    """Half of the answers within the limit, none at twice of it: the client waits for this busy machine, too."""
    assert statistics.median(took) <= ANSWER_S
    assert max(took) <= 2 * ANSWER_S


def lasts(server: Server, seconds: float, meanwhile: Callable[[], object]) -> None:
    """Kill a server, go on for so long, start it again; return when it answers."""
    server.kill()
    began = CLOCK.monotonic()
    meanwhile()
    let_pass(seconds - (CLOCK.monotonic() - began))
    server.start()


def resumes(running: System, name: str, within_s: float, before: int = 0) -> float:
    """Seconds until more cities of a collection are settled than before, which must be soon."""
    began = CLOCK.monotonic()
    eventually(lambda: running.settled(name) > before, within_s)
    return CLOCK.monotonic() - began


def post_and_report(running: System) -> None:
    """POST collections and events."""
    for number in range(20):
        running.post(CITIES[number * 3 : number * 3 + 40])
        running.report()


def test_kafka_killed_and_started_again(
    kafka: Kafka, database_url: str, fault_round: int, record_property: Told
) -> None:
    outage_s = OUTAGES_S[fault_round % len(OUTAGES_S)]
    with system(database_url, servers=kafka.servers, with_outlets=True) as running:
        consumers = [running.consumer() for _ in range(2)]
        running.post(CITIES[:60])
        eventually(lambda: running.unsettled() < 60, 40)
        lasts(kafka, outage_s, partial(post_and_report, running))
        posts = running.posts[1:]
        took = resumes(running, posts[0].name, AFTER_KAFKA_S)
        record_property(f"kafka away {outage_s} s, then resumes after s", round(took, 2))
        record_property("slowest POST while kafka is away s", round(max(post.took_s for post in posts), 3))
        record_property("median POST while kafka is away s", round(statistics.median(post.took_s for post in posts), 3))
        assert {post.status for post in posts} == {202}
        assert_quick([post.took_s for post in posts])
        audit(running)
        record_property("published around the outage", running.figures)
        assert all(consumer.process.poll() is None for consumer in consumers)


def ask(url: str, method: str, path: str, body: object = None) -> tuple[int, float, bool]:
    """Status, seconds, and whether a Retry-After came with it."""
    began = CLOCK.monotonic()
    answer = requests.request(method, f"{url}{path}", json=body, timeout=10)
    return answer.status_code, CLOCK.monotonic() - began, "Retry-After" in answer.headers


def ask_much(producer: Program, name: str) -> list[tuple[int, float, bool]]:
    """POST and GET, five at once."""
    asked = [
        *(partial(ask, producer.url, "GET", f"/get?id={name}") for _ in range(10)),
        *(partial(ask, producer.url, "POST", "/collect", {"id": f"late-{n}", "cities": [n + 1]}) for n in range(10)),
    ]
    with ThreadPoolExecutor(5) as threads:
        return list(threads.map(lambda work: work(), asked))


def test_mariadb_killed_and_started_again(mariadb: MariaDB, fault_round: int, record_property: Told) -> None:
    outage_s = OUTAGES_S[fault_round % len(OUTAGES_S)]
    with system(mariadb.url) as running:
        consumers = [running.consumer() for _ in range(2)]
        for consumer in consumers:
            eventually(partial(assigned, consumer), 40)
        post = running.post(CITIES[:300])
        eventually(lambda: running.unsettled() < 260, 40)
        answers: list[tuple[int, float, bool]] = []
        lasts(mariadb, outage_s, lambda: answers.extend(ask_much(running.producers[0], post.name)))
        took = resumes(running, post.name, AFTER_DATABASE_S, running.settled(post.name))
        record_property(f"mariadb away {outage_s} s, then resumes after s", round(took, 2))
        record_property("slowest answer while mariadb is away s", round(max(took for _, took, _ in answers), 3))
        assert {(status, told) for status, _, told in answers} == {(503, True)}
        assert_quick([took for _, took, _ in answers])
        audit(running)
        assert all(consumer.process.poll() is None for consumer in consumers)
