"""The messages that travel from producer to consumer: their shape, their keys, how they are read and written.

Pure: no I/O, no clock. Value: UTF-8 JSON, so that anyone can read it with a console consumer.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from raingauge.errors import NewerMessage, UndecodableMessage
from raingauge.model import BATCH_SIZE, EventState

VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 262_144
COLLECTION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""What a stored collection id looks like; ids with ":" are the system's own."""

NUMERIC_ID: Final = re.compile(r"0|-?[1-9][0-9]*")
"""An id that older contracts answer as a number, of any length; "007" remains text."""
MAX_CITY_ID: Final = 2**31 - 1
CityId = Annotated[int, Field(strict=True, ge=1, le=MAX_CITY_ID)]
Number = Annotated[int, Field(strict=True, le=2**31 - 1)]
"""What the database's integers hold: a larger one would fail there, again and again."""


TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
"""The W3C trace context of a request: version, trace, span, flags. https://www.w3.org/TR/trace-context/"""


def dead_letter_topic(topic: str) -> str:
    """The name of the topic that takes what cannot be worked on."""
    return f"{topic}.dead"


class BatchMessage(BaseModel):
    """One batch of a collection: at most 20 city ids. Unknown fields are ignored: newer producers may add some."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", json_schema_serialization_defaults_required=True
    )

    version: int = VERSION
    collection_id: str = Field(pattern=f"^{COLLECTION_ID.pattern}$")
    batch: Number = Field(ge=0)
    batches: Number = Field(ge=1)
    total: Number = Field(ge=1)
    max_age_s: Number = Field(ge=0)
    requested_at: AwareDatetime
    city_ids: tuple[CityId, ...] = Field(min_length=1, max_length=BATCH_SIZE)
    traceparent: str | None = None
    """The W3C trace context of the POST."""

    @property
    def key(self) -> str:
        """The message's key: batches of one collection spread over the partitions."""
        return f"{self.collection_id}/{self.batch}"

    def encode(self) -> bytes:
        """The message's value."""
        return self.model_dump_json(exclude_none=True).encode()


class EventMessage(BaseModel):
    """An event on its way to the notifier. Unknown fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", json_schema_serialization_defaults_required=True
    )

    version: int = VERSION
    event_id: UUID
    type: str
    user_id: str
    description: str
    created_at: AwareDatetime


def event_body(event: EventState) -> dict[str, str | int]:
    """An event as clients and webhooks see it."""
    return {
        "number": event.number,
        "event_id": event.event_id,
        "type": event.type,
        "user_id": event.user_id,
        "description": event.description,
        "status": event.status,
        "created_at": utc_text(event.created_at),
    }


def decode(value: bytes | None) -> BatchMessage:
    """Read a message's value.

    Raises:
        UndecodableMessage: it is not a batch message of this version or an older one.
        NewerMessage: its version is newer than this program knows.
    """
    if value is None:
        raise UndecodableMessage("the message has no value")
    try:
        raw = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UndecodableMessage(f"not JSON: {error}") from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UndecodableMessage("no version")
    if version > VERSION:
        raise NewerMessage(f"message version {version}, known up to {VERSION}: upgrade the consumers first")
    try:
        return BatchMessage.model_validate(raw)
    except ValidationError as error:
        raise UndecodableMessage(describe(error)) from error


def newer_version(value: bytes | None) -> NewerMessage | None:
    """Why this program cannot process a message of a newer version; None if its version is not the reason."""
    try:
        decode(value)
    except NewerMessage as error:
        return error
    except UndecodableMessage:
        pass
    return None


def describe(error: ValidationError) -> str:
    """What is wrong, in one line, without the values: they may be anything."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'message'}: {e['msg']}" for e in error.errors(include_url=False)
    )


def split(city_ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut city ids into batches of at most `BATCH_SIZE`, in their order."""
    return [tuple(city_ids[start : start + BATCH_SIZE]) for start in range(0, len(city_ids), BATCH_SIZE)]


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with a trailing Z, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
