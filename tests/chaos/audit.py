"""The one audit after every fault: nothing lost, nothing twice, nothing strange, never over the quota, no trace."""

import json
from collections import Counter
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import Connection, func, select

from raingauge.contracts import dead_letter_topic, utc_text
from raingauge.storage.events import NOT_PROCESSED
from raingauge.storage.models import (
    Batch,
    Collection,
    Event,
    OutgoingReading,
    QueuedCity,
    QuotaCharge,
    Reading,
    WebhookDelivery,
)
from raingauge.streams import LatestMessage, ReadingMessage
from tests.chaos.system import QUOTA, WINDOW_S, System
from tests.support.eventually import eventually
from tests.support.receiver import Receiver

LAG_S = 40.0
LOST_S = 65.0
"""How much longer a message may wait whose batch the database no longer knows."""
NOTIFIED_S = 60.0
"""Longer than an event's lease, after which it is published again."""
Message = TypeVar("Message", ReadingMessage, LatestMessage)
Letter = tuple[bytes | None, dict[str, bytes]]
"""A dead letter's value and headers."""


def audit(running: System, *, tracebacks: tuple[str, ...] = (), refusals: bool = False, lost: bool = False) -> None:
    """All promises. `tracebacks`: the events that may log one here; `refusals`: the provider may have refused calls.

    `lost`: the database lost its last transactions, so what Kafka and users know of them is not compared.
    """
    running.until_settled()
    eventually(lambda: lag(running) == 0, LAG_S + lost * LOST_S, every_s=0.5)
    if lost:
        known = running.database.read(lambda c: set(c.scalars(select(Collection.id))))
        running.posts = [post for post in running.posts if post.name in known]
    running.database.read(lambda connection: _check_collections(running, connection))
    if lost:
        most_in_window(running)
    else:
        _check_witness(running, refusals=refusals)
        _check_dead_letters(running)
        _check_events(running)
    if running.receiver is not None:
        _check_webhook(running, running.receiver)
        _check_streams(running)
    for program in running.programs:
        _check_output(program.lines, tracebacks)


def _check_collections(running: System, connection: Connection) -> None:
    rows = connection.execute(select(Reading.collection_id, Reading.city_id, Reading.status, Reading.reason)).all()
    keys = Counter((row.collection_id, row.city_id) for row in rows)
    assert all(number == 1 for number in keys.values()), "a row is there twice"
    assert all(row.status == "collected" for row in rows), [row for row in rows if row.status != "collected"][:5]
    stored: dict[str, set[int]] = {}
    for row in rows:
        stored.setdefault(row.collection_id, set()).add(row.city_id)
    states = {row.id: row for row in connection.execute(select(Collection))}
    asked = {post.name: post.city_ids for post in running.posts}
    assert running.accepted().keys() <= states.keys(), "an accepted collection is gone"
    assert states.keys() <= asked.keys(), "a collection that nobody asked for"
    for name, state in states.items():
        missing, unknown = asked[name] - stored.get(name, set()), stored.get(name, set()) - asked[name]
        assert not missing, f"{name}: {len(missing)} cities are missing"
        assert not unknown, f"{name}: {len(unknown)} cities that nobody asked for"
        assert (state.collected, state.failed, state.total) == (len(asked[name]), 0, len(asked[name])), name
        assert state.finished_at is not None, f"{name} is not finished"
    open_ones = (Batch.settled != Batch.size) | Batch.settled_at.is_(None)
    assert not connection.execute(select(Batch).where(open_ones)).all(), "batches that are not settled whole"
    assert not connection.execute(select(QueuedCity)).all(), "cities are left in the queue"


def most_in_window(running: System) -> int:
    """The most cities that the provider saw in any window, which must not be more than the quota."""
    witness = running.weather.get("/control/witness")
    assert witness["window_s"] == WINDOW_S
    assert witness["most_in_window"] <= QUOTA, witness
    return int(witness["most_in_window"])


