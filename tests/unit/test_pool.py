"""The pool: whatever happens, nothing wanted is lost or stands twice, and collections are served in turn."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from consumer.pool import Pool, Turn
from raingauge.pacing import FIRST_FEW
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import OpenBatch, Want

SINCE = datetime(2026, 11, 20, 16, tzinfo=UTC)
COLLECTIONS = ["a", "b", "c"]
REFS = [BatchRef(collection_id, batch) for collection_id in COLLECTIONS for batch in range(3)]
CITIES = range(1, 16)


def batch(collection_id: str, cities: Iterable[int], number: int = 0, since: datetime = SINCE) -> OpenBatch:
    return OpenBatch(BatchRef(collection_id, number), since, tuple(cities))


def pool_of(*batches: OpenBatch) -> Pool:
    pool = Pool()
    for one in batches:
        pool.add(one)
    return pool


def ids(turns: Sequence[Turn]) -> list[int]:
    return [turn.city_id for turn in turns]


def taken(pool: Pool, most: int = 20) -> list[int]:
    return ids(pool.take(most)[0])


def jain(shares: Sequence[int]) -> float:
    """Jain's fairness index: 1 when all have the same."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


# -- against a naive model ---------------------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """Anything that a consumer does to its pool, in any order, beside a model that only keeps sets."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()
        self.wanted: dict[tuple[BatchRef, int], datetime] = {}
        self.calls: list[list[Turn]] = []
        self.rests: dict[int, float] = {}
        self.alone: set[int] = set()
        self.now = 0.0

    @property
    def cities(self) -> set[int]:
        return {city_id for _, city_id in self.wanted}

    @property
    def out(self) -> set[int]:
        return {turn.city_id for call in self.calls for turn in call}

    @property
    def ready(self) -> set[int]:
        return self.cities - self.out - set(self.rests)

    def forget(self) -> None:
        """A city that nobody wants any more is forgotten with all that is known of it."""
        held = self.cities | self.out
        self.rests = {city_id: until for city_id, until in self.rests.items() if city_id in held}
        self.alone &= held

    @rule(ref=st.sampled_from(REFS), cities=st.sets(st.sampled_from(CITIES), min_size=1), age=st.integers(0, 3))
    def add(self, ref: BatchRef, cities: set[int], age: int) -> None:
        since = SINCE - timedelta(minutes=age)
        for _ in range(2):
            self.pool.add(OpenBatch(ref, since, tuple(cities)))
        self.wanted |= {(ref, city_id): since for city_id in cities}

    @rule(most=st.integers(1, 20))
    def take(self, most: int) -> None:
        turns, together = self.pool.take(most)
        assert not self.ready & self.alone or not together
        eligible = self.ready if together else self.ready & self.alone
        assert len(turns) == len(set(ids(turns))) == min(most, len(eligible))
        assert set(ids(turns)) <= eligible
        for turn in turns:
            of_it = {ref: since for (ref, city_id), since in self.wanted.items() if city_id == turn.city_id}
            assert turn.since == min(of_it.values())
            assert turn.collection_id in {ref.collection_id for ref in of_it}
        self.in_turn(turns, eligible - set(ids(turns)))
        self.pool.give_back(turns)
        assert self.pool.take(most) == (turns, together), "given back, they stand where they stood"
        if turns:
            self.calls.append(turns)

    def in_turn(self, turns: Sequence[Turn], left: set[int]) -> None:
        """Who still waits for a city got at most one fewer than anybody else."""
        got = Counter(turn.collection_id for turn in turns)
        waiting = {ref.collection_id for ref, city_id in self.wanted if city_id in left}
        assert all(got[collection_id] >= max(got.values()) - 1 for collection_id in waiting)

    @rule(cities=st.sets(st.sampled_from(CITIES), min_size=1))
    def borrow(self, cities: set[int]) -> None:
        mine = cities - self.out
        assert set(self.pool.borrow(cities)) == mine
        self.calls.append([Turn(city_id, SINCE, "nobody") for city_id in sorted(mine)])
        self.calls = [call for call in self.calls if call]

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.calls) - 1))
        granted = data.draw(st.sets(st.sampled_from(self.calls[number])))
        self.pool.give_back([turn for turn in self.calls[number] if turn not in granted])
        self.calls[number] = [turn for turn in self.calls[number] if turn in granted]
        self.calls = [call for call in self.calls if call]
        self.forget()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), seconds=st.integers(0, 30), alone=st.booleans())
    def put_back(self, data: st.DataObject, seconds: int, alone: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        cities = data.draw(st.sets(st.sampled_from(ids(call))))
        self.pool.put_back(cities, self.now + seconds, alone=alone)
        self.rests |= dict.fromkeys(cities, self.now + seconds)
        self.alone |= cities if alone else set()

    @rule(cities=st.sets(st.sampled_from(CITIES)), seconds=st.integers(0, 30), alone=st.booleans())
    def put_back_what_was_asked_for_on_nobodys_behalf(self, cities: set[int], seconds: int, alone: bool) -> None:
        known = cities & (self.cities | self.out)
        self.pool.put_back(cities, self.now + seconds, alone=alone)
        self.rests |= dict.fromkeys(known, self.now + seconds)
        self.alone |= known if alone else set()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.pool.come_back(ids(call))
        self.forget()

    @rule(seconds=st.integers(0, 20))
    def wake(self, seconds: int) -> None:
        self.now += seconds
        self.pool.wake(self.now)
        self.rests = {city_id: until for city_id, until in self.rests.items() if until > self.now}

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        stored = data.draw(st.sets(st.sampled_from(sorted(self.wanted))))
        before = {ref for ref, _ in self.wanted}
        settled = self.pool.settle([Want(ref, city_id, SINCE) for ref, city_id in stored])
        self.wanted = {key: since for key, since in self.wanted.items() if key not in stored}
        assert sorted(settled) == sorted(before - {ref for ref, _ in self.wanted})
        self.forget()

    @rule(ref=st.sampled_from(REFS), city_id=st.sampled_from(CITIES))
    def settle_what_may_not_be_wanted(self, ref: BatchRef, city_id: int) -> None:
        if (ref, city_id) not in self.wanted:
            assert self.pool.settle([Want(ref, city_id, SINCE)]) == []

    @rule(ref=st.sampled_from(REFS))
    def drop(self, ref: BatchRef) -> None:
        stays = {city_id for of, city_id in self.wanted if of == ref} & self.out
        assert self.pool.drop(ref) is bool(stays)
        self.wanted = {
            (of, city_id): since for (of, city_id), since in self.wanted.items() if of != ref or city_id in stays
        }
        self.forget()

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        assert len(self.pool) == len(self.cities | self.out)
        assert self.pool.ready == len(self.ready)
        assert {ref for ref in REFS if ref in self.pool} == {ref for ref, _ in self.wanted}
        for ref in REFS:
            assert self.pool.in_calls(ref) is ({city_id for of, city_id in self.wanted if of == ref} <= self.out)
        wants = self.pool.wants(CITIES)
        assert len(wants) == len(self.wanted)
        assert {(want.ref, want.city_id): want.since for want in wants} == self.wanted
        wakes = [until for city_id, until in self.rests.items() if city_id not in self.out]
        assert not wakes or (self.pool.next_wake is not None and self.pool.next_wake <= min(wakes))

    def teardown(self) -> None:
        """In the end each city still wanted can be taken, once."""
        for call in self.calls:
            self.pool.come_back(ids(call))
        self.pool.wake(float("inf"))
        assert self.pool.next_wake is None
        assert set(ids(self.pool.take_new(200))) <= self.cities
        self.pool.come_back(self.cities)
        left: list[int] = []
        while turns := self.pool.take(7)[0]:
            left += ids(turns)
            assert len(left) <= len(CITIES), "some city is taken again and again"
        assert sorted(left) == sorted(self.cities)
        settled = self.pool.settle(self.pool.wants(left))
        assert sorted(settled) == sorted({ref for ref, _ in self.wanted})
        self.pool.come_back(left)
        assert len(self.pool) == 0


def test_whatever_happens_nothing_wanted_is_lost_or_stands_twice() -> None:
    run_state_machine_as_test(PoolMachine, settings=settings(max_examples=80, stateful_step_count=40, deadline=None))


# -- turns -------------------------------------------------------------------------------------------------------------


def test_collections_are_served_in_turn_and_each_in_its_order() -> None:
    pool = pool_of(batch("big", range(100, 120)), batch("small", [1, 2, 3]), batch("other", [50]))
    assert taken(pool, 7) == [100, 1, 50, 101, 2, 102, 3]
    assert taken(pool, 2) == [103, 104]


def test_a_call_is_filled_from_one_collection_when_no_other_wants_anything() -> None:
    assert taken(pool_of(batch("only", range(1, 31)))) == list(range(1, 21))


def test_the_first_few_of_a_newcomer_are_at_hand_however_many_others_there_are() -> None:
    pool = pool_of(*(batch(f"big{number}", range(100 * number, 100 * number + 20)) for number in range(1, 41)))
    for number in range(1, 41):
        first = list(range(100 * number, 100 * number + FIRST_FEW))
        pool.settle(pool.wants(first))
    pool.add(batch("new", range(1, 21)))
    turns, together = pool.take(20)
    new = pool.take_new(200)
    assert (together, ids(new)) == (True, list(range(1, 1 + FIRST_FEW)))
    assert {turn.collection_id for turn in new} == {"new"}
    pool.give_back([*turns, *new])
    pool.settle(pool.wants([1, 2, 3]))
    assert ids(pool.take_new(4)) == [4, 5, 6, 7]


def test_nobody_is_new_for_ever() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("b", range(11, 31)))
    assert ids(pool.take_new(200)) == [1, 2, 11, 12, 13, 14, 15]
    pool.come_back([1, 2, *range(11, 16)])
    pool.settle(pool.wants([1, 2, *range(11, 16)]))
    assert pool.take_new(200) == []
    pool.add(batch("b", range(31, 41), number=1))
    assert pool.take_new(200) == []
    pool.settle(pool.wants(range(11, 41)))
    pool.add(batch("b", [50], number=2))
    assert ids(pool.take_new(200)) == [50]


