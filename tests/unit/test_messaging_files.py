"""What applies to the publication into files only: whole lines, rounds, rotation, and a file that cannot be written."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from raingauge.blocking import Threads, inline
from raingauge.clock import SystemClock
from raingauge.errors import Permanent, SettingsError
from raingauge.messaging.files import FilePublisher, append, make_files

T = TypeVar("T")
EVENT = (("ce_specversion", b"1.0"), ("ce_source", b"/test"), ("ce_type", b"test"))


def publisher(folder: Path) -> FilePublisher:
    return FilePublisher(folder, inline, SystemClock())


async def publish(publisher: FilePublisher, number: int, topic: str = "readings") -> None:
    await publisher.publish(topic, b"key", b"%d" % number, (*EVENT, ("ce_id", b"%d" % number)))


def data(file: Path) -> list[int]:
    return [json.loads(line)["data"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    "left",
    ["", '{"da', '{"data":1}\n', '{"data":1}\n{"da', '{"data":1}\n{"data":2}', '{"data":1}\n' + "\0" * 9000],
    ids=["nothing", "only a torn line", "a whole line", "a torn line", "a line without its end", "zeros"],
)
async def test_what_a_crash_leaves_is_cut_back_to_whole_lines(left: str, tmp_path: Path) -> None:
    (tmp_path / "readings.jsonl").write_text(left)
    await publish(publisher(tmp_path), 3)
    assert data(tmp_path / "readings.jsonl") == ([1, 3] if "\n" in left else [3])


async def test_messages_that_wait_for_the_file_are_stored_together(tmp_path: Path) -> None:
    rounds = []
    with_thread = Threads(1, "test")

    async def counted(work: Callable[[], T]) -> T:
        rounds.append(work)
        return await with_thread(work)

    files = FilePublisher(tmp_path, counted, SystemClock())
    await asyncio.gather(*(publish(files, n, ("readings", "latest")[n % 2]) for n in range(100)))
    with_thread.close()
    assert len(rounds) == 3  # the first message, then the others of either file
    assert data(tmp_path / "readings.jsonl") == list(range(0, 100, 2))
    assert data(tmp_path / "latest.jsonl") == list(range(1, 100, 2))


async def test_a_file_that_is_renamed_between_two_messages_ends_with_the_first(tmp_path: Path) -> None:
    files = publisher(tmp_path)
    await publish(files, 1)
    (tmp_path / "readings.jsonl").rename(tmp_path / "readings.jsonl.1")
    await publish(files, 2)
    assert (data(tmp_path / "readings.jsonl.1"), data(tmp_path / "readings.jsonl")) == ([1], [2])


async def test_messages_wait_until_their_file_can_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    obstacle = tmp_path / "readings.jsonl"
    obstacle.mkdir()
    files = publisher(tmp_path)
    waiting = [asyncio.create_task(publish(files, n)) for n in range(2)]
    async with asyncio.timeout(10):
        while "handoff.publish_waits" not in caplog.messages:
            await SystemClock().sleep(0.01)
        assert not any(task.done() for task in waiting)
        obstacle.rmdir()
        await asyncio.gather(*waiting)
    assert data(obstacle) == [0, 1]


async def test_a_publisher_that_is_cancelled_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "readings.jsonl").mkdir()
    files = publisher(tmp_path)
    first, second = (asyncio.create_task(publish(files, n)) for n in range(2))
    await SystemClock().sleep(0.01)
    first.cancel()
    (tmp_path / "readings.jsonl").rmdir()
    async with asyncio.timeout(10):
        await second
    assert 1 in data(tmp_path / "readings.jsonl")


async def test_what_is_no_event_is_refused_and_stops_no_other(tmp_path: Path) -> None:
    files = publisher(tmp_path)
    with pytest.raises(Permanent):
        await files.publish("readings", b"key", b"1")
    await publish(files, 2)
    assert data(tmp_path / "readings.jsonl") == [2]


async def test_several_processes_may_write_one_file(tmp_path: Path) -> None:
    threads = Threads(4, "test")
    lines = [b"".join(b'{"data":%d}\n' % (10 * writer + n) for n in range(10)) for writer in range(20)]
    await asyncio.gather(*(threads(lambda some=some: append(tmp_path / "all", some)) for some in lines))  # type: ignore[misc]
    threads.close()
    assert sorted(data(tmp_path / "all")) == list(range(200))


def test_folder_and_files_are_made_at_the_start_and_nothing_in_them_is_changed(tmp_path: Path) -> None:
    for _ in range(2):
        make_files(tmp_path / "var/streams", ["readings"])
        append(tmp_path / "var/streams/readings.jsonl", b'{"data":1}\n')
    assert data(tmp_path / "var/streams/readings.jsonl") == [1, 1]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^streams\.folder: cannot write to .*/file: File exists$"):
        make_files(tmp_path / "file", ["readings"])
