"""A network between the services that delays, cuts and swallows."""

from random import Random

import pytest
from sqlalchemy import make_url

from tests.chaos.audit import audit
from tests.chaos.proxy import FAIR, Proxy, Weather, proxy
from tests.chaos.system import ANSWER_S, CITIES, System, let_pass, system
from tests.support.eventually import eventually
from tests.support.servers import Kafka

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

LONGEST_S = 8.0
"""Below M, the quota's margin for what is still under way when a call is given up (docs/quota.md)."""
STORMS = (
    Weather(there_s=0.4),
    Weather(back_s=0.7),
    Weather(there_s=2.5),
    Weather(there_s=LONGEST_S),
    Weather(back_s=4.0),
    Weather(swallows=True),
    Weather(refuses=True),
)


def weathers(network: Proxy, random: Random, seconds: float, storms: tuple[Weather, ...]) -> None:
    """One storm after the other, with cuts between; fair at the end."""
    for storm in random.sample(storms, len(storms)):
        network.turn(storm)
        if random.random() < 0.5:
            network.cut()
        let_pass(seconds / len(storms))
    network.turn(FAIR)
    network.cut()


def through(running: System, network: Proxy) -> str:
    """The database's URL by way of the proxy."""
    url = make_url(running.settings["RAINGAUGE_DATABASE__URL"]).set(port=network.port)
    return url.render_as_string(hide_password=False)


def test_between_consumers_and_the_provider(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running, proxy(int(running.weather.url.rpartition(":")[2])) as network:
        for _ in range(2):
            running.consumer(OPENWEATHER__BASE_URL=f"http://127.0.0.1:{network.port}")
        running.post(CITIES[:100])
        eventually(lambda: running.unsettled() < 100, 40)
        running.post(CITIES[200:400])
        weathers(network, random, 21, STORMS)
        audit(running)
    assert network.passed > 2


def test_between_a_consumer_and_the_database(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running, proxy(3306) as network:
        running.consumer(DATABASE__URL=through(running, network))
        running.post(CITIES[:60])
        eventually(lambda: running.unsettled() < 60, 40)
        healthy = running.consumer()
        running.post(CITIES[200:400])
        weathers(network, random, 21, STORMS)
        audit(running)
        assert healthy.process.poll() is None


def test_between_the_producer_and_the_database(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running, proxy(3306) as network:
        running.consumer()
        shaken = running.producer(DATABASE__URL=through(running, network))
        for storm in random.sample(STORMS, len(STORMS)):
            network.turn(storm)
            posts = [running.post(random.sample(CITIES, 20), producer=shaken) for _ in range(3)]
            assert {post.status for post in posts} <= {202, 503}, posts
            assert max(post.took_s for post in posts) <= ANSWER_S, (storm, posts)
            network.cut()
        network.turn(FAIR)
        eventually(lambda: running.post([1], producer=shaken).status == 202, 30)
        audit(running)


@pytest.mark.xdist_group("outages")
def test_between_a_program_and_kafka(kafka: Kafka, database_url: str, fault_round: int) -> None:
    random, shaken = Random(fault_round), ("producer", "consumer")[fault_round % 2]
    with proxy(kafka.behind_proxy, kafka.proxy) as network, system(database_url, servers=kafka.servers) as running:
        by_proxy = {"BROKER__URL": f"kafka://127.0.0.1:{kafka.proxy}"}
        if shaken == "producer":
            running.producers.pop().stop()
        producer = running.producer(**by_proxy) if shaken == "producer" else running.producers[0]
        running.consumer(**(by_proxy if shaken == "consumer" else {}))
        posts = []
        for storm in random.sample(STORMS, len(STORMS)):
            network.turn(storm)
            posts += [running.post(random.sample(CITIES, 40), producer=producer) for _ in range(2)]
            let_pass(3)
            network.cut()
        network.turn(FAIR)
        assert {post.status for post in posts} == {202}
        assert max(post.took_s for post in posts) <= ANSWER_S, posts
        audit(running)
    assert network.passed > 2