def test_the_turn_goes_on_where_the_last_call_left_it() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("b", [11, 12]), batch("c", [21, 22]))
    assert taken(pool, 2) == [1, 11]
    assert taken(pool, 4) == [21, 2, 12, 22]


@given(
    sizes=st.lists(st.integers(1, 20), min_size=10, max_size=30),
    collections=st.integers(2, 7),
    chance=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=40)
def test_equal_collections_get_equal_shares(sizes: list[int], collections: int, chance: Any) -> None:
    pool = pool_of(*(batch(f"c{n}", range(1 + 1000 * n, 601 + 1000 * n)) for n in range(collections)))
    got = Counter({f"c{n}": 0 for n in range(collections)})
    for size in sizes:
        turns, _ = pool.take(size)
        granted = turns[: chance.randint(0, size)]
        pool.give_back(turns[len(granted) :])
        pool.settle(pool.wants(ids(granted)))
        pool.come_back(ids(granted))
        got.update(turn.collection_id for turn in granted)
    assert max(got.values()) - min(got.values()) <= 1
    assert min(got.values()) < 10 or jain(list(got.values())) >= 0.99


def test_what_was_settled_without_a_call_costs_its_collection_no_turn() -> None:
    fresh = batch("small", range(1, 161))
    pool = pool_of(batch("big", range(1000, 2000)), fresh, batch("small", range(161, 168), number=1))
    pool.settle(fresh.wants)
    assert sorted(city_id for city_id in taken(pool, 14) if city_id < 1000) == list(range(161, 168))


