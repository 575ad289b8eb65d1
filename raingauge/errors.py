"""Every error has one of three outcomes, told by its type. Adapters translate at the border and keep the cause.

RaingaugeError
├── Transient              wait, then try again
│   ├── DatabaseUnavailable
│   ├── HandoffUnavailable
│   ├── Overtaken             a transaction is run again
│   └── ProviderUnavailable   5xx, timeout, broken answer
│       └── NotSent           for a reason on this side, nothing was written
├── Permanent              this one thing can never work: a dead letter, or a failed reading
│   └── UndecodableMessage
└── Fatal                  wait and say so: a person has to act
    ├── NewerMessage
    ├── SettingsError
    └── GateMismatch

The provider's refusals (429, 401, 404 and the like) are answers, not errors: see `consumer.provider.port`.
"""


class RaingaugeError(Exception):
    """The root of all errors of this project."""


class Transient(RaingaugeError):
    """It may work later."""


class Permanent(RaingaugeError):
    """It will never work, however often it is tried."""


class Fatal(RaingaugeError):
    """It works again only after a person has acted."""


class DatabaseUnavailable(Transient):
    """The database does not answer."""


class HandoffUnavailable(Transient):
    """The hand-off (Kafka) does not answer, or its answer is unknown."""


class Overtaken(Transient):
    """Another transaction stored the same at the same time: run again, this one finds it."""


class ProviderUnavailable(Transient):
    """The weather provider did not give an answer of its own."""


class NotSent(ProviderUnavailable):
    """The request was not written, for a reason on this side: too late, or no socket, file or thread.

    It says nothing about the cities or the provider, and the provider has not counted it.
    """


class UndecodableMessage(Permanent):
    """The message is not a batch of any known version."""


class NewerMessage(Fatal):
    """The message has a version newer than this program knows: upgrade the consumers first."""


class SettingsError(Fatal):
    """The settings do not fit together."""


class GateMismatch(Fatal):
    """The quota's gate was made with other settings than this consumer has."""
