"""What the producer's endpoints take, beside a bare FastAPI app that returns a constant in a process of its own.

Readings of 167 rows and progress, for ids that are all different and for one that everybody asks for; a 304; POSTs.
Of 20,000 collections 20 are under way. Then one POST of 200,000 cities, and what the producer holds for it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import requests

from bench.databases import on_mariadb
from bench.load import Ask, load
from bench.processes import CLOCK, System, memory_mb, on_kafka
from bench.report import Figure, Outcome, at_least, at_most
from bench.size import Size
from bench.stored import name_of, store_collections
from tests.support.processes import Program, program

HOT: Final = name_of(1)
TAIL: Final = 6.0
"""p99 may be as many times the bare app's."""
LARGE: Final = 200_000
PROVIDER: Final = "http://127.0.0.1:9"
"""Nobody calls it."""


@dataclass(frozen=True, slots=True)
class Contest:
    """The producer against the bare app, one after the other for each question: so both meet the same machine."""

    outcome: Outcome
    size: Size
    bare: Program
    bare_ask: Ask
    producer: Program

    def compare(self, what: str, asks: Sequence[Ask], share: float, warm_up: Sequence[Ask] = ()) -> None:
        """Keep how the producer answers these, beside the constant; `warm_up`: others to begin with."""
        bare = load(self.bare.url, [self.bare_ask], self.size)
        found = load(self.producer.url, asks, self.size, warm_up)
        self.outcome.add(
            Figure(what, found.rate, "/s", bare.rate, "bare app", at_least(share)),
            Figure(f"{what}: p50", found.p50_ms, "ms", bare.p50_ms, "bare app"),
            Figure(f"{what}: p99", found.p99_ms, "ms", bare.p99_ms, "bare app", at_most(TAIL)),
        )
        if found.failed:
            self.outcome.add(Figure(f"{what}: answered with an error", found.failed, "", bound=at_most(0)))


def api(size: Size) -> Outcome:
    """Answers a second, as a share of the bare app's; and the large POST."""
    outcome = Outcome("api")
    with program("bench.bare", settings={}) as bare:
        _reading(outcome, size, bare)
        _writing(outcome, size, bare)
    return outcome


def _reading(outcome: Outcome, size: Size, bare: Program) -> None:
    collections, with_rows = size.of((20_000, 2_000), (2_000, 200))
    with ExitStack() as parts:
        url = parts.enter_context(on_mariadb())
        store_collections(url, collections, with_rows)
        producer = parts.enter_context(on_kafka(url, PROVIDER, consumers=0)).producer
        names = [name_of(number) for number in range(1, collections + 1)]
        progress = [f"/get?id={name}&data=false" for name in names]
        rows = [f"/get?id={name}" for name in names[:with_rows]]
        tagged = _tagged(producer, progress[: size.of(4_000, 500)])
        contest = Contest(outcome, size, bare, Ask("/get?id=1"), producer)
        for what, asks, share in (
            ("progress, ids all different", [Ask(path) for path in progress], 0.22),
            ("progress, one hot id", [Ask(progress[0])], 0.45),
            ("304, ids all different", tagged, 0.22),
            ("304, one hot id", tagged[:1], 0.45),
            ("167 rows, ids all different", [Ask(path) for path in rows], 0.04),
            ("167 rows, one hot id", [Ask(rows[0])], 0.30),
        ):
            contest.compare(what, asks, share)


def _tagged(producer: Program, paths: Sequence[str]) -> list[Ask]:
    """The same questions, each with the tag of its latest answer."""
    with requests.Session() as session:
        tags = [session.get(f"{producer.url}{path}", timeout=10).headers["ETag"] for path in paths]
    asks = [Ask(path, tag=tag) for path, tag in zip(paths, tags, strict=True)]
    answer = requests.get(f"{producer.url}{asks[0].path}", headers={"If-None-Match": asks[0].tag}, timeout=10)
    if answer.status_code != 304:
        raise ValueError(f"expected a 304, not {answer.status_code}")
    return asks


def _writing(outcome: Outcome, size: Size, bare: Program) -> None:
    with ExitStack() as parts:
        url = parts.enter_context(on_mariadb())
        running = parts.enter_context(on_kafka(url, PROVIDER, consumers=0))
        _large(outcome, running)
        first, asks = (
            [Ask("/collect", "POST", body=f'{{"id": "{name}-{number}"}}') for number in range(1, 20_001)]
            for name in ("first", "then")
        )
        contest = Contest(outcome, size, bare, Ask("/collect", "POST", body='{"id": "1"}'), running.producer)
        contest.compare("POST of the 167 cities", asks, 0.12, warm_up=first)


def _large(outcome: Outcome, running: System) -> None:
    producer = running.producer
    at_rest = memory_mb(producer)
    began = CLOCK.monotonic()
    running.collect("large", range(1, LARGE + 1))
    took = CLOCK.monotonic() - began
    outcome.add(
        Figure(f"POST of {LARGE:,} cities", took, "s", 1.5, "the limit", at_most(1.0)),
        Figure("its peak memory in the producer", memory_mb(producer, "VmHWM"), "MB", 150.0, "the limit", at_most(1.0)),
        Figure("the producer at rest", at_rest, "MB"),
    )
