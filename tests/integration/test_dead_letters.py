"""`python -m consumer dead-letters …` on a real Kafka: what was buried comes back, whole and once."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import Connection

from consumer import dead_letters
from consumer.__main__ import parser
from consumer.app import dead_letter_publisher
from consumer.dead_letters import Letter, TopicReader, find_buried, list_all, printable, reading
from consumer.intake import Intake
from raingauge.blocking import inline
from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import Fatal, UndecodableMessage
from raingauge.messaging.kafka import KafkaPublisher
from raingauge.messaging.port import Delivery, Headers, Subscription
from raingauge.settings import BrokerSettings, Settings
from tests.contract.messaging_helpers import (
    CLOCK,
    SERVER,
    KafkaPlace,
    Road,
    cluster_at,
    comes_nothing,
    deleting,
    eventually,
    nothing_is_left,
    real_place,
    with_admin,
)
from tests.support.databases import need_port
from tests.support.processes import Ended, run_to_end
from tests.support.servers import free_port

services = pytest.mark.services
ERROR: Final = UndecodableMessage("not JSON: Ärger\n\tat line 1")

replay = partial(dead_letters.replay, open_publisher=dead_letter_publisher)
bury = partial(dead_letters.bury, open_publisher=dead_letter_publisher)

T = TypeVar("T")
Message = tuple[bytes | None, bytes | None, Headers]
MESSAGES: Final[list[Message]] = [
    (b"1/0", b'{"version":1}', ()),
    (b"1/1", None, (("trace", b"abc"),)),
    (None, b"\xff\xfe\x00not UTF-8\\", (("trace", b""), ("trace", b"\x00\xff"), ("ünïcode", b"x"))),
    (None, None, (("only", b"headers"),)),
    (b"", b"", ()),
    (b"\x80key", b"x" * (MAX_MESSAGE_BYTES - 500), ()),
]


def settings_for(topic: str, server: str = SERVER) -> Settings:
    return Settings(broker=BrokerSettings(url=f"kafka://{server}", topic=topic))


def deliveries(messages: Sequence[Message], topic: str) -> list[Delivery]:
    return [Delivery(topic, 3, 100 + n, key, value, headers) for n, (key, value, headers) in enumerate(messages)]


class Discards(Transactions):
    """Stores nothing: the letters' events are tested elsewhere."""

    def __init__(self) -> None:
        pass

    async def persist(self, work: Callable[[Connection], T]) -> T:
        return cast("T", None)


async def make_letters(place: KafkaPlace, messages: Sequence[Message]) -> None:
    """As the intake does it."""
    acknowledged: list[Delivery] = []
    subscription = cast("Subscription", SimpleNamespace(acknowledge=acknowledged.append))
    async with place.publisher(max_message_bytes=2 * MAX_MESSAGE_BYTES) as publisher:
        intake = Intake(subscription, publisher, Discards(), CLOCK, "account", place.topic)
        for delivery in deliveries(messages, place.topic):
            await intake._bury(delivery, ERROR)
    assert acknowledged == deliveries(messages, place.topic)


async def stored(topic: str) -> list[Letter]:
    """All that lies in a topic."""
    async with reading(cluster_at(SERVER), topic) as letters:
        return [letter async for letter in letters.read()]


async def came_back(place: KafkaPlace) -> list[Message]:
    return sorted(((m.key, m.value, m.headers) for m in await stored(place.topic)), key=repr)


@asynccontextmanager
async def buried(messages: Sequence[Message], partitions: int = 1) -> AsyncIterator[KafkaPlace]:
    """A topic of its own whose dead letters are these; all clients are gone at the end."""
    async with real_place(partitions=partitions) as place:
        await make_letters(place, messages)
        yield place
    assert nothing_is_left()


@services
async def test_what_is_replayed_is_what_was_buried_byte_for_byte(capsys: pytest.CaptureFixture[str]) -> None:
    async with buried(MESSAGES, partitions=3) as place:
        await replay(settings_for(place.topic), None)
        assert await came_back(place) == sorted(MESSAGES, key=repr)
    assert capsys.readouterr().out == f"6 replayed to {place.topic}\n"


