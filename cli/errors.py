"""Errors of the command. Each has the exit status that it ends with; its message names the cause and the remedy.

CommandError    1   unexpected
├── Misused     2   the command line, a setting or a file of the user's
├── Away        3   the API cannot be reached, or cannot work now
├── Refused     4   the API refused the request
├── Unfinished  5   the collection that was waited for ended with failed cities, or was cancelled
└── Unproven    1   a proof fails: a limit was exceeded, or its file is damaged
"""

from typing import ClassVar


class CommandError(Exception):
    """The command cannot do what was requested."""

    status: ClassVar[int] = 1


class Misused(CommandError):
    """The command line, a setting or a file has to be changed."""

    status = 2


class Away(CommandError):
    """The API does not answer, or says that it cannot work now."""

    status = 3


class Refused(CommandError):
    """The API refused the request."""

    status = 4


class Unproven(CommandError):
    """A proof fails."""


class Unfinished(CommandError):
    """A collection ended with failed cities, or was cancelled."""

    status = 5
