"""The largest plan, 30,000 cities a minute, for one lone collection, on one machine with Kafka and MariaDB.

The provider takes 0.3 s to answer and witnesses what arrives: 25 calls a second that each take a third of one. A run
lasts longer than a window, so that what was held is needed again. A shorter window would not do: held until the answer
and a window longer, a quota of five seconds can be used to 94 %.
"""

from contextlib import ExitStack
from typing import Final

from bench.databases import on_mariadb
from bench.processes import TooSlow, on_kafka, stub
from bench.report import Figure, Outcome, at_least, within_quota
from bench.size import Size

QUOTA: Final = 30_000
WINDOW_S: Final = 60.0
PER_SECOND: Final = QUOTA / WINDOW_S
LATENCY_S: Final = 0.3
USED: Final = 0.99
RAMP_S: Final = 6
"""The first seconds, in which the endpoint is probed and the first window fills, are not the steady part."""


def paid(size: Size) -> Outcome:
    """The share of the quota that is used."""
    outcome = Outcome("paid")
    for consumers in size.of((1, 3), (1,)):
        _sustain(outcome, consumers, size.of(85, 65))
    return outcome


def _sustain(outcome: Outcome, consumers: int, seconds: int) -> None:
    settings = {
        "QUOTA__CITIES_PER_WINDOW": str(QUOTA),
        "QUOTA__WINDOW_S": str(WINDOW_S),
        "QUOTA__CITIES_PER_MONTH": str(10**12),
        "QUOTA__MONTH_PACING": "none",
    }
    cities = int(PER_SECOND * (RAMP_S + seconds))
    with ExitStack() as parts:
        url = parts.enter_context(on_mariadb())
        provider = parts.enter_context(stub(LATENCY_S, WINDOW_S))
        running = parts.enter_context(on_kafka(url, provider.url, consumers, **settings))
        running.collect("lone", range(1, cities + 1))
        try:
            running.until_done(3 * (RAMP_S + seconds))
        except TooSlow as error:
            outcome.notes.append(str(error))
        witness = provider.get("/witness")
    name = f"{consumers} consumer{'s' if consumers > 1 else ''}"
    # The last second is cut short by the end, and so is the one before when calls run dry.
    steady = witness["seconds"][RAMP_S:-2]
    rate = sum(steady) / len(steady) if steady else 0.0
    outcome.add(
        Figure(f"{name}: steady", rate, "cities/s", PER_SECOND, "the quota", at_least(USED)),
        Figure(f"{name}: mean call", witness["units"] / max(1, witness["calls"]), "cities"),
        within_quota(witness["most_in_window"], QUOTA, name),
    )
    outcome.draw(name, [(float(second), float(seen)) for second, seen in enumerate(witness["seconds"])])
