"""The file of a proof: what was written is read again, damage is seen, and limits are judged as they held."""

import gzip
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.__main__ import main
from raingauge.model import Charge, LedgerEntry, TermsSince
from raingauge.quota.bundle import Damaged, Header, read_entries, read_header, written
from raingauge.quota.pacing import Terms
from raingauge.quota.verification import Month, Verdict, Verification
from tests.support.windows import worst_window

EPOCH: Final = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
DECEMBER_S: Final = 3600.0
CLAIM_S: Final = 25.0
TERMS: Final = TermsSince(None, 60, 60.0, 1_000)


def second(number: float) -> datetime:
    return EPOCH + timedelta(seconds=number)


PERIOD: Final = {"since": second(0), "until": second(7200), "kept_since": second(1), "exported_at": second(7300)}
HEADER: Final = Header(account="account", software="raingauge 0.1.0", claim_s=CLAIM_S, terms=(TERMS,), **PERIOD)


def entry(number: int, reserved: float, closed: float | None, cost: int = 20) -> LedgerEntry:
    ends = second(reserved + CLAIM_S) if closed is None else second(closed)
    charge = Charge(second(reserved), ends, None if closed is None else second(closed), cost)
    return LedgerEntry(number, charge, 1, None if closed is None else "answered")


GOOD: Final = [entry(1, 0, 0.5), entry(2, 1, None), entry(3, 20, 20.5), entry(4, 100, 101)]
TOO_MUCH: Final = [*GOOD[:3], entry(4, 40, 41, cost=1)]


def verdict(entries: Sequence[LedgerEntry], header: Header = HEADER) -> Verdict:
    verification = Verification(header, CLAIM_S)
    for each in entries:
        verification.add(each)
    return verification.verdict()


def bundle(entries: Sequence[LedgerEntry], header: Header = HEADER) -> list[bytes]:
    return list(written(header, entries))


def read(lines: Sequence[bytes]) -> tuple[Header, list[LedgerEntry]]:
    return read_header(lines), list(read_entries(lines))


@pytest.mark.parametrize("entries", [[], GOOD[:1], GOOD])
def test_what_was_written_is_read_again(entries: list[LedgerEntry]) -> None:
    terms = (TERMS, TermsSince(second(50), 600, 60.0, 10**9))
    header = replace(HEADER, terms=terms, kept_since=None)
    assert read(bundle(entries, header)) == (header, entries)


LINES: Final = bundle(GOOD)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "line 1 is not JSON"),
        (LINES[1:], "not a header"),
        ([b'{"format": "raingauge-proof", "version": 2}\n'], "has version 2"),
        ([b'{"format": "raingauge-proof", "version": 1}\n'], "line 1 is not a header"),
        (LINES[:1], "line 2 is not JSON"),
        (LINES[:-1], "was cut off"),
        ([*LINES[:-1], LINES[-1][:10]], "line 6 is not JSON"),
        ([*LINES[:2], *LINES[3:]], "3 charges are in it, and 4 were written"),
        ([*LINES[:2], LINES[3], LINES[2], *LINES[4:]], "not in the order"),
        ([LINES[0].replace(b"1000", b"9000"), *LINES[1:]], "checksum differs"),
        ([*LINES[:2], LINES[2].replace(b'"cities":20', b'"cities":2'), *LINES[3:]], "checksum differs"),
        ([*LINES[:2], LINES[2].replace(b'"cities"', b'"towns"'), *LINES[3:]], "line 3 is not a charge"),
        ([*LINES[:2], LINES[2].replace(b'Z"', b'"'), *LINES[3:]], "line 3 is not a charge"),
        ([*LINES, LINES[-1]], "line 6 is not a charge"),
    ],
)
def test_damage_is_seen_and_named(lines: list[bytes], why: str) -> None:
    with pytest.raises(Damaged, match=why):
        read(lines)


def test_a_window_that_can_have_seen_too_much_is_named() -> None:
    assert verdict(GOOD).violations == []
    (violation,) = verdict(TOO_MUCH).violations
    assert "60 s from 2026-11-30 23:00:00.500000 UTC can have seen 61 cities, and 60 were allowed" in violation


