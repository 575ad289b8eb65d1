"""When schedules run: the nights on which clocks change, missed times, expressions that name none, words."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.schedules.times import Times, WrongExpression
from raingauge.model import EPOCH

BERLIN = "Europe/Berlin"
BACK = datetime(2026, 10, 24, 20, tzinfo=UTC)
"""At 03:00 of the next day the clocks go back to 02:00."""
FORWARD = datetime(2026, 3, 28, 20, tzinfo=UTC)
"""At 02:00 of the next day the clocks go forward to 03:00."""


@pytest.mark.parametrize(
    ("cron", "evening", "local"),
    [
        ("30 2 * * *", BACK, ["25 02:30+0200", "26 02:30+0100"]),  # once, although the time is there twice
        ("15,45 2 * * *", BACK, ["25 02:15+0200", "25 02:45+0200", "26 02:15+0100"]),
        ("0 * * * *", BACK, ["24 23:00+0200", "25 00:00+0200", "25 01:00+0200", "25 02:00+0200", "25 02:00+0100"]),
        ("30 2 * * *", FORWARD, ["29 03:00+0200", "30 02:30+0200"]),  # at the end of the gap
        ("0 2,3 * * *", FORWARD, ["29 03:00+0200", "30 02:00+0200"]),  # both fall on one moment
        ("0 * * * *", FORWARD, ["28 22:00+0100", "28 23:00+0100", "29 00:00+0100", "29 01:00+0100", "29 03:00+0200"]),
    ],
)
def test_on_the_nights_when_clocks_change(cron: str, evening: datetime, local: list[str]) -> None:
    times = Times(cron, zone=BERLIN)
    found = times.following(evening, len(local))
    assert [f"{times.local(at):%d %H:%M%z}" for at in found] == local


@pytest.mark.parametrize("minutes", range(0, 180, 20))
def test_within_the_hour_that_is_repeated_the_next_time_is_after_now(minutes: int) -> None:
    now = datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=minutes)
    first, tomorrow = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert Times("30 2 * * *", zone=BERLIN).after(now) == (first if now < first else tomorrow)


@given(
    st.sampled_from(["*/7 * * * *", "0 */2 * * *", "30 2 * * *", "10 1-3 * * SUN"]),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
def test_times_follow_each_other_wherever_one_begins(cron: str, zone: str, start: datetime) -> None:
    times = Times(cron, zone=zone)
    found = times.following(start.replace(tzinfo=UTC), 6)
    assert found[0] > start.replace(tzinfo=UTC)
    assert all(earlier < later for earlier, later in pairwise(found))
    assert [times.after(at) for at in found[:-1]] == found[1:]


@pytest.mark.parametrize(("every_s", "expected"), [(60, 0), (90, 30), (7200, 0), (86_400, 0)])
def test_every_few_seconds_counts_from_the_epoch(every_s: int, expected: int) -> None:
    first, second = Times(every_s=every_s).following(datetime(2026, 11, 20, 12, 0, 7, tzinfo=UTC), 2)
    assert (first - EPOCH) % timedelta(seconds=every_s) == timedelta()
    assert (second - first, first.second) == (timedelta(seconds=every_s), expected)


@pytest.mark.parametrize("times", [Times("*/5 * * * *", zone=BERLIN), Times(every_s=300)])
def test_of_many_times_the_last_are_found_without_counting_through_all(times: Times) -> None:
    end = datetime(2026, 11, 20, 12, 2, tzinfo=UTC)
    newest = datetime(2026, 11, 20, 12, tzinfo=UTC)
    five = timedelta(minutes=5)
    assert times.last(datetime(1990, 1, 1, tzinfo=UTC), end, 3) == ([newest - 2 * five, newest - five, newest], True)
    assert times.last(newest - 2 * five, end, 3) == ([newest - 2 * five, newest - five, newest], False)
    assert times.last(newest - five, newest, 3) == ([newest - five, newest], False)
    assert times.last(newest + timedelta(seconds=1), end, 3) == ([], False)


def test_rare_times_are_found_over_decades() -> None:
    found, more = Times("0 0 29 2 *").last(datetime(1999, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), 10)
    assert ([at.year for at in found], more) == ([2000, 2004, 2008, 2012, 2016, 2020, 2024], False)


@pytest.mark.parametrize(
    ("times", "runs"),
    [
        (Times("0 0 * * *"), [31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]),
        (Times("0,30 6 1 1 *", zone=BERLIN), [0, 2, *[0] * 10]),
        (Times("0 * * * SUN"), [24 * sundays for sundays in (4, 5, 4, 4, 4, 5, 4, 4, 5, 4, 5, 4)]),
        (Times(every_s=86_400), [31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]),
    ],
)
def test_runs_of_the_next_twelve_months_are_counted(times: Times, runs: list[int]) -> None:
    found = times.runs_by_month(datetime(2026, 11, 20, tzinfo=UTC))
    assert [count for _, count in found] == runs
    assert found[0][0] == datetime(2026, 12, 1, tzinfo=UTC)


EXPRESSIONS = ("* * * *", "* * * * * *", "@hourly", "61 * * * *", "0 0 30 2 *", "0 0 * * MON\0")
WRONG: list[tuple[str, dict[str, Any]]] = [
    *(("cron", {"cron": cron}) for cron in (*EXPRESSIONS, "0 0 * * " + ",".join(["MON"] * 50))),
    *(("cron", neither_or_both) for neither_or_both in ({}, {"cron": "0 * * * *", "every_s": 60})),
    *(("every_s", {"every_s": seconds}) for seconds in (59, 31_536_001)),
    *(("zone", {"every_s": 60, "zone": zone}) for zone in ("Mars/Base", "../../etc/passwd", "localtime", "")),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG)
def test_an_expression_that_names_no_times_is_refused_with_the_field(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(WrongExpression) as error:
        Times(**wrong)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (Times("0 * * * *"), "At the start of every hour"),
        (Times("30 6 * * MON-FRI", zone=BERLIN), "At 06:30 on Monday through Friday (Europe/Berlin)"),
        (
            Times("0 * * * *", zone="Mars/Base", checked=False),
            "At the start of every hour (this machine does not know the time zone Mars/Base)",
        ),
        (Times(every_s=60), "Every minute"),
        (Times(every_s=5400), "Every 90 minutes"),
        (Times(every_s=100), "Every 100 seconds"),
        (Times(every_s=172_800), "Every 2 days"),
    ],
)
def test_the_expression_is_put_in_words(times: Times, words: str) -> None:
    assert times.words() == words
