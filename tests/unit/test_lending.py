"""What a ticket says of the cities that it lends."""

from datetime import UTC, datetime, timedelta

from consumer.lending import MOST_WANTS, Spurned, read, written
from consumer.look import Candidate
from raingauge.contracts import MAX_CITY_ID
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import Want

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
TEXT_BYTES = 65_535
"""What MySQL's TEXT holds."""


def wanted(city_id: int, *names: str) -> Candidate:
    """A city that several collections want, each a second later than the one before."""
    moments = [NOON + timedelta(seconds=later) for later in range(len(names))]
    wants = tuple(Want(BatchRef(n, 7), city_id, moment) for n, moment in zip(names, moments, strict=True))
    return Candidate(city_id, NOON, names[0], wants)


def test_what_is_read_is_what_was_written() -> None:
    candidates = [wanted(1, "a"), wanted(2, "b", "a")]
    assert read(written(candidates)) == candidates


def test_what_nobody_may_ask_for_is_not_lent() -> None:
    assert read(written([Candidate(1, NOON, "a"), wanted(2, "a"), Candidate(3, NOON)])) == [wanted(2, "a")]


def test_an_older_version_lends_nothing() -> None:
    assert read(None) == []


def test_it_lends_no_more_than_a_column_holds() -> None:
    longest = [f"{'x' * 60}{number:04d}" for number in range(MOST_WANTS)]
    everybody = [wanted(MAX_CITY_ID - number, name) for number, name in enumerate([*longest, "one more"])]
    text = written(everybody)
    assert read(text) == everybody[:MOST_WANTS]
    assert len(text.encode()) < TEXT_BYTES
    # One that more want than there is room for is left to its owner.
    assert read(written([wanted(1, *longest, "one more"), wanted(2, "a")])) == [wanted(2, "a")]


def test_what_was_borrowed_in_vain_is_spurned_for_a_while() -> None:
    spurned = Spurned()
    spurned.add([1, 2], 60.0)
    spurned.add([2], 70.0)
    assert [sorted(spurned.at(now)) for now in (59.9, 60.0, 70.0)] == [[1, 2], [2], []]
