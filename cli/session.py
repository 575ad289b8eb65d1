"""What a command is given from outside the command line: the way to the API, and the passing of time.

Tests give a transport without a network and a pause that takes no time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from httpx2 import BaseTransport


def pause(seconds: float) -> None:
    """Do nothing for a while; Ctrl-C ends it."""
    Event().wait(seconds)


@dataclass(frozen=True, slots=True)
class Session:
    """The surroundings of one command."""

    transport: "BaseTransport | None" = None
    """None: the network."""
    pause: Callable[[float], None] = pause


def session_of(context: typer.Context) -> Session:
    """What the command was given; the network when it was given nothing."""
    return context.find_object(Session) or Session()
