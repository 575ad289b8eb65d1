"""Many requests, few loads: who joins which load, and that nobody is harmed by those who give up."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from producer.single_flight import SingleFlight
from raingauge.clock import SystemClock

LONG_S = 30.0


class Library:
    """Answers a round when it is told to."""

    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.open: list[asyncio.Future[Mapping[str, str]]] = []
        self.cancelled = 0

    async def __call__(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.begun.append([*keys])
        answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self.open.append(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def answer(self, number: int) -> None:
        """Each key of that round with the number of the round."""
        self.open[number].set_result({key: f"{key}{number}" for key in self.begun[number] if key != "nobody"})


@pytest.fixture
def library() -> Library:
    return Library()


async def turns(number: int = 6) -> None:
    for _ in range(number):
        await SystemClock().sleep(0)


Asked = list["asyncio.Task[str | None]"]


async def asking(rounds: SingleFlight[str, str], *keys: str, seconds: float = LONG_S) -> Asked:
    """Ask, and wait until a round has begun if it may."""
    until = asyncio.get_running_loop().time() + seconds
    asked = [asyncio.create_task(rounds.get(key, until)) for key in keys]
    await turns()
    return asked


async def test_those_who_ask_at_once_share_a_round_and_the_same_is_asked_once(library: Library) -> None:
    asked = await asking(SingleFlight(library, loads_at_once=1), "a", "b", "a", "nobody")
    assert library.begun == [["a", "b", "nobody"]]
    library.answer(0)
    assert await asyncio.gather(*asked) == ["a0", "b0", "a0", None]


async def test_nobody_gets_an_answer_that_is_older_than_the_question(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    first = await asking(rounds, "a")
    later = await asking(rounds, "a", "a")
    assert library.begun == [["a"]]
    library.answer(0)
    await turns()
    assert library.begun == [["a"], ["a"]]
    library.answer(1)
    assert await asyncio.gather(*first, *later) == ["a0", "a1", "a1"]


async def test_a_round_has_a_largest_size(library: Library) -> None:
    asked = await asking(SingleFlight(library, keys_at_once=2, loads_at_once=2), "a", "b", "c", "d", "e")
    assert library.begun == [["a", "b"], ["c", "d"]]
    library.answer(1)
    await turns()
    assert library.begun[2:] == [["e"]]
    library.answer(0)
    library.answer(2)
    assert await asyncio.gather(*asked) == ["a0", "b0", "c1", "d1", "e2"]


async def test_a_round_that_takes_long_does_not_hold_up_those_who_come_after_it(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=2, patience_s=0.01)
    slow = await asking(rounds, "slow")
    quick = await asking(rounds, "quick")
    assert library.begun == [["slow"]]
    while len(library.begun) < 2:
        await turns(1)
    library.answer(1)
    assert await asyncio.gather(*quick) == ["quick1"]
    library.answer(0)
    assert await asyncio.gather(*slow) == ["slow0"]


async def test_an_error_reaches_all_of_its_round_and_nobody_else(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    asked = await asking(rounds, "a", "a", "b")
    later = await asking(rounds, "a")
    library.open[0].set_exception(ZeroDivisionError())
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in found] == [ZeroDivisionError] * 3
    await turns()
    library.answer(1)
    assert await asyncio.gather(*later) == ["a1"]


async def test_one_who_gives_up_does_not_disturb_the_others(library: Library) -> None:
    first, second, other = await asking(SingleFlight(library, loads_at_once=1), "a", "a", "b")
    first.cancel()
    await turns()
    assert (first.cancelled(), library.cancelled) == (True, 0)
    library.answer(0)
    assert (await second, await other) == ("a0", "b0")


async def test_a_round_for_which_nobody_waits_any_more_is_given_up(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    asked = await asking(rounds, "a", "b")
    for task in asked:
        task.cancel()
    await turns()
    assert library.cancelled == 1
    again = await asking(rounds, "a")
    library.answer(1)
    assert await asyncio.gather(*again) == ["a1"]


async def test_what_was_given_up_before_it_began_is_never_asked(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    under_way = await asking(rounds, "a")
    given_up, stays = await asking(rounds, "b", "c")
    given_up.cancel()
    await turns()
    library.answer(0)
    await turns()
    assert library.begun == [["a"], ["c"]]
    library.answer(1)
    assert await asyncio.gather(*under_way, stays) == ["a0", "c1"]


async def test_everybody_has_a_deadline_of_their_own(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    (hasty,), (patient,) = await asyncio.gather(asking(rounds, "a", seconds=0.01), asking(rounds, "a"))
    with pytest.raises(TimeoutError):
        await hasty
    assert library.cancelled == 0
    library.answer(0)
    assert await patient == "a0"


async def test_when_all_deadlines_have_passed_the_next_round_begins(library: Library) -> None:
    rounds = SingleFlight(library, loads_at_once=1)
    hasty = await asking(rounds, "a", "b", seconds=0.01)
    found = await asyncio.gather(*hasty, return_exceptions=True)
    assert [type(error) for error in found] == [TimeoutError] * 2
    await turns()
    assert library.cancelled == 1
    later = await asking(rounds, "c")
    library.answer(1)
    assert await asyncio.gather(*later) == ["c1"]


async def test_a_round_that_is_ended_from_outside_ends_the_waiting() -> None:
    async def ended(keys: Sequence[str]) -> Mapping[str, str]:
        raise asyncio.CancelledError

    (asked,) = await asking(SingleFlight(ended), "a")
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_what_is_asked_within_the_time_of_gathering_shares_the_first_round(library: Library) -> None:
    rounds = SingleFlight(library, gather_s=0.01)
    first = await asking(rounds, "a")
    second = await asking(rounds, "b")
    assert library.begun == []
    while not library.begun:
        await turns(1)
    library.answer(0)
    assert await asyncio.gather(*first, *second) == ["a0", "b0"]
    assert library.begun == [["a", "b"]]