def test_a_city_in_a_call_for_one_collection_costs_the_other_no_turn() -> None:
    pool = pool_of(batch("a", [1, 2, 3, 4]), batch("b", [1, 2, 3, 4]), batch("c", [11, 12]))
    turns, _ = pool.take(6)
    assert Counter(turn.collection_id for turn in turns) == {"a": 2, "b": 2, "c": 2}


def test_what_comes_again_after_a_drop_stands_in_the_queue_once() -> None:
    pool = pool_of(batch("a", [1, 2, 3]))
    for _ in range(3):
        assert pool.drop(BatchRef("a", 0)) is False
        pool.add(batch("a", [1, 2, 3]))
    assert taken(pool) == [1, 2, 3]
    assert taken(pool) == []


# -- cities that several batches want ----------------------------------------------------------------------------------


def test_a_city_that_two_batches_want_is_asked_for_once_and_settles_both() -> None:
    pool = pool_of(batch("a", [1]), batch("b", [1]), batch("b", [1, 2], number=1))
    assert taken(pool) == [1, 2]
    assert pool.settle(pool.wants([1])) == [BatchRef("a", 0), BatchRef("b", 0)]
    assert BatchRef("b", 1) in pool
    assert pool.settle(pool.wants([2])) == [BatchRef("b", 1)]