MOMENTS: Final = st.lists(
    st.tuples(st.integers(0, 200), st.none() | st.integers(0, 40), st.integers(1, 40)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(MOMENTS)
def test_it_finds_the_worst_window_that_the_replay_finds(found: list[tuple[int, int | None, int]]) -> None:
    rows = sorted(found, key=lambda row: row[0])
    entries = [
        entry(number, at, None if lasts is None else at + lasts, cost) for number, (at, lasts, cost) in enumerate(rows)
    ]
    terms = Terms(60, 60.0, "burst", 1_000, "none", timeout_s=10.0)
    (judged,) = verdict(entries).windows
    assert judged.worst == worst_window([each.charge for each in entries], terms, HEADER.since, HEADER.until)


@pytest.mark.parametrize(
    ("later", "worst"),
    [
        ([], (60, 0)),  # 60 cities under the old terms are no fault of the new ones
        ([entry(4, 85, 86)], (60, 20)),
        ([entry(4, 70, 71, cost=21), entry(5, 90, 91)], (60, 41)),  # what was reserved before counts, too
    ],
)
def test_a_window_is_judged_by_the_terms_of_its_last_charge(later: list[LedgerEntry], worst: tuple[int, int]) -> None:
    before = [entry(1, 0, 1), entry(2, 0.5, 9.0), entry(3, 20, 21)]
    header = replace(HEADER, terms=(TERMS, TermsSince(second(65), 20, 60.0, 1_000)))
    found = verdict([*before, *later], header)
    assert tuple(judged.worst.cities for judged in found.windows) == worst
    assert [judged.holds for judged in found.windows] == [True, worst[1] <= 20]


def test_a_charge_at_the_end_of_a_month_counts_in_the_next_one_too_and_the_largest_budget_holds() -> None:
    entries = [entry(1, 0, 1, 60), entry(2, DECEMBER_S - 20, None, 7), entry(3, DECEMBER_S + 60, None, 5)]
    terms = (TERMS, TermsSince(second(DECEMBER_S + 1), 60, 60.0, 11))
    found = verdict(entries, replace(HEADER, terms=terms))
    assert found.months == [Month("2026-11", 67, 1_000, whole=False), Month("2026-12", 12, 1_000, whole=False)]
    found = verdict(entries, replace(HEADER, terms=(replace(TERMS, cities_per_month=11),)))
    assert found.violations[0] == "2026-11 can have seen 67 cities, and 11 were allowed"
    whole = replace(HEADER, since=EPOCH - timedelta(days=30), until=second(DECEMBER_S))
    assert [month.whole for month in verdict(entries, whole).months] == [False, True, False]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Verifies a file of these lines, where neither settings nor a database are any good."""
    monkeypatch.setenv("RAINGAUGE_NONSENSE", "1")
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", "nonsense")

    def verify(lines: Sequence[bytes], *options: str, compressed: bool = False) -> tuple[int, str, str]:
        content = b"".join(lines)
        (tmp_path / "proof").write_bytes(gzip.compress(content) if compressed else content)
        status = main(["proof", "verify", str(tmp_path / "proof"), *options])
        return status, *capsys.readouterr()

    return verify


@pytest.mark.parametrize("compressed", [False, True])
def test_the_command_prints_what_the_file_shows_and_what_it_does_not(command: Any, compressed: bool) -> None:
    status, out, err = command(LINES, compressed=compressed)
    assert (status, err) == (0, "")
    for line in (
        "file\twhole: 4 charges for 80 cities in 4 calls",
        "outcomes\t3 answered, 1 no answer",
        "limit\t60 cities in any 60 s",
        "worst window\t60 cities, from 2026-11-30 23:00:00.500000 to 2026-11-30 23:01:00.500000",
        "month 2026-11\t80 of 1,000 cities, as far as the period goes",
        "verdict\tthe limits were kept",
    ):
        assert line in out.splitlines()
    assert "upper bounds of what arrived" in out
    assert "not forgery" in out


def test_every_charge_is_printed_on_request(command: Any) -> None:
    headings, *rows = command(LINES, "--calls")[1].splitlines()
    assert headings.startswith("id\treserved_at")
    assert [row.split("\t")[0] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1] == "2\t2026-11-30 23:00:01.000000\t2026-11-30 23:00:26.000000\t20\t1\t\t"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (bundle(TOO_MUCH), "a limit was exceeded: the window of 60 s from 2026-11-30 23:00:00.500000 UTC"),
        ([*LINES[:2], *LINES[3:]], "proves nothing: 3 charges are in it, and 4 were written"),
        ([b"\x1f\x8b", *LINES], "cannot be decompressed"),
    ],
)
def test_a_proof_that_fails_ends_with_1_and_its_reason(command: Any, lines: list[bytes], line: str) -> None:
    status, _, err = command(lines)
    assert (status, line in err) == (1, True)


def test_a_longer_timeout_than_the_exporters_is_seen_by_the_charges(command: Any) -> None:
    open_longer = replace(GOOD[1], charge=replace(GOOD[1].charge, ends_at=second(1 + 75)))
    _, out, _ = command(bundle([open_longer, GOOD[3]]))
    assert "longest delay\t75 s" in out
    assert "worst window\t40 cities" in out


def test_a_file_that_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proof", "verify", "/nowhere/proof"]) == 2
    assert "No such file" in capsys.readouterr().err
