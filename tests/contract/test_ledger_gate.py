"""The gate as all consumers of an account see it: probes, which endpoint works, and what closes and opens it."""

import math
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import Row

from consumer.gate import Event, Plan
from consumer.ledger import Reservation
from raingauge.storage.database import Database
from tests.contract.ledger_support import NOW, SECOND, Account, Consumer, milliseconds


class Consumers:
    """Two consumers of an account whose quota is never what holds them back."""

    def __init__(self, database: Database) -> None:
        self.account = Account(database, cities_per_window=6000)
        self.one = self.account.consumer("one", "auto")
        self.two = self.account.consumer("two", "auto")
        self.account.want_new(1000)

    @property
    def gate(self) -> Row[Any]:
        return self.account.gate

    def forward(self, seconds: float) -> None:
        self.account.moment.forward(seconds)

    def probe(self, endpoint: str, consumer: Consumer | None = None) -> Reservation:
        """The probe of that endpoint that may go now: one city, and nobody else may try before it is answered."""
        taken = (consumer or self.one).take()
        assert (taken.plan.endpoint, taken.plan.probe, len(taken.city_ids)) == (endpoint, True, 1)
        assert taken.clean is False
        for other in (self.one, self.two):
            assert 0 < other.refused().seconds <= 1
        return taken

    def goes(self, endpoint: str, consumer: Consumer | None = None) -> Reservation:
        """An ordinary call, or as many single ones."""
        taken = (consumer or self.two).take()
        assert (taken.plan.endpoint, taken.plan.probe) == (endpoint, False)
        assert [len(call) for call in taken.calls] == ([20] if endpoint == "group" else [1] * 20)
        return taken

    def closed(self, reason: str, seconds: float) -> None:
        """Nobody may go for that long."""
        for consumer in (self.one, self.two):
            answer = consumer.refused()
            assert (answer.reason, answer.seconds) == (reason, milliseconds(seconds))


@pytest.fixture
def consumers(database: Database) -> Consumers:
    return Consumers(database)


@pytest.fixture
def grouped(consumers: Consumers) -> Consumers:
    """Consumers who know that the group endpoint works."""
    consumers.one.report(consumers.probe("group"), Event.ANSWERED)
    return consumers


def test_the_first_call_is_a_probe_of_the_group_endpoint_and_its_answer_lets_all_go(consumers: Consumers) -> None:
    probe = consumers.probe("group")
    consumers.forward(0.2)
    changes = consumers.one.report(probe, Event.ANSWERED)
    assert changes["endpoint"] == "group"
    assert consumers.goes("group").clean
    assert (consumers.gate.endpoint, consumers.gate.endpoint_at) == ("group", NOW + 0.2 * SECOND)


@pytest.mark.parametrize("event", [Event.KEY, Event.ENDPOINT])
def test_a_group_endpoint_that_is_refused_gives_way_to_single_calls(consumers: Consumers, event: Event) -> None:
    consumers.one.report(consumers.probe("group"), event)
    assert consumers.gate.endpoint == "refused"
    consumers.two.report(consumers.probe("single", consumers.two), Event.ANSWERED)
    assert consumers.goes("single", consumers.one).clean
    assert consumers.gate.endpoint == "single"


def test_a_key_that_is_refused_by_both_endpoints_closes_the_gate_and_is_tried_every_minute(
    consumers: Consumers,
) -> None:
    consumers.one.report(consumers.probe("group"), Event.KEY)
    consumers.one.report(consumers.probe("single"), Event.KEY)
    for _ in range(3):
        consumers.closed("key", 60)
        consumers.forward(60)
        consumers.two.report(consumers.probe("single", consumers.two), Event.KEY)
    consumers.forward(60)
    consumers.one.report(consumers.probe("single"), Event.ANSWERED)
    assert consumers.gate.state == "open"
    consumers.one.report(consumers.probe("group"), Event.ANSWERED)
    consumers.goes("group")


def test_a_consumer_that_starts_with_another_key_than_the_refused_one_tries_it_once(consumers: Consumers) -> None:
    consumers.one.report(consumers.probe("group"), Event.KEY)
    same, other, worse = (consumers.account.consumer(key, "auto", key_hash=key) for key in ("one", "two", "three"))
    same.report(consumers.probe("single", same), Event.KEY)
    for starting in (worse, other):
        assert same.refused().reason == "key"
        taken = starting.take()
        assert (taken.plan, len(taken.city_ids)) == (Plan("single", probe=True), 1)
        if starting is worse:
            worse.report(taken, Event.KEY)
            assert worse.refused().seconds == milliseconds(60)
    other.report(taken, Event.ANSWERED)
    assert consumers.gate.state == "open"


def test_the_endpoint_is_looked_at_again_each_day(grouped: Consumers) -> None:
    grouped.forward(86_400 - 1)
    grouped.goes("group")
    grouped.forward(1)
    grouped.one.report(grouped.probe("group"), Event.ENDPOINT)
    grouped.one.report(grouped.probe("single"), Event.ANSWERED)
    grouped.forward(86_400)
    grouped.one.report(grouped.probe("group"), Event.KEY)
    grouped.goes("single")
    grouped.forward(86_400)
    grouped.one.report(grouped.probe("group"), Event.ANSWERED)
    grouped.goes("group")


