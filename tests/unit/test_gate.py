"""The gate: what each answer means for it, and how the next call is made. All states, all events."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.gate import PROBE_RECHECK_S, Endpoint, EndpointSetting, Event, Plan, after, doubt, plan, shut
from raingauge.model import Gate
from raingauge.quota.pacing import Terms, Wait

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)
PAST, FUTURE = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
TERMS = Terms(60, 60.0, "smooth", 1_000_000, "even", timeout_s=10.0)
OPEN = Gate(
    account="test",
    cities_per_window=60,
    window_s=60.0,
    pacing="smooth",
    last_now=NOW,
    next_start_at=NOW,
    turn=0,
    state="open",
    blocked_until=PAST,
    strikes=0,
    probe_until=PAST,
    endpoint="single",
    endpoint_at=PAST,
    month="2026-11",
    month_spent=0,
    next_month_spent=0,
)
GROUP, SINGLE = Plan("group", probe=False), Plan("single", probe=False)
GROUP_PROBE, SINGLE_PROBE = Plan("group", probe=True), Plan("single", probe=True)
A, Q, K, E, S = Event.ANSWERED, Event.QUOTA, Event.KEY, Event.ENDPOINT, Event.SILENT
STATES = ["quota", "key", "provider", "database", "failover"]
OPENED = {"state": "open", "strikes": 0}


def told(
    gate: Gate,
    event: Event,
    call: Plan = SINGLE,
    setting: EndpointSetting = "auto",
    retry_after_s: float | None = None,
    now: datetime = NOW,
    jitter: float = 1.0,
) -> dict[str, Any]:
    """What changes."""
    return after(gate, now, event, call, setting, TERMS, retry_after_s, jitter)


def then(gate: Gate, event: Event, call: Plan = SINGLE, now: datetime = NOW, **more: Any) -> Gate:
    """The gate after it."""
    return replace(gate, **told(gate, event, call, now=now, **more))


def closed(state: str, strikes: int, seconds: float) -> dict[str, Any]:
    return {"state": state, "strikes": strikes, "blocked_until": NOW + timedelta(seconds=seconds)}


# -- how the next call is made -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("setting", ["auto", "group", "single"])
def test_a_closed_gate_waits_until_its_moment(state: str, setting: EndpointSetting) -> None:
    gate = replace(OPEN, state=state, blocked_until=FUTURE)
    assert plan(gate, NOW, setting, TERMS) == Wait(FUTURE, state)


PLANNED: dict[tuple[str, EndpointSetting], dict[str, Plan]] = {
    ("open", "group"): {"unknown": GROUP},
    ("open", "single"): {"unknown": SINGLE},
    ("open", "auto"): {"unknown": GROUP_PROBE, "refused": SINGLE_PROBE, "group": GROUP, "single": SINGLE},
    ("quota", "group"): {"unknown": GROUP_PROBE},
    ("quota", "single"): {"unknown": SINGLE_PROBE},
    ("quota", "auto"): {"unknown": GROUP_PROBE, "refused": SINGLE_PROBE, "group": GROUP_PROBE, "single": SINGLE_PROBE},
    ("provider", "auto"): {"group": GROUP_PROBE, "single": SINGLE_PROBE},
    ("key", "group"): {"unknown": GROUP_PROBE},
    ("key", "auto"): dict.fromkeys(["unknown", "group", "single"], SINGLE_PROBE),
    ("database", "group"): {"unknown": GROUP},
    ("database", "auto"): {"group": GROUP, "single": SINGLE},
    ("failover", "auto"): {"group": GROUP, "single": SINGLE},
}


@pytest.mark.parametrize(("case", "planned"), PLANNED.items())
def test_when_its_moment_has_come_a_probe_goes(case: tuple[str, EndpointSetting], planned: dict[str, Plan]) -> None:
    state, setting = case
    gates = {endpoint: replace(OPEN, state=state, blocked_until=NOW, endpoint=endpoint) for endpoint in planned}
    assert {endpoint: plan(gate, NOW, setting, TERMS) for endpoint, gate in gates.items()} == planned


@pytest.mark.parametrize(("age", "planned"), [(timedelta(hours=23), SINGLE), (timedelta(days=1), GROUP_PROBE)])
def test_what_auto_found_is_looked_at_again_each_day(age: timedelta, planned: Plan) -> None:
    assert plan(replace(OPEN, endpoint_at=NOW - age), NOW, "auto", TERMS) == planned


@pytest.mark.parametrize(("state", "reason"), [("quota", "quota"), ("open", "probe")])
def test_while_a_probe_is_under_way_no_other_goes(state: str, reason: str) -> None:
    gate = replace(OPEN, state=state, endpoint="unknown", probe_until=FUTURE)
    assert plan(gate, NOW, "auto", TERMS) == Wait(NOW + timedelta(seconds=PROBE_RECHECK_S), reason)
    soon = NOW + timedelta(milliseconds=10)
    assert plan(replace(gate, probe_until=soon), NOW, "auto", TERMS) == Wait(soon, reason)
    assert plan(replace(gate, probe_until=NOW), NOW, "auto", TERMS) == GROUP_PROBE


def test_a_probe_under_way_holds_no_ordinary_call_up() -> None:
    assert plan(replace(OPEN, probe_until=FUTURE), NOW, "auto", TERMS) == SINGLE


# -- all states, all events --------------------------------------------------------------------------------------------

QUOTA, KEY, PROVIDER = (closed(state, 1, 60) for state in ("quota", "key", "provider"))
SHUT = {"blocked_until": NOW + timedelta(seconds=60)}
WHEN_ITS_MOMENT_HAS_COME = {
    "open": {A: {}, Q: QUOTA, K: KEY, E: PROVIDER, S: {"strikes": 1}},
    "quota": {A: OPENED, Q: closed("quota", 2, 120), K: KEY, E: PROVIDER, S: SHUT},
    "key": {A: OPENED, Q: QUOTA, K: closed("key", 2, 60), E: PROVIDER, S: SHUT},
    "provider": {A: OPENED, Q: QUOTA, K: KEY, E: closed("provider", 2, 60), S: {"strikes": 2}},
    "database": {A: OPENED, Q: QUOTA, K: KEY, E: PROVIDER, S: {"strikes": 2}},
}
CLOSED = {
    ("quota", K): closed("key", 1, 3600),
    ("quota", E): closed("provider", 1, 3600),
    ("provider", A): OPENED,
    ("provider", Q): closed("quota", 1, 3600),
    ("provider", K): closed("key", 1, 3600),
}
"""All others change nothing."""


@pytest.mark.parametrize("state", WHEN_ITS_MOMENT_HAS_COME)
@pytest.mark.parametrize("event", list(Event))
def test_each_event_when_the_gate_is_open_or_its_moment_has_come(state: str, event: Event) -> None:
    gate = replace(OPEN, state=state, strikes=0 if state == "open" else 1)
    assert told(gate, event) == WHEN_ITS_MOMENT_HAS_COME[state][event]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", list(Event))
def test_each_event_from_a_call_that_was_under_way_when_the_gate_closed(state: str, event: Event) -> None:
    gate = replace(OPEN, state=state, strikes=1, blocked_until=FUTURE)
    assert told(gate, event) == CLOSED.get((state, event), {})


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", ["open", *STATES])
def test_an_answered_probe_makes_way_for_the_next(state: str, event: Event) -> None:
    gate = replace(OPEN, state=state, probe_until=FUTURE)
    assert told(gate, event, SINGLE_PROBE)["probe_until"] == NOW
    assert "probe_until" not in told(gate, event, SINGLE)


GATES = st.builds(
    replace,
    st.just(OPEN),
    state=st.sampled_from(["quota", "key", "database"]),
    strikes=st.integers(0, 40),
    blocked_until=st.integers(1, 10_000).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    endpoint=st.sampled_from(["unknown", "refused", "group", "single"]),
)


@settings(deadline=None)
@given(GATES, st.sampled_from(Event), st.sampled_from([GROUP, SINGLE, GROUP_PROBE, SINGLE_PROBE]), st.floats(0, 1))
def test_nothing_that_comes_late_opens_a_gate_earlier(gate: Gate, event: Event, call: Plan, jitter: float) -> None:
    changed = then(gate, event, call, jitter=jitter)
    assert changed.state != "open"
    assert changed.blocked_until >= gate.blocked_until


# -- quota, key and silence over time ----------------------------------------------------------------------------------


def test_refused_probes_double_the_wait_up_to_an_hour() -> None:
    gate, now, waits = OPEN, NOW, []
    for _ in range(8):
        gate = then(gate, Q, SINGLE_PROBE, now)
        waits.append((gate.blocked_until - now).total_seconds())
        now = gate.blocked_until
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


@pytest.mark.parametrize(("asked", "seconds"), [(5, 60), (90, 90), (7200, 3600), (None, 60), (0, 60)])
def test_the_provider_may_ask_for_a_longer_wait_which_doubles_but_no_shorter(
    asked: float | None, seconds: float
) -> None:
    assert told(OPEN, Q, retry_after_s=asked) == closed("quota", 1, seconds)
    again = told(replace(OPEN, state="quota", strikes=1), Q, retry_after_s=asked)
    assert again == closed("quota", 2, min(3600, 2 * seconds))


def test_a_bad_key_is_told_until_another_reason_lasts_longer() -> None:
    gate = then(OPEN, K)
    assert not told(gate, Q)
    assert told(gate, Q, retry_after_s=61.0) == closed("quota", 1, 61)


def test_three_silences_in_a_row_close_the_gate_for_longer_and_longer() -> None:
    gate = OPEN
    for event in (S, S, A, S, S):
        gate = then(gate, event)
    assert (gate.state, gate.strikes) == ("open", 2), "an answer in between forgets the silences"
    gate, now, waits = OPEN, NOW, []
    for _ in range(10):
        gate = then(gate, S, SINGLE, now)
        waits.append((gate.blocked_until - now).total_seconds() if gate.state == "provider" else 0)
        now = max(now, gate.blocked_until)
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_halves_the_wait_after_silence_at_most() -> None:
    gate = replace(OPEN, strikes=2)
    assert told(gate, S, jitter=0.0) == closed("provider", 3, 0.5)
    assert told(gate, S, jitter=1.0) == closed("provider", 3, 1.0)


@pytest.mark.parametrize(("state", "window_s", "seconds"), [("quota", 6.0, 6), ("quota", 600.0, 60), ("key", 6.0, 60)])
def test_a_probe_without_an_answer_leaves_the_gate_closed_as_it_was(
    state: str, window_s: float, seconds: float
) -> None:
    gate = replace(OPEN, state=state, strikes=3)
    changes = after(gate, NOW, S, SINGLE_PROBE, "auto", replace(TERMS, window_s=window_s), None, 0.5)
    assert changes == {"probe_until": NOW, "blocked_until": NOW + timedelta(seconds=seconds)}


# -- finding the endpoint ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [K, E])
@pytest.mark.parametrize(
    ("known", "then_known"),
    [("unknown", "refused"), ("refused", "refused"), ("group", "refused"), ("single", "single")],
)
def test_a_refused_group_call_has_the_single_endpoint_asked(event: Event, known: str, then_known: str) -> None:
    gate = replace(OPEN, endpoint=known)
    assert told(gate, event, GROUP) == {"endpoint": then_known, "endpoint_at": NOW}


@pytest.mark.parametrize(
    ("setting", "event", "state"), [("group", K, "key"), ("group", E, "provider"), ("single", K, "key")]
)
def test_an_endpoint_that_was_chosen_by_hand_is_not_doubted(setting: EndpointSetting, event: Event, state: str) -> None:
    call = GROUP if setting == "group" else SINGLE
    assert told(OPEN, event, call, setting) == closed(state, 1, 60)


@pytest.mark.parametrize(
    ("known", "call", "found"),
    [
        ("unknown", GROUP_PROBE, {"endpoint": "group", "endpoint_at": NOW}),
        ("single", GROUP_PROBE, {"endpoint": "group", "endpoint_at": NOW}),
        ("group", GROUP_PROBE, {"endpoint": "group", "endpoint_at": NOW}),
        ("group", GROUP, {}),
        ("refused", SINGLE_PROBE, {"endpoint": "single", "endpoint_at": NOW}),
        ("unknown", SINGLE_PROBE, {}),
        ("single", SINGLE, {}),
    ],
)
def test_an_answer_tells_which_endpoint_works(known: str, call: Plan, found: dict[str, Any]) -> None:
    changes = told(replace(OPEN, endpoint=known), A, call)
    changes.pop("probe_until", None)
    assert changes == found


def a_call(gate: Gate, now: datetime, answers: dict[Endpoint, Event]) -> tuple[Plan, Gate]:
    """Make the call that the gate plans; each endpoint answers as said."""
    planned = plan(gate, now, "auto", TERMS)
    assert isinstance(planned, Plan), f"waits: {planned}"
    return planned, then(gate, answers[planned.endpoint], planned, now)


def test_a_plan_without_the_group_endpoint_is_found_with_two_probes_and_looked_at_daily() -> None:
    answers: dict[Endpoint, Event] = {"group": K, "single": A}
    gate, calls = replace(OPEN, endpoint="unknown"), []
    for hours in (0, 0, 0, 23, 24, 24, 47):
        planned, gate = a_call(gate, NOW + timedelta(hours=hours), answers)
        calls.append(planned)
    assert calls == [GROUP_PROBE, SINGLE_PROBE, SINGLE, SINGLE, GROUP_PROBE, SINGLE, SINGLE]
    assert gate.state == "open"


@pytest.mark.parametrize("works", ["group", "single"])
def test_while_no_endpoint_answers_the_probes_alternate_and_the_one_that_works_is_used(works: Endpoint) -> None:
    gate, now, calls = replace(OPEN, endpoint="unknown"), NOW, []
    for number in range(9):
        answers: dict[Endpoint, Event] = {"group": S, "single": S}
        if number >= 6:
            answers[works] = A
        planned, gate = a_call(gate, now, answers)
        calls.append(planned.endpoint)
        now = max(now, gate.blocked_until)
    assert calls[:7] == ["group", "group", "group", "single", "group", "single", "group"]
    assert (gate.state, gate.endpoint, calls[8]) == ("open", works, works)
    # An outage may have hidden that the group endpoint works.
    again = plan(gate, now + timedelta(minutes=10), "auto", TERMS)
    assert again == (GROUP if works == "group" else GROUP_PROBE)


def test_silence_is_an_outage_of_an_endpoint_that_has_worked_and_changes_nothing_at_the_daily_look() -> None:
    gate = replace(OPEN, endpoint_at=NOW - timedelta(days=1))
    planned, gate = a_call(gate, NOW, {"group": S})
    assert (planned, gate.is_untroubled, plan(gate, NOW, "auto", TERMS)) == (GROUP_PROBE, True, SINGLE)
    gate = replace(OPEN, endpoint="group", strikes=2)
    assert then(gate, S, GROUP).endpoint == "group"
    assert then(replace(gate, endpoint="unknown"), S, GROUP, setting="group").endpoint == "unknown"


def test_a_key_that_was_not_tried_yet_is_tried_at_once_unless_it_is_the_refused_one() -> None:
    gate = replace(OPEN, state="key", blocked_until=FUTURE, refused_key="a")
    assert [plan(gate, NOW, "auto", TERMS, key) for key in ("a", None)] == [Wait(FUTURE, "key")] * 2
    assert plan(gate, NOW, "auto", TERMS, "b") == SINGLE_PROBE
    assert plan(replace(gate, state="quota"), NOW, "auto", TERMS, "b") == Wait(FUTURE, "quota")


def test_a_bad_key_closes_the_gate_is_probed_each_minute_and_the_group_endpoint_found_afterwards() -> None:
    gate, now = replace(OPEN, endpoint="unknown"), NOW
    bad: dict[Endpoint, Event] = {"group": K, "single": K}
    planned, gate = a_call(gate, now, bad)
    assert (planned, gate.state) == (GROUP_PROBE, "open")
    for _ in range(3):
        planned, gate = a_call(gate, now, bad)
        assert (planned, gate.state, gate.endpoint) == (SINGLE_PROBE, "key", "unknown")
        assert plan(gate, now, "auto", TERMS) == Wait(now + timedelta(seconds=60), "key")
        now += timedelta(seconds=60)
    calls = []
    for _ in range(3):
        planned, gate = a_call(gate, now, {"group": A, "single": A})
        calls.append(planned)
    assert calls == [SINGLE_PROBE, GROUP_PROBE, GROUP]


def test_group_calls_that_were_under_way_with_a_bad_key_do_not_speak_against_their_endpoint_unless_it_is_gone() -> None:
    gate = replace(OPEN, endpoint="group")
    for event, call in ((K, GROUP), (K, SINGLE_PROBE), (K, GROUP), (K, GROUP)):
        gate = then(gate, event, call)
    assert (gate.state, gate.strikes, gate.endpoint) == ("key", 1, "unknown")
    assert told(replace(gate, endpoint="single"), E, GROUP)["endpoint"] == "single"
    assert told(gate, E, GROUP) == {"endpoint": "refused", "endpoint_at": NOW}


# -- the database ------------------------------------------------------------------------------------------------------

WORST = timedelta(seconds=85)
"""D + T + M + W of these terms."""


@pytest.mark.parametrize(
    ("stored", "seen", "changes"),
    [
        ("one", "one", {}),
        ("one", None, {}),
        (None, None, {}),
        (None, "one", {"database_id": "one"}),
        ("one", "two", {"database_id": "two", "state": "failover", "blocked_until": NOW + WORST}),
    ],
)
def test_another_server_closes_the_gate_for_the_longest_hold_and_an_unknown_one_is_noted(
    stored: str | None, seen: str | None, changes: dict[str, Any]
) -> None:
    assert doubt(replace(OPEN, database_id=stored), NOW, seen, TERMS) == changes


@pytest.mark.parametrize("state", STATES)
def test_another_server_never_shortens_what_closed_the_gate(state: str) -> None:
    gate = replace(OPEN, database_id="one", state=state, blocked_until=FUTURE)
    assert doubt(gate, NOW, "two", TERMS) == {"database_id": "two", "state": "failover", "blocked_until": FUTURE}


@pytest.mark.parametrize(("seen", "state"), [("one", "database"), ("two", "failover")])
def test_a_clock_that_stepped_back_begins_a_new_time_on_any_server(seen: str, state: str) -> None:
    gate = replace(OPEN, database_id="one", last_now=FUTURE, next_start_at=FUTURE, probe_until=FUTURE)
    changes = doubt(gate, NOW, seen, TERMS)
    assert (changes["state"], changes["last_now"], changes["next_start_at"]) == (state, NOW, NOW)
    assert changes["blocked_until"] == changes["probe_until"] == NOW + WORST


def test_a_gate_that_was_opened_by_hand_closes_no_longer_than_another() -> None:
    gate = replace(OPEN, database_id="one", blocked_until=FUTURE)
    assert doubt(gate, NOW, "two", TERMS)["blocked_until"] == NOW + WORST


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("left_s", "is_longer"), [(3600, True), (84, False), (-60, False)])
def test_a_gate_that_is_shut_or_whose_clock_stepped_back_closes_never_for_shorter_than_it_was(
    state: str, left_s: float, is_longer: bool
) -> None:
    left = timedelta(seconds=left_s)
    stays, until = is_longer and state == "quota", NOW + (left if is_longer else WORST)
    expected = {"state": "quota" if stays else "database", "blocked_until": until}
    gate = replace(OPEN, state=state, strikes=3, blocked_until=NOW + left)
    assert shut(gate, NOW, TERMS, since=NOW) == expected
    gate = replace(gate, last_now=FUTURE, blocked_until=FUTURE + left)
    changes = doubt(gate, NOW, None, TERMS)
    assert {name: changes[name] for name in expected} == expected
    assert plan(replace(gate, **changes), until, "auto", TERMS) == (SINGLE_PROBE if stays else SINGLE)
