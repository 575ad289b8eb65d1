"""`python -m consumer dead-letters …`: lists what could not be worked on, and publishes it again after a fix.

What was replayed is noted in the dead letters' own topic, after them: a message without key and value whose one header
names the letter. A group's committed offset would be forgotten after a week (`offsets.retention.minutes`), would
outlive a topic that is deleted, and cannot say that letter 7 was replayed but letter 6 was not.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Final

from aiokafka.errors import KafkaError

from consumer.letters import ANSWER_S, DeadLetters, Letter
from raingauge.clock import SystemClock
from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from raingauge.errors import Fatal, HandoffUnavailable, Permanent
from raingauge.messaging.kafka import KafkaPublisher, servers_of
from raingauge.messaging.kafka_client import said
from raingauge.messaging.port import Publisher
from raingauge.settings import Settings

STORE_S: Final = 30.0

Address = tuple[int, int]
"""A letter's own partition and offset, in the topic of the dead letters."""


async def list_all(settings: Settings, answer_s: float = ANSWER_S) -> None:
    """Print one line for each dead letter.

    Raises:
        Fatal: Kafka does not answer.
    """
    topic, servers = dead_letter_topic(settings.broker.topic), servers_of(settings.broker.url)
    with _told_in_one_line(servers):
        async with DeadLetters(servers, topic, answer_s) as letters:
            replayed, count = await letters.replayed(), 0
            async for letter in letters.read():
                if letter.replayed is None:
                    print(letter.line(letter.address in replayed))  # noqa: T201
                    count += 1
            print(f"{count} dead letters in {topic}", file=sys.stderr)  # noqa: T201


async def replay(settings: Settings, chosen: Address | None, store_s: float = STORE_S) -> None:
    """Publish dead letters to the topic again: the chosen one, or all that were not replayed before.

    A letter is noted as replayed once it is stored. Ended in between, it is replayed again: twice is better than never,
    and a batch that is settled costs nothing.

    Raises:
        Fatal: Kafka does not answer, there is no such letter, or some are too large for the topic by now.
    """
    topic, servers = settings.broker.topic, servers_of(settings.broker.url)
    done, too_large = 0, []
    with _told_in_one_line(servers):
        async with DeadLetters(servers, dead_letter_topic(topic)) as letters, AsyncExitStack() as opened:
            publisher: Publisher | None = None
            try:
                async for letter in _wanted(letters, chosen):
                    # Not before it is needed: a client that is ended while it starts leaves a connection behind.
                    if publisher is None:
                        publisher = await opened.enter_async_context(_publisher(servers))
                    try:
                        await _replay(publisher, topic, letter, store_s)
                        done += 1
                    except Permanent:
                        too_large.append(letter.address)
            finally:
                print(f"{done} replayed to {topic}")  # noqa: T201
    if too_large:
        raise Fatal(f"larger than {topic} takes (max.message.bytes): {', '.join(too_large)}")
    if chosen is not None and not done:
        raise Fatal("there is no dead letter {}/{}".format(*chosen))


def _publisher(servers: Sequence[str]) -> KafkaPublisher:
    """For all that a topic may take by now: whether a letter is too large for it says the broker."""
    return KafkaPublisher(servers, SystemClock(), max_message_bytes=2 * MAX_MESSAGE_BYTES)


async def _wanted(letters: DeadLetters, chosen: Address | None) -> AsyncIterator[Letter]:
    """The letter chosen, replayed or not; without a choice those that were not replayed."""
    replayed = await letters.replayed()
    async for letter in letters.read():
        wanted = letter.address not in replayed if chosen is None else (letter.partition, letter.offset) == chosen
        if wanted and letter.replayed is None:
            yield letter


async def _replay(publisher: Publisher, topic: str, letter: Letter, store_s: float) -> None:
    publish = partial(publisher.publish, topic, letter.key, letter.value, letter.original_headers)
    await _stored(publish, store_s)
    await _stored(partial(publisher.publish, dead_letter_topic(topic), None, None, letter.note), store_s)


async def _stored(publish: Callable[[], Awaitable[None]], store_s: float) -> None:
    """Return when it is stored."""
    try:
        async with asyncio.timeout(store_s):
            while True:
                try:
                    return await publish()
                except HandoffUnavailable:
                    continue  # perhaps it is stored: twice is better than never
    except TimeoutError:
        raise Fatal(f"nothing was stored within {store_s:g} s: is Kafka up, and is the topic there?") from None


@contextmanager
def _told_in_one_line(servers: Sequence[str]) -> Iterator[None]:
    """Kafka's troubles as one line for a person, without the library's own."""
    library = logging.getLogger("aiokafka")
    before = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        why = f": {said(error)}" if str(error) else ""
        raise Fatal(f"Kafka does not answer at {','.join(servers)}{why}") from error
    finally:
        library.setLevel(before)