@services
async def test_what_was_replayed_is_not_replayed_again_but_what_came_later_is() -> None:
    async with buried(MESSAGES[:2]) as place:
        for later in (MESSAGES[:0], MESSAGES[2:4]):
            await make_letters(place, later)
            for _ in range(2):
                await replay(settings_for(place.topic), None)
            assert await came_back(place) == sorted([*MESSAGES[:2], *later], key=repr)


@services
async def test_one_letter_is_replayed_alone_and_by_name_as_often_as_asked() -> None:
    async with buried(MESSAGES[:3]) as place:
        settings = settings_for(place.topic)
        await replay(settings, (0, 1))
        assert await came_back(place) == [MESSAGES[1]]
        await replay(settings, None)
        assert await came_back(place) == sorted(MESSAGES[:3], key=repr)
        await replay(settings, (0, 1))
        assert await came_back(place) == sorted([*MESSAGES[:3], MESSAGES[1]], key=repr)


@services
@pytest.mark.parametrize("address", [(0, 2), (0, 1), (1, 0), (0, -1)])
async def test_a_letter_that_is_not_there_cannot_be_replayed(address: tuple[int, int]) -> None:
    async with buried(MESSAGES[:1]) as place:
        await replay(settings_for(place.topic), None)  # at 0/1 is its note
        with pytest.raises(Fatal, match=f"there is no dead letter {address[0]}/{address[1]}"):
            await replay(settings_for(place.topic), address)
        assert len(await came_back(place)) == 1


@services
async def test_the_list_tells_of_each_letter_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with buried(MESSAGES[:3]) as place:
        await replay(settings_for(place.topic), (0, 1))
        capsys.readouterr()
        await list_all(settings_for(place.topic))
        told = capsys.readouterr()
    lines = [line.split("\t") for line in told.out.splitlines()]
    error = r"UndecodableMessage: not JSON: \xc3\x84rger\x0a\x09at line 1"
    assert [line[0] for line in lines] == ["0/0", "0/1", "0/2"]
    assert [line[2] for line in lines] == [f"{place.topic}/3/{offset}" for offset in (100, 101, 102)]
    assert {line[3] for line in lines} == {error}
    assert [line[4:] for line in lines] == [
        ["13 bytes", "waiting", '{"version":1}'],
        ["no value", "replayed", ""],
        ["13 bytes", "waiting", r"\xff\xfe\x00not UTF-8\x5c"],
    ]
    assert told.err == f"3 dead letters in {place.topic}.dead\n"


@services
async def test_without_letters_there_is_nothing_to_list_or_replay(capsys: pytest.CaptureFixture[str]) -> None:
    async with buried([]) as place:
        await list_all(settings_for(place.topic))
        await replay(settings_for(place.topic), None)
    told = capsys.readouterr()
    assert (told.out, told.err) == (f"0 replayed to {place.topic}\n", f"0 dead letters in {place.topic}.dead\n")


@services
async def test_a_missing_topic_is_named_and_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    need_port(9092, "Kafka")
    topic = f"test-{uuid4().hex}"
    for work in (list_all(settings_for(topic)), replay(settings_for(topic), None)):
        with pytest.raises(Fatal, match=rf"there is no topic {topic}\.dead on {SERVER}: check broker\.topic"):
            await work
    assert capsys.readouterr() == ("", "")
    found = await with_admin(SERVER, lambda admin: admin.list_topics())
    assert not {topic, dead_letter_topic(topic)} & set(found)
    assert nothing_is_left()


NEWER: Final[Message] = (b"1/0", b'{"version":2}', (("trace", b"\xff"),))