def _check_witness(running: System, *, refusals: bool) -> None:
    most_in_window(running)
    witness = running.weather.get("/control/witness")
    assert refusals or witness["statuses"].keys() <= {"0", "200"}, witness
    charged = running.database.read(lambda c: c.scalar(select(func.sum(QuotaCharge.cost)))) or 0
    assert charged >= witness["units"], f"{witness['units']} units arrived, {charged} were charged"


def _check_events(running: System) -> None:
    """Each collection, each dead letter and each report has its event, and its user was notified."""
    waiting = select(func.count()).where(Event.status == NOT_PROCESSED)
    eventually(lambda: running.database.read(lambda c: c.scalar(waiting)) == 0, NOTIFIED_S, every_s=0.5)
    stored = running.database.read(lambda connection: connection.execute(select(Event)).all())
    done = [row.user_id for row in stored if row.type == "collection.finished"]
    assert sorted(done) == sorted(running.database.read(lambda c: c.scalars(select(Collection.id)).all()))
    letters = dead_letters(running)
    buried = {(value, places["raingauge-partition"], places["raingauge-offset"]) for value, places in letters}
    assert len([row for row in stored if row.type == "dead_letter"]) == len(buried)
    reported = Counter(row.description for row in stored if row.type == "message")
    accepted = Counter(text for text, status in running.reports.items() if status == 201)
    assert accepted <= reported <= Counter(running.reports.keys()), "an event is gone, or there twice, or invented"
    lines = {line.split()[1] for program in running.programs for line in program.lines if line.startswith("Event ")}
    assert lines == {row.event_id for row in stored}, "not notified, or of nothing"


def _check_webhook(running: System, receiver: Receiver) -> None:
    """Each event was delivered, whatever its type, and nothing else; what came twice had the same content."""
    waiting = select(func.count()).where(WebhookDelivery.status != "delivered")
    eventually(lambda: running.database.read(lambda c: c.scalar(waiting)) == 0, NOTIFIED_S, every_s=0.5)
    stored = running.database.read(lambda connection: connection.execute(select(Event)).all())
    expected = {(row.event_id, row.type, row.user_id, row.description, utc_text(row.created_at)) for row in stored}
    fields = ("event_id", "type", "user_id", "description", "created_at")
    assert {tuple(body["data"][name] for name in fields) for body in receiver.received} == expected, (
        "events not delivered, or invented"
    )
    running.figures["webhook"] = f"{len(expected)} in {len(receiver.received)} requests"


def _check_streams(running: System) -> None:
    """Each reading was published, and the latest weather of each city; what came twice has the same content."""
    waiting = select(func.count()).select_from(OutgoingReading)
    eventually(lambda: running.database.read(lambda c: c.scalar(waiting)) == 0, NOTIFIED_S, every_s=0.5)
    columns = (Reading.collection_id, Reading.city_id, Reading.fetched_at, Reading.temperature)
    stored = running.database.read(lambda connection: connection.execute(select(*columns)).all())
    readings, latest = _published(running, "READINGS", ReadingMessage), _published(running, "LATEST", LatestMessage)
    found = {(one.collection_id, one.city_id, one.fetched_at, one.temperature) for one in readings}
    assert found == {tuple(row) for row in stored}, "readings not published, or not stored"
    newest: dict[int, datetime] = {}
    for row in stored:
        newest[row.city_id] = max(newest.get(row.city_id, row.fetched_at), row.fetched_at)
    last = {one.city_id: one.fetched_at for one in latest}
    assert last.keys() == newest.keys(), "latest weather not published, or of no city"
    behind = [city_id for city_id, moment in newest.items() if last[city_id] < moment]
    assert not behind, f"the last message of {len(behind)} cities is not their newest weather"


def _published(running: System, stream: str, model: type[Message]) -> list[Message]:
    """The messages of a stream, once each, in the order in which they came last."""
    found: dict[str, bytes] = {}
    all_ = messages(running, running.settings[f"RAINGAUGE_STREAMS__{stream}_TOPIC"])
    for value, headers in all_:
        name = headers["ce_id"].decode()
        assert found.pop(name, value) == value, f"{name} has two contents"
        found[name] = value or b""
    running.figures[stream.lower()] = f"{len(found)} in {len(all_)} messages"
    return [model.model_validate_json(value) for value in found.values()]


