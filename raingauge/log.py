"""Logging: one line per event with time, level, event name and fields. Never log payloads or the API key."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from raingauge.contracts import utc_text

STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
REPEAT_AFTER_S: Final = 10.0
LIBRARIES: Final = ("aiokafka", "urllib3", "alembic", "uvicorn", "asyncio")


class LineFormatter(logging.Formatter):
    """Formats a record like `2026-11-20T16:00:00.123Z WARNING gate.changed state=key why="Invalid API key"`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, followed by its traceback, with the secret masked."""
        moment = utc_text(datetime.fromtimestamp(record.created, UTC))
        fields = [f"{name}={_quoted(value)}" for name, value in vars(record).items() if name not in STANDARD_ATTRIBUTES]
        message = " ".join(record.getMessage().splitlines())
        line = " ".join((moment, record.levelname, message, *fields))
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line.replace(self._secret, "***") if self._secret else line


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


class LibraryRateLimit(logging.Filter):
    """Passes one record per library call site in ten seconds: in an outage aiokafka logs a hundred a second."""

    def __init__(self) -> None:
        super().__init__()
        self._last_passed: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record. The call site (logger and line number) identifies repetitions."""
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        site = (record.name, record.lineno)
        if record.created - self._last_passed.get(site, 0.0) < REPEAT_AFTER_S:
            return False
        self._last_passed[site] = record.created
        return True


def configure_logging(stream: TextIO | None = None, *, level: int = logging.INFO, secret: str | None = None) -> None:
    """Log to one stream (default: standard error), libraries from WARNING on.

    Every occurrence of `secret` is masked.
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(LibraryRateLimit())
    handler.setFormatter(LineFormatter(secret))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
