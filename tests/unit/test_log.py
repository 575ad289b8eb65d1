"""Logs: one line an event, its fields behind it, the key nowhere."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from raingauge.log import LIBRARIES, LineFormatter, OnceInAWhile, log_to

SECRET = "0123456789abcdef"  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def line(message: str = "batch.taken", secret: str | None = None, **fields: Any) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "created": 1_795_190_400.123} | fields)
    return LineFormatter(secret).format(record)


def failing(secret: str) -> Any:
    """The exception of a call whose cause tells too much."""

    def call() -> None:
        raise OSError(f"GET /weather?appid={secret} failed")

    def translated() -> None:
        try:
            call()
        except OSError as error:
            raise ValueError(f"no answer for {secret}") from error

    try:
        translated()
    except ValueError:
        return sys.exc_info()


def test_an_event_is_a_line_of_time_level_name_and_fields() -> None:
    told = line(collection_id="1", batch=7, attempt=None)
    assert told == "2026-11-20T16:00:00.123Z INFO batch.taken collection_id=1 batch=7 attempt=None"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (1.5, "1.5"),
        ("two words", '"two words"'),
        ('a "quote"', '"a \\"quote\\""'),
        ('say"so"', '"say\\"so\\""'),
        ("line\nbreak", '"line\\nbreak"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("Zürich", '"Z\\u00fcrich"'),
        (["a", 1], "\"['a', 1]\""),
    ],
)
def test_a_value_that_could_be_misread_is_quoted(value: Any, shown: str) -> None:
    assert line(why=value) == f"2026-11-20T16:00:00.123Z INFO batch.taken why={shown}"
    assert not shown.startswith('"') or json.loads(shown) == str(value)


@pytest.mark.parametrize("message", ["one\ntwo", "one\r\ntwo\n", "one\u2028two"])
def test_a_librarys_message_of_several_lines_becomes_one(message: str) -> None:
    assert line(message) == "2026-11-20T16:00:00.123Z INFO one two"


def test_arguments_are_put_into_the_message_and_are_no_fields() -> None:
    assert line("took %s of %s", args=(1, 2)).endswith("INFO took 1 of 2")


def test_a_traceback_follows_its_line() -> None:
    told = line("call.failed", exc_info=failing("x"), city_id=5).splitlines()
    assert told[0] == "2026-11-20T16:00:00.123Z INFO call.failed city_id=5"
    assert told[-1] == "ValueError: no answer for x"


@pytest.mark.parametrize(
    "fields",
    [{"message": f"key {SECRET}"}, {"url": f"http://host/?appid={SECRET}"}, {"nested": {"key": SECRET}}],
)
def test_the_secret_is_masked_in_message_and_fields(fields: dict[str, Any]) -> None:
    told = line(fields.pop("message", "event"), secret=SECRET, **fields)
    assert SECRET not in told
    assert "***" in told


def test_the_secret_is_masked_in_tracebacks_and_their_causes() -> None:
    told = line("call.failed", secret=SECRET, exc_info=failing(SECRET))
    assert "GET /weather?appid=*** failed" in told
    assert "no answer for ***" in told
    assert SECRET not in told


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_nothing_is_masked(secret: str | None) -> None:
    assert line("call.failed", secret=secret, why="abc").endswith("call.failed why=abc")


def test_a_process_logs_to_one_stream_and_libraries_from_warning_on() -> None:
    earlier, stream = io.StringIO(), io.StringIO()
    log_to(earlier)
    log_to(stream, secret=SECRET)
    logging.getLogger("raingauge.caller").info("caller.waiting", extra={"reason": SECRET})
    logging.getLogger("raingauge.caller").debug("not shown")
    for name in LIBRARIES:
        logging.getLogger(name).info("not shown")
        logging.getLogger(f"{name}.part").warning("shown of %s", name)
    told = [told.split(" ", 1)[1] for told in stream.getvalue().splitlines()]
    assert told == [
        "INFO caller.waiting reason=***",
        *(f"WARNING shown of {name}" for name in LIBRARIES if name != "aiokafka"),
    ]
    assert earlier.getvalue() == ""


def test_a_higher_level_holds_for_libraries_too() -> None:
    stream = io.StringIO()
    log_to(stream, level=logging.ERROR)
    logging.getLogger("raingauge").warning("not shown")
    logging.getLogger("aiokafka").warning("not shown")
    assert stream.getvalue() == ""


def test_without_a_stream_it_is_what_standard_error_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    log_to()
    logging.getLogger("raingauge").info("program.began")
    assert capsys.readouterr().err.endswith("INFO program.began\n")


def test_a_library_says_the_same_thing_once_in_ten_seconds_and_we_say_it_every_time() -> None:
    seldom = OnceInAWhile()

    def shown(name: str, line: int, at: float) -> bool:
        record = logging.LogRecord(name, logging.WARNING, "file.py", line, "no answer", None, None)
        record.created = at
        return seldom.filter(record)

    assert [shown("aiokafka.conn", 7, at) for at in (100.0, 101.0, 109.9, 110.0)] == [True, False, False, True]
    assert shown("aiokafka.conn", 8, 101.0)
    assert [shown("raingauge.worker", 7, at) for at in (100.0, 100.0)] == [True, True]


def test_the_same_cause_of_a_failed_start_is_shown_once_in_ten_seconds() -> None:
    seldom = OnceInAWhile()

    def shown(error: str, at: float) -> bool:
        fields = {"msg": "handoff.start_failed", "name": "raingauge.messaging", "error": error, "created": at}
        return seldom.filter(logging.makeLogRecord(fields))

    assert [shown("a refuses connections", at) for at in (100.0, 101.0, 110.0)] == [True, False, True]
    assert shown("b refuses connections", 101.0)


def test_aiokafka_is_silent_and_so_is_asyncio_about_errors_that_aiokafka_left() -> None:
    stream = io.StringIO()
    log_to(stream)
    logging.getLogger("aiokafka.conn").error("Unable connect to node with id 1")
    code = compile("raise ConnectionResetError", "conn.py", "exec")
    for module, shown in (("aiokafka.conn", 0), ("elsewhere", 1)):
        try:
            exec(code, {"__name__": module})
        except ConnectionResetError:
            logging.getLogger("asyncio").exception("Future exception was never retrieved")
        assert stream.getvalue().count("never retrieved") == shown
    assert "Unable connect" not in stream.getvalue()
