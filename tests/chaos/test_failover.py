"""Failovers under load: a broker or the primary database is killed, another takes over; the promises hold."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from random import Random

import pytest
from sqlalchemy import create_engine, make_url, select, text

from raingauge.database import open_database
from raingauge.storage.models import Collection, Schema
from tests.chaos.audit import audit, most_in_window
from tests.chaos.proxy import Proxy, proxy
from tests.chaos.system import ANSWER_S, CITIES, CLOCK, QUOTA, System, Told, let_pass, system
from tests.support.clusters import Cluster, cluster
from tests.support.eventually import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(900), pytest.mark.xdist_group("clusters")]

PROMOTIONS = 5
"""In each round, when this is more than a sample."""
HOLD_S = 19.0
"""D + T + M + W of these tests: how long a failover closes the gate."""
TAKEN_OVER_S = 30.0


@pytest.fixture(scope="session")
def clusters() -> Iterator[dict[str, Cluster]]:
    """The clusters of this session, started as tests ask for them."""
    with ExitStack() as opened:
        yield _Clusters(opened)


class _Clusters(dict[str, Cluster]):
    def __init__(self, opened: ExitStack) -> None:
        super().__init__()
        self._opened = opened

    def __missing__(self, name: str) -> Cluster:
        self[name] = self._opened.enter_context(cluster(name))
        return self[name]


def empty_schema(url: str) -> None:
    """The tables, without any rows."""
    with closing(open_database(url)) as database:
        Schema.metadata.drop_all(database.engine)
        Schema.metadata.create_all(database.engine)


@contextmanager
def posting(running: System, random: Random) -> Iterator[None]:
    """Collections are posted all the time while the block runs; those that get a 503 are posted under new names."""
    stop = threading.Event()

    def post() -> None:
        while not stop.wait(0.3):
            running.post(random.sample(CITIES, 3))

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def gate(running: System) -> str:
    """Whether calls may go, as clients are told."""
    return str(running.producers[0].get("/quota")["gate"]["state"])


def fail_over(running: System, group: Cluster, network: Proxy | None, random: Random) -> float:
    """Kill the primary under load and lead clients to the next; seconds until a POST is accepted again.

    Without a network, clients know both servers.
    """
    running.until_some_are_settled(random, 30)
    killed = group.primary
    with posting(running, random):
        let_pass(random.uniform(0, 2))
        group.kill()
        began = CLOCK.monotonic()
        port = group.take_over()
        if network is not None:
            network.lead_to(port)
        eventually(lambda: running.post(random.sample(CITIES, 30)).status == 202, TAKEN_OVER_S, every_s=0.1)
        took = CLOCK.monotonic() - began
        running.database.close()
        eventually(lambda: gate(running) == "failover", 10)
    group.do("rejoin", killed)
    return took


def assert_it_was_seen(running: System, times: int) -> None:
    """Each failover closed the gate once, and a line named both servers."""
    lines = [line for consumer in running.consumers for line in consumer.lines if "gate.failover" in line]
    assert len(lines) == times, lines
    assert all(" -> " in line for line in lines), lines


def test_a_database_whose_primary_is_killed_under_load_loses_nothing_and_keeps_the_quota(
    clusters: dict[str, Cluster], cluster_name: str, fault_round: int, thorough: bool, record_property: Told
) -> None:
    group, random, times = clusters[cluster_name], Random(fault_round), PROMOTIONS if thorough else 1
    with proxy(group.ports[group.primary - 1]) as network:
        empty_schema(group.url(network.port))
        with system(group.url(network.port)) as running:
            for _ in range(2):
                running.consumer()
            running.post(CITIES[:200])
            eventually(lambda: running.unsettled() < 200, 60)
            took = []
            for _ in range(times):
                took.append(fail_over(running, group, network, random))
                eventually(lambda: gate(running) == "open", HOLD_S + 15)
                running.keep_busy(random)
            audit(running)
            assert_it_was_seen(running, times)
            statuses = {post.status for post in running.posts}
            assert statuses <= {202, 503, None}, statuses
            record_property(f"{cluster_name}: most in a window", most_in_window(running))
    record_property(f"{cluster_name}: POST accepted s after the kill", [round(seconds, 1) for seconds in took])
    record_property(f"{cluster_name}: collections accepted, and not", [len(running.accepted()), len(running.posts)])


@pytest.mark.rounds
def test_clients_that_know_both_servers_find_the_new_primary(
    clusters: dict[str, Cluster], record_property: Told
) -> None:
    group, random = clusters["postgres"], Random(1)
    hosts = "&".join(f"host=127.0.0.1:{port}" for port in group.ports)
    url = f"postgresql+psycopg://raingauge:raingauge@/raingauge?{hosts}&target_session_attrs=read-write"
    empty_schema(url)
    with system(url) as running:
        running.consumer()
        running.post(CITIES[:200])
        eventually(lambda: running.unsettled() < 200, 60)
        record_property("libpq: POST accepted s after the kill", fail_over(running, group, None, random))
        audit(running)
        assert_it_was_seen(running, 1)


def ask(group: Cluster, node: int, statement: str) -> None:
    """Have a node of MariaDB do something, as an operator."""
    url = make_url(group.url(group.ports[node - 1])).set(username="operator", password="operator")
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.mark.rounds
def test_a_replica_that_lacks_the_last_transactions_keeps_the_quota(
    clusters: dict[str, Cluster], fault_round: int, record_property: Told
) -> None:
    group, random = clusters["mariadb"], Random(fault_round)
    with proxy(group.ports[group.primary - 1]) as network:
        empty_schema(group.url(network.port))
        with system(group.url(network.port), RELAY__REPUBLISH_AFTER_S="20") as running:
            for _ in range(2):
                running.consumer()
            running.post(CITIES[:400])
            running.until_some_are_settled(random)
            ask(group, group.primary, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
            ask(group, group.next, "STOP SLAVE IO_THREAD")
            lost = [running.post(random.sample(CITIES, 40)) for _ in range(3)]
            running.until_some_are_settled(random)
            fail_over(running, group, network, random)
            known = running.database.read(lambda c: set(c.scalars(select(Collection.id))))
            assert not known & {post.name for post in lost}
            audit(running, lost=True)
            assert_it_was_seen(running, 1)
            record_property("mariadb without its last transactions: most in a window", most_in_window(running))


@pytest.mark.rounds
def test_consumers_on_several_galera_nodes_are_refused_by_name_and_one_writer_goes_on(
    clusters: dict[str, Cluster], record_property: Told
) -> None:
    group = clusters["galera"]
    one, other = (group.url(port) for port in group.ports[:2])
    empty_schema(one)
    with system(one) as running:
        running.consumer()
        stranger = running.consumer(DATABASE__URL=other)
        running.post(CITIES[:300])
        eventually(lambda: gate(running) == "failover", 60)
        let_pass(2 * HOLD_S)
        settled = 300 - running.unsettled()
        record_property("galera, two writers: cities settled of 300 in two holds", settled)
        assert settled <= 3 * QUOTA, "the gate is closed nearly all the time"
        assert any("gate.failover" in line and "one writer" in line for line in running.programs[-1].lines)
        assert stranger.stop() == 0
        audit(running)


def test_one_broker_of_three_is_not_missed_and_two_are_waited_for(
    clusters: dict[str, Cluster], database_url: str, fault_round: int, record_property: Told
) -> None:
    group, random = clusters["kafka"], Random(fault_round)
    servers = ",".join(f"127.0.0.1:{port}" for port in group.ports)
    with system(database_url, servers=servers, with_outlets=True) as running:
        for _ in range(2):
            running.consumer()
        running.post(CITIES[:60])
        eventually(lambda: running.unsettled() < 60, 60)
        first, second = random.sample((1, 2, 3), 2)
        group.do("kill", first)
        posts = [running.post(random.sample(CITIES, 10)) for _ in range(10)]
        running.until_settled()
        group.do("kill", second)
        posts += [running.post(random.sample(CITIES, 10)) for _ in range(10)]
        for node in (first, second):
            group.do("start", node)
        assert {post.status for post in posts} == {202}
        record_property("kafka, brokers missing: slowest POST s", round(max(post.took_s for post in posts), 2))
        assert max(post.took_s for post in posts) <= 2 * ANSWER_S
        audit(running)
