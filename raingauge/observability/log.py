"""Logging: one line per event with time, level, event name and fields. Never log payloads or the API key."""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any, Final, Literal

from raingauge.contracts import utc_text
from raingauge.observability.tracing import TraceFilter

STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
REPEAT_AFTER_S: Final = 10.0
REPEATING: Final = (
    "handoff.start_failed",
    "handoff.client_given_up",
    "database.unavailable",
    "provider.unreadable",
    "webhook.failed",
)
LIBRARIES: Final = ("aiokafka", "sqlalchemy.pool", "urllib3", "alembic", "uvicorn", "asyncio", "py.warnings")
OUTAGES: Final = ("aiokafka", "sqlalchemy.pool")
"""Libraries that log a broken connection at length, which our own events report on one line."""


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line: time, level, event, fields, and any traceback."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self._secret = json.dumps(secret)[1:-1] if secret else None

    def format(self, record: logging.LogRecord) -> str:
        """Format a record with the secret masked; values that JSON does not know as text."""
        event, fields = _event(record)
        head = {"time": _moment(record), "level": record.levelname, "event": event}
        trace = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        line = json.dumps(head | fields | head | trace, default=str)
        return line.replace(self._secret, "***") if self._secret else line


class LineFormatter(logging.Formatter):
    """Formats a record like `2026-11-20T16:00:00.123Z WARNING gate.changed state=key why="Invalid API key"`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, followed by its traceback, with the secret masked."""
        event, fields = _event(record)
        shown = (f"{name}={_quoted(value)}" for name, value in fields.items())
        line = " ".join((_moment(record), record.levelname, event, *shown))
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line.replace(self._secret, "***") if self._secret else line


def _moment(record: logging.LogRecord) -> str:
    return utc_text(datetime.fromtimestamp(record.created, UTC))


def _event(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The event and its fields. What a library logs is a `library.message`."""
    message = " ".join(record.getMessage().split())
    fields = {name: value for name, value in vars(record).items() if name not in STANDARD_ATTRIBUTES}
    if record.name.startswith(LIBRARIES):
        return "library.message", {"library": record.name, "message": message} | fields
    return message, fields


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


class RateLimit(logging.Filter):
    """Lets libraries, and our own REPEATING events, report the same thing once in ten seconds.

    In an outage several clients fail for the same reason, and a library may report it a hundred times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown_at: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown. Records are the same if one line of code logs them, or one event and error."""
        key: tuple[str, object]
        if record.msg in REPEATING:
            key = (record.msg, vars(record).get("error"))
        elif record.name.startswith(LIBRARIES):
            key = (record.name, record.lineno)
        else:
            return True
        age_s = record.created - self._shown_at.get(key, 0.0)  # below 0: the clock was set back
        if _left_by_aiokafka(record) or 0 <= age_s < REPEAT_AFTER_S:
            return False
        self._shown_at[key] = record.created
        return True


def _left_by_aiokafka(record: logging.LogRecord) -> bool:
    """Whether asyncio reports an error that nobody awaited, of a connection that aiokafka has given up."""
    if record.name != "asyncio" or not record.exc_info:
        return False
    frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(record.exc_info[2]))
    return any(name.startswith("aiokafka.") for name in frames)


def configure_logging(secret: str | None = None, form: Literal["text", "json"] = "text") -> None:
    """Have this process log to standard error, with `secret` masked; libraries and Python's warnings from WARNING on.

    aiokafka and SQLAlchemy's pool log nothing below CRITICAL: outages are in the events `handoff.…` and `database.…`.
    """
    logging.captureWarnings(True)
    handler = logging.StreamHandler()
    handler.addFilter(RateLimit())
    handler.addFilter(TraceFilter())
    handler.setFormatter(JsonFormatter(secret) if form == "json" else LineFormatter(secret))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL if name in OUTAGES else logging.WARNING)
