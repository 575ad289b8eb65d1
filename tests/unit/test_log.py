"""Logging: one line per event with its fields, and the key masked everywhere."""

import json
import logging
import sys
from typing import Any

import pytest

from raingauge.observability.log import LIBRARIES, OUTAGES, JsonFormatter, LineFormatter, RateLimit, configure_logging

SECRET = "0123456789abcdef"  # pragma: allowlist secret


def record(message: str, fields: dict[str, Any]) -> logging.LogRecord:
    usual = {"name": "raingauge", "msg": message, "levelname": "INFO", "created": 1_795_190_400.123}
    return logging.makeLogRecord(usual | fields)


def line(message: str = "batch.taken", secret: str | None = None, **fields: Any) -> str:
    return LineFormatter(secret).format(record(message, fields))


def json_line(message: str = "batch.taken", secret: str | None = None, **fields: Any) -> dict[str, Any]:
    text = JsonFormatter(secret).format(record(message, fields))
    assert len(text.splitlines()) == 1
    assert secret is None or json.dumps(secret)[1:-1] not in text
    found: dict[str, Any] = json.loads(text)
    return found


def failing(secret: str) -> Any:
    """An exception whose message and cause contain the secret."""

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


def test_an_event_is_one_line_with_time_level_name_and_fields() -> None:
    formatted = line(collection_id="1", batch=7, attempt=None)
    assert formatted == "2026-11-20T16:00:00.123Z INFO batch.taken collection_id=1 batch=7 attempt=None"
    assert line("took %s of %s", args=(1, 2)).endswith("INFO took 1 of 2")


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
def test_an_ambiguous_value_is_quoted(value: Any, shown: str) -> None:
    assert line(why=value) == f"2026-11-20T16:00:00.123Z INFO batch.taken why={shown}"
    assert not shown.startswith('"') or json.loads(shown) == str(value)


@pytest.mark.parametrize("message", ["one\ntwo", "one\r\ntwo\n", "one\u2028two"])
def test_a_message_of_several_lines_becomes_one_line(message: str) -> None:
    assert line(message) == "2026-11-20T16:00:00.123Z INFO one two"


@pytest.mark.parametrize(
    "fields", [{"message": f"key {SECRET}"}, {"url": f"http://host/?appid={SECRET}"}, {"nested": {"key": SECRET}}]
)
def test_the_secret_is_masked_in_message_and_fields(fields: dict[str, Any]) -> None:
    formatted = line(fields.pop("message", "event"), secret=SECRET, **fields)
    assert SECRET not in formatted
    assert "***" in formatted


def test_a_traceback_follows_its_line_with_the_secret_masked_in_causes_too() -> None:
    formatted = line("call.failed", secret=SECRET, exc_info=failing(SECRET), city_id=5)
    assert formatted.splitlines()[0] == "2026-11-20T16:00:00.123Z INFO call.failed city_id=5"
    assert formatted.splitlines()[-1] == "ValueError: no answer for ***"
    assert "GET /weather?appid=*** failed" in formatted
    assert SECRET not in formatted
    assert [line(secret=none, why="abc")[-7:] for none in (None, "")] == ["why=abc"] * 2


Fields = dict[str, Any]
HEAD = {"time": "2026-11-20T16:00:00.123Z", "level": "INFO"}
OF_AIOKAFKA = {"event": "library.message", "library": "aiokafka.conn"}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"batch": 7, "attempt": None, "ids": [1, 2]}, {"batch": 7, "attempt": None, "ids": [1, 2]}),
        ({"error": ValueError("no")}, {"error": "no"}),
        ({"level": "mine", "event": "mine"}, {}),
        ({"msg": "two\nlines", "name": "aiokafka.conn"}, OF_AIOKAFKA | {"message": "two lines"}),
    ],
)
def test_as_json_an_event_is_an_object_with_time_level_and_fields(fields: Fields, shown: Fields) -> None:
    assert json_line(**fields) == HEAD | {"event": "batch.taken"} | shown
    assert list(json_line(**fields))[:3] == ["time", "level", "event"]


@pytest.mark.parametrize("secret", [SECRET, 'a"b\\c', "Zürich-1"])
def test_as_json_the_secret_is_masked_in_fields_and_traceback(secret: str) -> None:
    found = json_line(f"key {secret}", secret, nested={"key": secret}, exc_info=failing(secret))
    assert (found["event"], found["nested"]) == ("key ***", {"key": "***"})
    assert found["traceback"].splitlines()[-1] == "ValueError: no answer for ***"


def test_logging_goes_to_standard_error_once_and_libraries_log_at_warning(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging(SECRET)
    logging.getLogger("raingauge.caller").info("caller.waiting", extra={"reason": SECRET})
    logging.getLogger("raingauge.caller").debug("not shown")
    for name in LIBRARIES:
        logging.getLogger(name).info("not shown")
        logging.getLogger(f"{name}.part").warning("shown of %s", name)
    logged = [text.split(" ", 1)[1] for text in capsys.readouterr().err.splitlines()]
    warning = 'WARNING library.message library={0}.part message="shown of {0}"'.format
    others = [warning(name) for name in LIBRARIES if name not in OUTAGES]
    assert logged == ["INFO caller.waiting reason=***", *others]


@pytest.mark.parametrize(
    ("name", "event", "error", "shown"),
    [
        ("aiokafka.conn", "no answer", None, [True, False, False, True]),
        ("raingauge.worker", "batch.taken", None, [True, True, True, True]),
        ("raingauge.messaging", "handoff.start_failed", "a refuses connections", [True, False, False, True]),
        ("raingauge.provider", "provider.unreadable", "a refuses connections", [True, False, False, True]),
        ("raingauge.storage", "database.unavailable", "a refuses connections", [True, False, False, True]),
    ],
)
def test_records_of_libraries_and_the_same_cause_of_an_outage_are_shown_once_in_ten_seconds(
    name: str, event: str, error: str | None, shown: list[bool]
) -> None:
    limit = RateLimit()

    def passes(at: float, lineno: int = 7, error: str | None = error) -> bool:
        fields = {"name": name, "msg": event, "lineno": lineno, "error": error, "created": at}
        return limit.filter(logging.makeLogRecord(fields))

    assert [passes(at) for at in (100.0, 101.0, 109.9, 110.0)] == shown
    assert passes(101.0, lineno=8, error="b refuses connections"), "another cause"
    assert passes(50.0), "the clock was set back"
    assert passes(51.0) is shown[1]


def test_aiokafka_is_silent_and_so_is_asyncio_about_errors_that_it_left(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("aiokafka.conn").error("Unable connect to node with id 1")
    code = compile("raise ConnectionResetError", "conn.py", "exec")
    for module, shown in (("aiokafka.conn", 0), ("elsewhere", 1)):
        try:
            exec(code, {"__name__": module})
        except ConnectionResetError:
            logging.getLogger("asyncio").exception("Future exception was never retrieved")
        logged = capsys.readouterr().err
        assert (logged.count("never retrieved"), logged.count("Unable connect")) == (shown, 0)