def _check_output(lines: list[str], tracebacks: tuple[str, ...]) -> None:
    for number, line in enumerate(lines):
        if line.startswith("Traceback"):
            before = lines[number - 1] if number else ""
            assert any(event in before for event in tracebacks), "\n".join(lines[max(0, number - 3) : number + 40])
        assert "never awaited" not in line, line
        assert "was destroyed but it is pending" not in line, line


# -- Kafka ---------------------------------------------------------------------------------------------------------


def lags(running: System) -> dict[int, int]:
    """Messages of each partition that the group has not acknowledged.

    Kafka takes a commit for a topic that was deleted and made anew: its offset may lie past the end.
    """
    partitions = _partitions(running, running.topic)
    behind = {}
    with _reader(running, running.group) as reader:
        committed = {tp.partition: tp.offset for tp in reader.committed(partitions, timeout=10)}
        for partition in partitions:
            first, end = reader.get_watermark_offsets(partition, timeout=10)
            behind[partition.partition] = max(0, end - max(first, committed.get(partition.partition, 0)))
    return behind


def lag(running: System) -> int:
    """The same over all partitions."""
    return sum(lags(running).values())


def dead_letters(running: System) -> list[Letter]:
    """All of them, in their order."""
    return messages(running, dead_letter_topic(running.topic))


def messages(running: System, topic: str) -> list[Letter]:
    """All that is in a topic."""
    letters: list[Letter] = []
    with _reader(running, "audit") as reader:
        for partition in _partitions(running, topic):
            first, end = reader.get_watermark_offsets(partition, timeout=10)
            reader.assign([TopicPartition(partition.topic, partition.partition, first)])
            for _ in range(end - first):
                message = reader.poll(20)
                assert message is not None, "a message cannot be read"
                assert message.error() is None, message.error()
                letters.append((message.value(), dict(message.headers() or ())))
    return letters


def message_at(running: System, letter: Letter) -> bytes | None:
    """The value that stands where a dead letter says it came from."""
    headers = letter[1]
    where = TopicPartition(
        headers["raingauge-topic"].decode(),
        int(headers["raingauge-partition"]),
        int(headers["raingauge-offset"]),
    )
    with _reader(running, "audit") as reader:
        reader.assign([where])
        message = reader.poll(20)
        assert message is not None
        assert message.offset() == where.offset
        value: bytes | None = message.value()
        return value


def _check_dead_letters(running: System) -> None:
    """Byte for byte what was injected. A consumer that dies between burying and acknowledging buries again."""
    letters = dead_letters(running)
    places = {(h["raingauge-partition"], h["raingauge-offset"]): value for value, h in letters}
    assert Counter(places.values()) == Counter(running.poison), "dead letters ≠ poison injected"
    for letter in letters:
        assert letter[1]["raingauge-topic"] == running.topic.encode()
        assert letter[1]["raingauge-error"].startswith((b"UndecodableMessage: ", b"UnknownBatch: "))


def real_message(running: System) -> tuple[int, dict[str, Any]]:
    """A message of the topic, read, and its partition."""
    with _reader(running, "audit") as reader:
        reader.assign([TopicPartition(p.topic, p.partition, 0) for p in _partitions(running, running.topic)])
        message = reader.poll(20)
        assert message is not None
        return message.partition(), json.loads(message.value())


class _reader:  # noqa: N801
    """A consumer of confluent_kafka that is closed at the block's end; it commits nothing."""

    def __init__(self, running: System, group: str) -> None:
        settings = {"bootstrap.servers": running.servers, "group.id": group, "enable.auto.commit": False}
        self._consumer = Consumer(settings | {"auto.offset.reset": "earliest", "log_level": 0})

    def __enter__(self) -> Any:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _partitions(running: System, topic: str) -> list[Any]:
    admin = AdminClient({"bootstrap.servers": running.servers, "log_level": 0})
    metadata = admin.list_topics(topic, timeout=10).topics[topic]
    return [TopicPartition(topic, number) for number in metadata.partitions]