def test_the_most_lenient_of_those_who_want_a_city_decides_how_old_its_observation_may_be() -> None:
    older = SINCE - timedelta(minutes=5)
    pool = pool_of(batch("a", [1]), batch("b", [1], since=older))
    assert pool.take(1) == ([Turn(1, older, "a")], True)


def test_who_wants_a_city_while_it_is_in_a_call_gets_it_when_it_comes_back() -> None:
    pool = pool_of(batch("a", [1]))
    taken(pool)
    asked_for = pool.wants([1])
    pool.add(batch("b", [1]))
    assert taken(pool) == []
    assert pool.settle(asked_for) == [BatchRef("a", 0)]
    pool.come_back([1])
    assert taken(pool) == [1]


# -- giving back, putting back, dropping -------------------------------------------------------------------------------


def test_who_comes_to_want_a_borrowed_city_waits_for_its_call_and_is_settled_by_it() -> None:
    pool = pool_of(batch("a", [1, 2]))
    assert pool.borrow([2, 3]) == [2, 3]
    pool.add(batch("b", [3]))
    assert taken(pool) == [1]
    assert pool.borrow([1, 2, 3]) == [], "these come back with the calls that took them"
    settled = pool.settle(pool.wants([3]))
    assert settled == [BatchRef("b", 0)]
    pool.come_back([2, 3])
    assert (taken(pool), len(pool)) == ([2], 2)


def test_what_was_not_granted_stands_where_it_stood() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("b", [11]), batch("c", [21, 22, 23]))
    turns, _ = pool.take(5)
    assert ids(turns) == [1, 11, 21, 2, 22]
    pool.give_back(turns[2:])
    assert taken(pool) == [21, 2, 22, 23]


def test_given_back_for_a_collection_that_gave_up_a_city_stands_in_the_queue_of_the_other() -> None:
    pool = pool_of(batch("a", [1]), batch("b", [2, 1]))
    turns, _ = pool.take(1)
    pool.settle([Want(BatchRef("a", 0), 1, SINCE)])
    pool.give_back(turns)
    turns, _ = pool.take(5)
    assert [(turn.city_id, turn.collection_id) for turn in turns] == [(2, "b"), (1, "b")]


def test_given_back_after_nobody_wants_it_any_more_it_is_gone() -> None:
    pool = pool_of(batch("a", [1]))
    turns, _ = pool.take(1)
    pool.settle(pool.wants([1]))
    assert len(pool) == 1
    pool.give_back(turns)
    assert len(pool) == 0


def test_a_city_asked_for_in_vain_rests_until_its_moment() -> None:
    pool = pool_of(batch("a", [1, 2]))
    taken(pool, 1)
    pool.put_back([1], until=10.0)
    pool.come_back([1])
    assert pool.next_wake == 10.0
    assert taken(pool) == [2]
    pool.wake(9.9)
    assert taken(pool) == []
    pool.wake(10.0)
    assert taken(pool) == [1]
    assert pool.next_wake is None


def test_a_city_put_back_is_nobody_elses_until_its_call_has_come_back() -> None:
    pool = pool_of(batch("a", [1]))
    taken(pool)
    pool.put_back([1], until=0.0, alone=True)
    pool.wake(5.0)
    assert (pool.ready, taken(pool)) == (0, [])
    pool.come_back([1])
    assert pool.take(20) == ([Turn(1, SINCE, "a")], False)


def test_a_call_that_comes_back_twice_does_not_end_the_next_one() -> None:
    pool = pool_of(batch("a", [1, 2]))
    taken(pool, 1)
    pool.put_back([1], until=5.0)
    pool.come_back([1])
    pool.come_back([1])
    assert taken(pool) == [2]