@services
async def test_a_message_of_a_newer_version_that_is_buried_is_passed_by_the_running_consumer_and_can_be_replayed(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consumer.intake.REMIND_EVERY_S", 0.2)
    async with real_place() as place:
        settings = settings_for(place.topic)
        async with place.publisher() as publisher, place.subscription() as subscription:
            intake = Intake(subscription, publisher, Transactions(sqlite, inline, CLOCK), CLOCK, "account", place.topic)
            intake.find_buried = partial(find_buried, cluster_at(SERVER), place.topic)
            working = asyncio.create_task(intake.run())
            await publisher.publish(place.topic, *NEWER)
            await publisher.publish(place.topic, b"2/0", b"not JSON")
            await eventually(lambda: bool(intake.obstacles), within_s=30)
            with pytest.raises(Fatal, match=f"{place.topic} has no message 0/2"):
                await bury(settings, (0, 2))
            with pytest.raises(Fatal, match=f"{place.topic} 0/1 is no message of a newer version"):
                await bury(settings, (0, 1))
            assert intake.obstacles
            for _ in range(2):  # the second one changes nothing
                await bury(settings, (0, 0))
            await eventually(lambda: not intake.obstacles)
            intake.stop()
            await working
        letters = await stored(dead_letter_topic(place.topic))
        # The message behind it was undecodable, and was buried by the consumer.
        assert {letter.value for letter in letters} == {NEWER[1], b"not JSON"}
        assert sum(letter.value == NEWER[1] for letter in letters) == 1
        async with place.subscription() as subscription:
            assert await comes_nothing(subscription, place.lull_s), "it was committed past"
        await replay(settings, (0, 0) if letters[0].value == NEWER[1] else (0, 1))
        assert await came_back(place) == sorted([NEWER, NEWER, (b"2/0", b"not JSON", ())], key=repr)
    assert f"{place.topic} 0/0 is buried: consumers pass it within a minute\n" in capsys.readouterr().out


class Crash(Exception):
    """The process ends."""


@services
@pytest.mark.parametrize("after", range(1, 6))
async def test_a_replay_that_ends_anywhere_loses_nothing(after: int) -> None:
    published = 0

    class Crashing(KafkaPublisher):
        async def publish(self, topic: str, key: Any, value: Any, headers: Headers = ()) -> None:
            nonlocal published
            published += 1
            if published > after:
                raise Crash
            await super().publish(topic, key, value, headers)

    async with buried(MESSAGES[:3]) as place:
        with pytest.raises(Crash):
            await replay(settings_for(place.topic), None, open_publisher=Crashing)
        await replay(settings_for(place.topic), None)
        back = await came_back(place)
        assert sorted({repr(message) for message in back}) == sorted(map(repr, MESSAGES[:3]))
        assert len(back) == 3 + after % 2, "twice only what was stored and not noted"


@services
async def test_a_letter_that_brings_the_header_of_a_note_is_a_letter() -> None:
    forged: Message = (None, None, (("raingauge-replayed", b"0/1"),))
    async with buried([forged, MESSAGES[0]]) as place:
        await replay(settings_for(place.topic), None)
        assert await came_back(place) == sorted([(None, None, ()), MESSAGES[0]], key=repr)


@services
async def test_letters_too_large_for_the_topic_by_now_are_named_and_the_others_replayed() -> None:
    async with buried([(b"a", b"x" * 5000, ()), MESSAGES[0]]) as place:
        narrow = ConfigResource(ConfigResourceType.TOPIC, place.topic, configs={"max.message.bytes": "1000"})
        await with_admin(SERVER, lambda admin: admin.alter_configs([narrow]))
        for _ in range(2):
            with pytest.raises(Fatal, match=r"takes \(max.message.bytes\): 0/0$"):
                await replay(settings_for(place.topic), None)
        assert await came_back(place) == [MESSAGES[0]]


@services
async def test_several_partitions_of_dead_letters_are_all_read() -> None:
    need_port(9092, "Kafka")
    topic = f"test-{uuid4().hex}"
    dead = dead_letter_topic(topic)
    new = [NewTopic(topic, 2, 1), NewTopic(dead, 3, 1)]
    await with_admin(SERVER, lambda admin: admin.create_topics(new))
    async with deleting(topic, dead):
        async with KafkaPublisher(cluster_at(SERVER), CLOCK) as publisher:
            for number in range(30):
                await publisher.publish(dead, b"%d" % number, b"%d" % number)
        for _ in range(2):
            await replay(settings_for(topic), None)
        assert sorted(int(letter.value or b"") for letter in await stored(topic)) == list(range(30))
        assert {letter.partition for letter in await stored(dead)} == {0, 1, 2}


@services
async def test_a_topic_that_is_gone_ends_the_replay_in_time() -> None:
    async with buried(MESSAGES[:1]) as place:
        await with_admin(SERVER, lambda admin: admin.delete_topics([place.topic]))
        with pytest.raises(Fatal, match=r"nothing was stored within 1 s"):
            await replay(settings_for(place.topic), None, store_s=1)
        await with_admin(SERVER, lambda admin: admin.create_topics([NewTopic(place.topic, 1, 1)]))
        await replay(settings_for(place.topic), None)
        assert await came_back(place) == [MESSAGES[0]]


# -- without Kafka -----------------------------------------------------------------------------------------------------


async def test_kafka_that_refuses_or_is_silent_is_told_in_one_line() -> None:
    refused = f"127.0.0.1:{free_port()}"
    with pytest.raises(Fatal, match=f"Kafka cannot be used: {refused} refuses connections"):
        await replay(settings_for("cities", refused), None)
    async with Road(None) as road:
        with pytest.raises(Fatal, match=f"Kafka cannot be used: {road.address} accepts"):
            await list_all(settings_for("cities", road.address), answer_s=0.5)


async def test_a_broker_that_falls_silent_ends_the_reading() -> None:
    """A fake, because the broker is shared: it has a partition with three offsets and never sends one."""

    class Silent:
        polls = 0

        def assign(self, partitions: list[str]) -> None:
            pass

        def seek(self, partition: str, offset: int) -> None:
            pass

        async def getmany(self, *partitions: str, timeout_ms: int) -> dict[str, Any]:
            self.polls += timeout_ms
            return {}

        async def position(self, partition: str) -> int:
            return 0

    silent = Silent()
    with pytest.raises(TimeoutError):
        await TopicReader(silent, {TopicPartition("cities.dead", 0): (0, 3)}, answer_s=2).replayed()
    assert silent.polls == 2000


def consumer(*arguments: str, topic: str, server: str = SERVER) -> Ended:
    own = {"RAINGAUGE_BROKER__URL": f"kafka://{server}", "RAINGAUGE_BROKER__TOPIC": topic}
    return run_to_end([sys.executable, "-m", "consumer", "dead-letters", *arguments], own)


@services
async def test_the_command_lists_and_replays() -> None:
    async with buried(MESSAGES[:2]) as place:
        ended = [
            await asyncio.to_thread(consumer, *arguments.split(), topic=place.topic)
            for arguments in ("replay --offset 1", "replay --all", "list", "replay --offset 9")
        ]
        assert await came_back(place) == sorted(MESSAGES[:2], key=repr)
    assert [each.returncode for each in ended] == [0, 0, 0, 2]
    assert [each.stdout for each in ended[:2]] == [f"1 replayed to {place.topic}\n"] * 2
    assert [line.split("\t")[5] for line in ended[2].stdout.splitlines()] == ["replayed", "replayed"]
    assert ended[3].stderr == "there is no dead letter 0/9\n"


@pytest.mark.long
def test_the_command_ends_with_status_2_and_one_line_when_kafka_is_down() -> None:
    server = f"127.0.0.1:{free_port()}"
    for arguments in (["list"], ["replay", "--all"]):
        ended = consumer(*arguments, topic="cities", server=server)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"Kafka cannot be used: {server} refuses connections")
        assert ended.stdout == ""


@pytest.mark.parametrize(
    "arguments", ["", "replay", "replay --all --offset 1", "replay --offset x", "bury --offset 1", "remove"]
)
def test_what_to_do_has_to_be_said(arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["dead-letters", *arguments.split()])
    assert ended.value.code == 2


def test_a_message_that_nobody_buried_is_told_as_far_as_it_goes() -> None:
    letter = Letter("cities.dead", 2, 5, None, b"\x1b[31m" + b"x" * 100, written_ms=10**18)
    assert letter.line(replayed=False) == f"2/5\t?\t?/?/?\t?\t105 bytes\twaiting\t\\x1b[31m{'x' * 55}"


def test_bytes_are_shown_without_anything_a_terminal_would_act_on() -> None:
    shown = printable(bytes(range(256)))
    assert shown.isascii()
    assert shown.isprintable()
    assert printable(b"a\\n\n") == r"a\x5cn\x0a"
