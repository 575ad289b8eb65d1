"""Who sends a request: the client that a token stands for, and the request's subject for the audit log.

Endpoints and use cases read it here, wherever they are; they cannot change it. While there are no tokens, there is no
sender.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from producer.access.rates import Bucket
from raingauge.access.tokens import Scope


@dataclass(frozen=True, slots=True)
class Client:
    """The holder of a valid token."""

    name: str
    scope: Scope
    expires_at: datetime | None = None
    cities_open: int = 0
    """Unsettled cities that its open collections may have; 0: any number."""
    bucket: Bucket | None = None
    """None: it may send any number of requests a second."""


@dataclass(slots=True)
class Sender:
    """The client of one request."""

    client: Client
    digest: str
    subject: str | None = None
    """The id of what the request changes, where its path does not say so."""


current: Final[ContextVar[Sender | None]] = ContextVar("sender", default=None)
"""The sender of the request that is being answered. None if it needs no token, or if there are no tokens."""


def client() -> Client | None:
    """The client of the request that is being answered."""
    sender = current.get()
    return None if sender is None else sender.client


def note_subject(subject: str) -> None:
    """Name what this request changes, for the audit log."""
    if (sender := current.get()) is not None:
        sender.subject = subject


def requesting(subject: str) -> tuple[str | None, int]:
    """The name of the client that requests this collection, and how many cities it may have open (0: any number)."""
    note_subject(subject)
    sender = client()
    return (None, 0) if sender is None else (sender.name, sender.cities_open)