def test_an_old_rest_does_not_wake_a_city_that_rests_anew() -> None:
    pool = pool_of(batch("a", [1]))
    for until in (10.0, 30.0):
        taken(pool)
        pool.put_back([1], until)
        pool.come_back([1])
        pool.drop(BatchRef("a", 0))
        pool.add(batch("a", [1]))
    taken(pool)
    pool.put_back([1], until=50.0)
    pool.come_back([1])
    pool.wake(30.0)
    assert taken(pool) == []
    pool.wake(50.0)
    assert taken(pool) == [1]


def test_a_city_asked_for_on_nobodys_behalf_in_vain_rests_for_those_who_want_it_since() -> None:
    pool = pool_of()
    pool.put_back([1], until=10.0, alone=True)
    pool.come_back([1])
    assert (len(pool), pool.wants([1]), pool.next_wake) == (0, [], None)
    pool.add(batch("a", [1, 2]))
    pool.put_back([1], until=10.0, alone=True)
    pool.come_back([1])
    assert pool.take(20) == ([Turn(2, SINCE, "a")], True)
    pool.wake(10.0)
    assert pool.take(20) == ([Turn(1, SINCE, "a")], False)


def test_cities_to_be_asked_for_alone_never_ride_with_others() -> None:
    pool = pool_of(batch("a", [1, 2, 3]))
    taken(pool, 2)
    pool.put_back([1, 2], until=0.0, alone=True)
    pool.come_back([1, 2])
    pool.add(batch("b", [2, 4]))
    pool.wake(0.0)
    turns, together = pool.take(20)
    assert (ids(turns), together) == ([1, 2], False)
    turns, together = pool.take(20)
    assert (ids(turns), together) == ([3, 4], True)


def test_once_alone_always_alone() -> None:
    pool = pool_of(batch("a", [1]))
    for alone in (True, False):
        taken(pool)
        pool.put_back([1], until=0.0, alone=alone)
        pool.come_back([1])
        pool.wake(0.0)
    assert pool.take(20) == ([Turn(1, SINCE, "a")], False)


def test_a_dropped_batch_keeps_its_cities_in_calls_until_they_come_back() -> None:
    pool = pool_of(batch("a", [1, 2, 3]))
    ref = BatchRef("a", 0)
    taken(pool, 1)
    assert pool.drop(ref) is True
    assert (len(pool), pool.ready, ref in pool) == (1, 0, True)
    pool.come_back([1])
    assert pool.drop(ref) is False
    assert (len(pool), ref in pool) == (0, False)


def test_dropping_one_batch_leaves_the_city_to_the_others() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("b", [1]))
    assert pool.drop(BatchRef("a", 0)) is False
    assert pool.take(20) == ([Turn(1, SINCE, "b")], True)


def test_an_unknown_batch_drops_in_silence() -> None:
    assert Pool().drop(BatchRef("nobody", 0)) is False
    assert Pool().settle([Want(BatchRef("nobody", 0), 1, SINCE)]) == []


def test_a_collection_is_new_while_nothing_of_it_stands_in_the_line() -> None:
    pool = Pool()
    assert pool.add(batch("a", [1])) is True
    assert pool.add(batch("a", [2], 1)) is False
    assert pool.add(batch("b", [3])) is True


def test_dropped_collections_leave_the_line_and_only_what_is_in_calls_is_waited_for() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("a", [3], 1), batch("b", [2, 4]))
    taken(pool, 1)
    assert pool.drop_collections(frozenset({"a", "nobody"})) == [BatchRef("a", 1)]
    assert ids(pool.take(20)[0]) == [2, 4]
    assert pool.settle([Want(BatchRef("a", 0), 1, SINCE)]) == [BatchRef("a", 0)]


def test_some_of_those_who_want_a_city_are_told_its_turn_first() -> None:
    pool = pool_of(batch("a", [1, 2]), batch("b", [1], number=3), batch("c", [1]))
    pool.take(20)
    assert pool.some_wants(1, "c", 2) == (Want(BatchRef("c", 0), 1, SINCE), Want(BatchRef("a", 0), 1, SINCE))
    assert pool.some_wants(2, "a", 2) == (Want(BatchRef("a", 0), 2, SINCE),)
