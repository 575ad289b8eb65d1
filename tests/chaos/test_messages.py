"""Messages that nobody can read, messages of tomorrow, and messages that are gone."""

import json
from functools import partial
from random import Random

import pytest
from confluent_kafka import OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from tests.chaos.audit import audit, dead_letters, lags, message_at, real_message
from tests.chaos.system import CITIES, System, assigned, system
from tests.support.eventually import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

GONE = ("handoff.client_given_up", "_do_commit_offsets()")
"""What a consumer says when offsets fall back; and what aiokafka leaves of a commit to a topic that is not there."""
ROOM = 300
"""What Kafka itself needs of a message's bytes."""


def poison(random: Random) -> list[bytes | None]:
    """One of each kind."""
    good = {"version": 1, "collection_id": "x", "batch": 0, "batches": 1, "total": 1, "max_age_s": 0,
            "requested_at": "2026-11-20T16:00:00Z", "city_ids": [1]}  # fmt: skip
    without = {name: value for name, value in good.items() if name != random.choice(sorted(good))}
    return [
        None,
        b"",
        b"{",
        b"null",
        b"[" * 50_000,
        random.randbytes(200),
        "ä€".encode("utf-16"),
        b"x" * (MAX_MESSAGE_BYTES - ROOM),
        json.dumps(without).encode(),
        json.dumps(good | {"city_ids": ["one"]}).encode(),
        json.dumps(good | {"city_ids": []}).encode(),
        json.dumps(good | {"city_ids": list(range(1, 22))}).encode(),
        json.dumps(good | {"collection_id": "so nicht"}).encode(),
        json.dumps(good | {"version": "1"}).encode(),
        json.dumps(good | {"batch": 2**40}).encode(),
    ]


def send(running: System, value: bytes | None, partition: int, trace: bytes = b"") -> None:
    """Put a message into the topic."""
    producer = Producer({"bootstrap.servers": running.servers, "message.max.bytes": 2 * MAX_MESSAGE_BYTES})
    producer.produce(running.topic, value, key=b"poison", partition=partition, headers={"trace": trace})
    assert producer.flush(20) == 0


def test_poison_goes_to_the_dead_letters_byte_for_byte(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url) as running:
        consumers = [running.consumer(), running.consumer()]
        for consumer in consumers:
            eventually(partial(assigned, consumer), 40)
        running.post(CITIES[:100], max_age_s=600)
        for value in poison(random):
            running.post(random.sample(CITIES[:100], 100), max_age_s=600)
            send(running, value, random.randrange(6), b"\x00\xff")
            running.poison.append(value)
        audit(running)
        letters = dead_letters(running)
        assert len(letters) == len(running.poison), "a dead letter stands twice though nobody died"
        for letter in letters:
            assert letter[1]["trace"] == b"\x00\xff"
            assert message_at(running, letter) == letter[0]


def test_a_newer_message_makes_its_partition_wait_for_newer_consumers(database_url: str, fault_round: int) -> None:
    with system(database_url) as running:
        old = running.consumer()
        eventually(lambda: assigned(old), 40)
        first = running.post(CITIES[:20])
        eventually(lambda: running.settled(first.name) == 20, 30)
        partition, message = real_message(running)
        send(running, json.dumps(message | {"version": 2, "by": "tomorrow"}).encode(), partition)
        eventually(lambda: "message.held" in old.output, 20)
        running.post(CITIES[100:300])
        eventually(lambda: {number for number, behind in lags(running).items() if behind} == {partition}, 60)
        assert not dead_letters(running)
        running.consumer("--knows", "2")
        assert old.stop() == 0
        audit(running)


def test_a_topic_deleted_under_a_backlog_comes_back_with_all_its_messages(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url, RELAY__REPUBLISH_AFTER_S="5", CONSUMER__WINDOW="2") as running:
        running.consumer()
        running.post(CITIES[:250])
        running.post(CITIES[200:300])
        running.until_some_are_settled(random)
        admin = AdminClient({"bootstrap.servers": running.servers})
        for future in admin.delete_topics([running.topic, dead_letter_topic(running.topic)]).values():
            future.result()
        running.post(CITIES[:50])
        audit(running, tracebacks=GONE)


def test_messages_whose_retention_has_run_out_are_published_again(database_url: str, fault_round: int) -> None:
    random = Random(fault_round)
    with system(database_url, RELAY__REPUBLISH_AFTER_S="5", CONSUMER__WINDOW="2") as running:
        running.post(CITIES[:300])
        if fault_round % 2:
            running.consumer()
            running.until_some_are_settled(random, 100)
        else:
            eventually(lambda: running.published() == 15, 20)  # fifteen seconds of quota
        admin = AdminClient({"bootstrap.servers": running.servers})
        places = [TopicPartition(running.topic, number, OFFSET_END) for number in range(6)]
        for future in admin.delete_records(places).values():
            future.result()
        running.consumer()
        audit(running, tracebacks=GONE)