def test_a_probe_whose_consumer_died_is_followed_by_another(consumers: Consumers) -> None:
    consumers.probe("group")
    consumers.forward(24.5)
    assert 0 < consumers.two.refused().seconds <= 0.5
    consumers.forward(0.5)
    consumers.probe("group", consumers.two)


@pytest.mark.parametrize(
    ("retry_after_s", "first_s", "second_s"),
    [(None, 60, 120), (10.0, 60, 120), (90.0, 90, 180), (math.inf, 3600, 3600)],
)
def test_a_refusal_for_quota_closes_the_gate_and_the_next_one_for_longer(
    grouped: Consumers, retry_after_s: float | None, first_s: float, second_s: float
) -> None:
    grouped.one.report(grouped.goes("group"), Event.QUOTA, retry_after_s)
    grouped.closed("quota", first_s)
    grouped.forward(first_s)
    grouped.two.report(grouped.probe("group", grouped.two), Event.QUOTA, retry_after_s)
    grouped.closed("quota", second_s)
    grouped.forward(second_s)
    grouped.one.report(grouped.probe("group"), Event.ANSWERED)
    assert grouped.goes("group").clean
    assert (grouped.gate.state, grouped.gate.strikes) == ("open", 0)


def test_refusals_in_a_row_close_the_gate_for_an_hour_at_most(grouped: Consumers) -> None:
    pauses: list[float] = []
    taken = grouped.goes("group")
    for _ in range(9):
        grouped.one.report(taken, Event.QUOTA)
        pauses.append(round(grouped.two.refused().seconds))
        grouped.forward(pauses[-1])
        taken = grouped.probe("group")
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_calls_under_way_when_the_gate_closed_neither_count_again_nor_open_it(grouped: Consumers) -> None:
    calls = [grouped.goes("group") for _ in range(4)]
    grouped.one.report(calls[0], Event.QUOTA)
    grouped.forward(1)
    for taken, event in zip(calls[1:], (Event.QUOTA, Event.ANSWERED, Event.SILENT), strict=True):
        grouped.two.report(taken, event)
        grouped.closed("quota", 59)
    assert grouped.gate.strikes == 1


def test_three_silences_in_a_row_close_the_gate_and_an_answer_opens_it(grouped: Consumers) -> None:
    for _ in range(2):
        grouped.one.report(grouped.goes("group"), Event.SILENT)
    assert grouped.goes("group").clean is False
    grouped.two.report(grouped.goes("group"), Event.SILENT)
    answer = grouped.one.refused()
    assert answer.reason == "provider"
    assert 0.5 <= answer.seconds <= 1
    grouped.forward(1)
    grouped.two.report(grouped.probe("group", grouped.two), Event.ANSWERED)
    assert grouped.goes("group").clean


def test_an_answer_between_silences_begins_the_count_anew(grouped: Consumers) -> None:
    for _ in range(3):
        for event in (Event.SILENT, Event.SILENT, Event.ANSWERED):
            grouped.one.report(grouped.goes("group"), event)
    assert (grouped.gate.state, grouped.gate.strikes) == ("open", 0)


def test_a_provider_that_stays_silent_is_tried_less_and_less_often_but_every_minute(grouped: Consumers) -> None:
    for _ in range(2):
        grouped.one.report(grouped.goes("group"), Event.SILENT)
    taken = grouped.goes("group")
    for longest in (1, 2, 4, 8, 16, 32, 60, 60):
        grouped.one.report(taken, Event.SILENT)
        seconds = grouped.two.refused().seconds
        assert longest / 2 <= seconds <= longest
        grouped.forward(longest)
        taken = grouped.probe("group")


@pytest.mark.parametrize("endpoint", ["group", "single"])
def test_an_endpoint_that_was_set_is_neither_probed_nor_given_up(database: Database, endpoint: Any) -> None:
    account = Account(database, cities_per_window=6000)
    consumer = account.consumer(endpoint=endpoint)
    account.want_new(60)
    taken = consumer.take()
    assert (taken.plan.endpoint, taken.plan.probe, taken.clean) == (endpoint, False, True)
    consumer.report(taken, Event.ENDPOINT)
    answer = consumer.refused()
    assert (answer.reason, answer.seconds) == ("provider", milliseconds(60))
    account.moment.now += timedelta(seconds=60)
    assert consumer.take().plan.probe


def test_an_ordinary_answer_changes_nothing_of_an_open_gate(grouped: Consumers) -> None:
    before = grouped.gate
    taken = grouped.goes("group")
    assert grouped.one.report(taken, Event.ANSWERED) == {}
    assert (grouped.gate.state, grouped.gate.endpoint_at) == (before.state, before.endpoint_at)
