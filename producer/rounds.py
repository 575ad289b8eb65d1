"""Answers many questions with few queries: whoever asks while a round is under way is answered by the next one.

A question joins only a round that begins after it was put, so nobody gets an answer older than the question. Asyncio
alone: it knows neither what is asked nor who answers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")

MOST: Final = 64
"""Questions in one round."""
LANES: Final = 3
"""Rounds at once."""


class Rounds(Generic[Key, Answer]):
    """Gathers questions and puts them together; the same question is put once for all who ask it.

    `load` answers those of the questions to which there is an answer. Its errors reach everybody of its round. While a
    round is under way the next one gathers; it does not wait longer than `patience_s` for it to end. When none is under
    way it gathers for `gather_s`.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]],
        *,
        most: int = MOST,
        lanes: int = LANES,
        patience_s: float = 0.0,
        gather_s: float = 0.0,
    ) -> None:
        self._load = load
        self._most = most
        self._lanes = lanes
        self._patience_s = patience_s
        self._gather_s = gather_s
        self._waiting: dict[Key, list[asyncio.Future[Answer | None]]] = {}
        self._rounds: dict[asyncio.Task[None], _Asked[Key, Answer]] = {}
        self._due: asyncio.Handle | None = None

    async def ask(self, key: Key, until: float) -> Answer | None:
        """The answer, or None: there is none. `until` is a time of the running event loop's clock.

        Raises:
            TimeoutError: there was no answer until then.
            Exception: the round met it.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Answer | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(mine)
        self._wake(loop)
        alarm = loop.call_at(until, _expire, mine)
        try:
            return await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                mine.exception()  # seen, even when this task is cancelled at the same moment
            self._give_up()
            raise
        finally:
            alarm.cancel()

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a round begin: when all who are ready to ask have asked, or when those under way take too long."""
        if self._due is None and self._waiting:
            if not self._rounds:
                gathers = self._gather_s > 0
                self._due = loop.call_later(self._gather_s, self._begin) if gathers else loop.call_soon(self._begin)
            elif len(self._rounds) < self._lanes:
                self._due = loop.call_later(self._patience_s, self._begin)

    def _begin(self) -> None:
        """Begin a round for those who wait and have not given up."""
        self._due = None
        asked: _Asked[Key, Answer] = {}
        while self._waiting and len(asked) < self._most:
            key = next(iter(self._waiting))
            if left := [future for future in self._waiting.pop(key) if not future.done()]:
                asked[key] = left
        if asked:
            task = asyncio.ensure_future(self._round(asked))
            self._rounds[task] = asked
            task.add_done_callback(self._ended)
        self._wake(asyncio.get_running_loop())

    async def _round(self, asked: "_Asked[Key, Answer]") -> None:
        try:
            answers = await self._load(list(asked))
        except Exception as error:  # noqa: BLE001
            for futures in asked.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for key, futures in asked.items():
            answer = answers.get(key)
            for future in futures:
                if not future.done():
                    future.set_result(answer)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        for futures in self._rounds.pop(task).values():
            for future in futures:
                future.cancel()  # only when the round was cancelled from outside, and nobody answers any more
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._wake(asyncio.get_running_loop())

    def _give_up(self) -> None:
        """End the rounds for which nobody waits any more; what of them has not begun yet never does."""
        for task, asked in list(self._rounds.items()):
            if all(future.done() for futures in asked.values() for future in futures):
                task.cancel()


_Asked = dict[Key, list["asyncio.Future[Answer | None]"]]


def _expire(future: "asyncio.Future[Answer | None]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())
