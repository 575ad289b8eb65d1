"""Several collections in one transaction: the same as one after the other."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest, CollectionState
from raingauge.storage import collections
from raingauge.storage.collections import OtherRequest
from raingauge.storage.database import TRIES, Database
from raingauge.storage.models import Batch, Collection
from tests.contract.storage_support import NOW, rows

Answer = tuple[CollectionState, bool] | OtherRequest


def wanting(name: str, city_ids: Sequence[int] = (1, 2, 3), max_age_s: int = 600) -> CollectionRequest:
    return CollectionRequest(name, tuple(city_ids), max_age_s, named=True)


def accept_all(database: Database, *requests: CollectionRequest, blind: int = 0) -> list[Answer]:
    """`blind`: so many times it does not see what stands already, as if that had come after it looked."""
    blindly = iter(range(blind))

    def work(connection: Connection) -> list[Answer]:
        ids = [request.id for request in requests]
        seen = collections.find_all(connection, ids) if next(blindly, None) is None else {}
        return collections.accept_all(connection, NOW, requests, seen, 10)

    return database.write(work)


def told(answer: Answer) -> tuple[str, int, bool] | str:
    if isinstance(answer, OtherRequest):
        return "other"
    state, created = answer
    return state.id, state.total, created


def test_each_is_stored_with_its_batches(database: Database) -> None:
    answers = accept_all(database, wanting("b", range(1, 42)), wanting("a"), wanting("c", [9]))
    assert [told(answer) for answer in answers] == [("b", 41, True), ("a", 3, True), ("c", 1, True)]
    assert sorted((row.collection_id, row.batch, row.size) for row in rows(database, Batch)) == [
        *(("a", 0, 3), ("b", 0, 20), ("b", 1, 20), ("b", 2, 1), ("c", 0, 1))
    ]
    assert all(answer[0].requested_at == NOW for answer in answers if not isinstance(answer, OtherRequest))


def test_those_that_want_the_same_cities_have_the_same_batches_of_their_own(database: Database) -> None:
    several = [wanting(name, range(1, 30)) for name in ("a", "b", "c")]
    accept_all(database, *several, wanting("reversed", range(29, 0, -1)))
    stored = {(row.collection_id, row.batch): json.loads(row.city_ids) for row in rows(database, Batch)}
    assert stored == {
        **{(name, 0): list(range(1, 21)) for name in ("a", "b", "c")},
        **{(name, 1): list(range(21, 30)) for name in ("a", "b", "c")},
        ("reversed", 0): list(range(29, 9, -1)),
        ("reversed", 1): list(range(9, 0, -1)),
    }
    sizes = [(row.size, row.settled, row.attempts, row.published_at) for row in rows(database, Batch)]
    assert sizes == [(20, 0, 0, None), (9, 0, 0, None)] * 4


def test_the_same_twice_is_stored_once_and_new_once(database: Database) -> None:
    answers = accept_all(database, wanting("a"), wanting("a"), wanting("a", [3, 2, 1]), wanting("a", [7]))
    assert [told(answer) for answer in answers] == [("a", 3, True), ("a", 3, False), ("a", 3, False), "other"]
    assert len(rows(database, Batch)) == 1


def test_what_stands_already_is_compared(database: Database) -> None:
    accept_all(database, wanting("a"), wanting("b"))
    answers = accept_all(database, wanting("b", max_age_s=1), wanting("c"), wanting("a"))
    assert [told(answer) for answer in answers] == ["other", ("c", 3, True), ("a", 3, False)]


def test_of_none_there_is_none(database: Database) -> None:
    assert accept_all(database) == []


def test_one_that_comes_in_between_leaves_the_others_as_they_are(database: Database) -> None:
    accept_all(database, wanting("b"), wanting("d", [8]))
    answers = accept_all(database, wanting("a"), wanting("b"), wanting("c"), wanting("d"), blind=1)
    assert [told(answer) for answer in answers] == [("a", 3, True), ("b", 3, False), ("c", 3, True), "other"]
    assert sorted(row.id for row in rows(database, Collection)) == ["a", "b", "c", "d"]


def test_only_a_key_that_stands_already_is_taken_for_having_been_overtaken(database: Database) -> None:
    ageless: Any = None
    with pytest.raises(IntegrityError):
        accept_all(database, wanting("a", max_age_s=ageless))
    assert rows(database, Collection) == []


def test_whoever_is_always_overtaken_stores_nothing_and_says_so(database: Database) -> None:
    accept_all(database, wanting("b"))
    with pytest.raises(DatabaseUnavailable, match="other transactions are always faster"):
        accept_all(database, wanting("a"), wanting("b"), blind=TRIES)
    assert [row.id for row in rows(database, Collection)] == ["b"]
