"""Logs: one line an event: time, level, event name, fields. Never payloads, never the key."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from raingauge.contracts import utc_text

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
REPEATED_AFTER_S: Final = 10.0
LIBRARIES: Final = ("aiokafka", "urllib3", "alembic", "uvicorn", "asyncio")


class LineFormatter(logging.Formatter):
    """For example `2026-11-20T16:00:00.123Z WARNING gate.changed state=key why="Invalid API key"`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        moment = utc_text(datetime.fromtimestamp(record.created, UTC))
        fields = [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in STANDARD]
        message = " ".join(record.getMessage().splitlines())
        line = " ".join((moment, record.levelname, message, *fields))
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line.replace(self._secret, "***") if self._secret else line


def _shown(value: Any) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


class OnceInAWhile(logging.Filter):
    """Lets a library say the same thing once in ten seconds: in an outage aiokafka says it a hundred times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown. What is the same is told by the line of code that says it."""
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        said = (record.name, record.lineno)
        if record.created - self._said.get(said, 0.0) < REPEATED_AFTER_S:
            return False
        self._said[said] = record.created
        return True


def log_to(stream: TextIO | None = None, *, level: int = logging.INFO, secret: str | None = None) -> None:
    """Have this process log to a stream (standard error, if none is named), libraries from WARNING on.

    `secret` is masked wherever it would appear.
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(OnceInAWhile())
    handler.setFormatter(LineFormatter(secret))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
