"""All errors of the project; the type decides the outcome. Adapters translate foreign errors and keep the cause.

RaingaugeError
├── Transient              wait and retry
│   ├── DatabaseUnavailable
│   │   └── DatabaseRefused    waiting does not help: at its start a program ends
│   ├── HandoffUnavailable
│   ├── NotDelivered          no answer of a webhook's receiver
│   ├── Overtaken             the transaction is retried
│   └── ProviderUnavailable   5xx, timeout, unreadable response
│       ├── Unreadable        200, and no weather in it
│       └── NotSent           for a reason on this side, nothing was written
├── Permanent              retrying cannot help: a dead letter, or a failed reading
│   └── UndecodableMessage
└── Fatal                  a person has to act
    ├── NewerMessage
    ├── SettingsError
    ├── UnusableFile
    └── GateMismatch

The provider's refusals (429, 401, 404) are results, not errors: see `consumer.provider.port`. The docstring of an error
begins its message in /ready.
"""


class RaingaugeError(Exception):
    """Root of all errors of this project."""


class Transient(RaingaugeError):
    """The operation may succeed later."""


class Permanent(RaingaugeError):
    """The operation can never succeed."""


class Fatal(RaingaugeError):
    """The operation can succeed only after a person has acted."""


class DatabaseUnavailable(Transient):
    """The database cannot be used now."""

    def __init__(self, why: str, shown: str = "no answer in time") -> None:
        super().__init__(why)
        self.shown = shown
        """What clients may read. `why` is for the log: it may name the host, the user and what the driver says."""


class DatabaseRefused(DatabaseUnavailable):
    """The database cannot be used, and waiting does not help."""

    def __init__(self, why: str) -> None:
        super().__init__(why, "it refuses this service")


class HandoffUnavailable(Transient):
    """The hand-off (Kafka) does not answer, or the outcome is unknown."""


class NotDelivered(Transient):
    """The receiver of a webhook did not answer. The message is short and contains nothing of what was sent."""


class Overtaken(Transient):
    """A concurrent transaction stored the same row: retry."""


class ProviderUnavailable(Transient):
    """The weather provider did not answer."""


class Unreadable(ProviderUnavailable):
    """The provider answered 200, but with no weather of the requested cities."""


class NotSent(ProviderUnavailable):
    """The request was not written, for a reason on this side: too late, or no socket, file or thread.

    It says nothing about the cities or the provider, and the provider has not counted it.
    """


class UndecodableMessage(Permanent):
    """The message is not a batch message of a known version."""


class NewerMessage(Fatal):
    """The message has a newer version than this program knows: upgrade the consumers first."""


class SettingsError(Fatal):
    """A setting is missing, invalid or in conflict with another one."""


class UnusableFile(Fatal):
    """A file of cities or places is missing, or not what it should be."""


class GateMismatch(Fatal):
    """The quota's gate was created with other settings than this consumer has."""
