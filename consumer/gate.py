"""What each charge and each answer means for the gate of an account. Pure: a gate in, the columns to change out.

States: open, or closed because of quota (429), key (401), provider (no answers), database (its clock stepped) or
failover (it is another server). A closed gate lets ONE probe of one city through when its time has come; the answer
opens it or closes it longer. Closed because of the database it needs no probe.
Endpoints under `auto`: unknown -> group, or -> refused (by the group endpoint) -> single; looked at again each day.
While neither has ever answered, the probes of a closed gate alternate between them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal

from raingauge.backoff import backoff_s
from raingauge.model import DATABASE_STATES, Gate, month_of
from raingauge.quota.pacing import Terms, Wait, next_month, next_start

Endpoint = Literal["group", "single"]
EndpointSetting = Literal["auto", "group", "single"]

CLOCK_STEP: Final = timedelta(seconds=2)
KEY_RETRY_S: Final = 60.0
QUOTA_CAP_S: Final = 3600.0
PROBE_RECHECK_S: Final = 0.2
"""How soon to look again while another's probe is under way; sooner at a faster pace."""
SILENCE_BASE_S: Final = 1.0
SILENCE_CAP_S: Final = 60.0
SILENCES: Final = 3
"""Calls without an answer, one after another, that close the gate."""
ENDPOINT_VALID_FOR: Final = timedelta(days=1)
DOUBTED_FOR: Final = timedelta(minutes=10)
"""When the group endpoint is looked at again, if the single one was found after an outage."""


class Event(Enum):
    """What became of a call."""

    ANSWERED = "answered"
    QUOTA = "quota"
    KEY = "key"
    ENDPOINT = "endpoint"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the next call is to be made, as far as the gate's state decides it."""

    endpoint: Endpoint
    probe: bool


def plan(gate: Gate, now: datetime, setting: EndpointSetting, terms: Terms, new_key: str | None = None) -> Plan | Wait:
    """Which endpoint to call and whether as a probe; or until when to wait.

    `new_key`: the hash of a key that the consumer has not used yet. It is tried at once if another one was refused.
    """
    untried = gate.state == "key" and new_key is not None and new_key != gate.refused_key
    if gate.state != "open" and gate.blocked_until > now and not untried:
        return Wait(gate.blocked_until, gate.state)
    chosen = _plan(gate, now, setting)
    if chosen.probe and gate.probe_until > now:
        # Somebody's probe is under way and will most likely be answered soon.
        again = now + timedelta(seconds=min(PROBE_RECHECK_S, terms.spread_s(1)))
        return Wait(min(gate.probe_until, again), gate.state if gate.state != "open" else "probe")
    return chosen


def _plan(gate: Gate, now: datetime, setting: EndpointSetting) -> Plan:
    closed = not gate.opens_without_probe
    if setting != "auto":
        return Plan(setting, probe=closed)
    if gate.state == "key" or gate.endpoint == "refused":
        # Any valid key may call the single endpoint, so its answer speaks of the key alone.
        return Plan("single", probe=True)
    if gate.endpoint == "unknown" or gate.endpoint_at + ENDPOINT_VALID_FOR <= now:
        return Plan("group", probe=True)
    return Plan("group" if gate.endpoint == "group" else "single", probe=closed)


def spend(gate: Gate, now: datetime, cost: int, call: Plan, terms: Terms, span_s: float = 0.0) -> dict[str, Any]:
    """The gate's columns that change with a charge; `span_s`: how long a reservation takes."""
    month, spent, next_spent = gate.counted(now)
    # The calls may arrive in the next month: then it pays for them, too.
    late = month == month_of(now) and next_month(now) - now <= timedelta(seconds=terms.claim_s)
    changes: dict[str, Any] = {
        "last_now": now,
        "next_start_at": next_start(gate.next_start_at, now, cost, terms, span_s),
        "month": month,
        "month_spent": spent + cost,
        "next_month_spent": next_spent + cost if late else next_spent,
    }
    if call.probe:
        changes["probe_until"] = now + timedelta(seconds=terms.claim_s)
        changes["blocked_until"] = min(now, gate.blocked_until)  # a new key does not wait for it, and its answer counts
    if gate.state in DATABASE_STATES:
        changes |= {"state": "open", "strikes": 0}
    return changes


def doubt(gate: Gate, now: datetime, server: str | None, terms: Terms) -> dict[str, Any]:
    """The gate's columns that change because of what a reservation sees of the database, before it trusts it.

    On another server than before the last charges may be missing, and the clock may be another; after a step back no
    moment can be compared. Either closes the gate until all that was reserved has been answered or given up, and
    released. `server` is None where servers have no identity.
    """
    known: dict[str, Any] = {} if server in {None, gate.database_id} else {"database_id": server}
    moved, stepped = bool(known) and gate.database_id is not None, now < gate.last_now - CLOCK_STEP
    if not (moved or stepped):
        return known
    changes = known | shut(gate, now, terms, gate.last_now if stepped else now)
    if moved:
        changes["state"] = "failover"
    if stepped:
        until = now + timedelta(seconds=terms.worst_hold_s)
        changes |= {"last_now": now, "next_start_at": now, "probe_until": min(gate.probe_until, until)}
    return changes


def shut(gate: Gate, now: datetime, terms: Terms, since: datetime) -> dict[str, Any]:
    """The gate's columns that change when charges may be missing: it closes for the longest hold, never for shorter.

    `since`: the present moment by the clock that it was closed by. After a step back it is the last one that is known,
    so the gate may stay closed for longer. Closed for quota for longer than the hold, it stays so and needs its probe.
    An answer could open one that is closed for the provider, and another key be tried at once: these states go.
    """
    until = now + timedelta(seconds=terms.worst_hold_s)
    as_before = now if gate.state == "open" else now + (gate.blocked_until - since)
    is_longer = gate.state == "quota" and as_before > until
    return {"state": "quota" if is_longer else "database", "blocked_until": max(until, as_before)}


def after(  # noqa: PLR0913, PLR0917
    gate: Gate,
    now: datetime,
    event: Event,
    call: Plan,
    setting: EndpointSetting,
    terms: Terms,
    retry_after_s: float | None,
    jitter: float,
) -> dict[str, Any]:
    """The gate's columns that change after an answer. `jitter` is a random number in [0, 1)."""
    changes: dict[str, Any] = {"probe_until": now} if call.probe else {}
    if event is Event.ANSWERED:
        return changes | _opened(gate, now) | _found(gate, now, call)
    if event is Event.SILENT:
        if setting == "auto" and call.endpoint == "group" and gate.endpoint == "single":
            changes["endpoint_at"] = now  # the daily look at it says nothing about the endpoint in use
        else:
            changes |= _silence(gate, now, terms, jitter)
            changes |= _other_endpoint(gate, call) if setting == "auto" and "state" in changes else {}
        return changes
    told = event is Event.KEY and gate.state == "key"
    if event in {Event.ENDPOINT, Event.KEY} and call.endpoint == "group" and setting == "auto" and not told:
        # A 401 does not tell a bad key from an endpoint that is not in the plan. The single endpoint will, or has.
        return changes | {"endpoint": "single" if gate.endpoint == "single" else "refused", "endpoint_at": now}
    if event is Event.ENDPOINT:
        return changes | _close(gate, now, "provider", KEY_RETRY_S)
    if event is Event.KEY:
        return (
            changes
            | _close(gate, now, "key", KEY_RETRY_S)
            | ({"endpoint": "unknown"} if gate.endpoint == "refused" else {})
        )
    asked = min(retry_after_s or 0.0, QUOTA_CAP_S)
    seconds = backoff_s(_strikes(gate, "quota"), max(terms.window_s, asked), QUOTA_CAP_S)
    return changes | _close(gate, now, "quota", max(seconds, asked))


def _opened(gate: Gate, now: datetime) -> dict[str, Any]:
    """An answer ends a silence at once. Otherwise no gate opens before its time: the answer is to an earlier call."""
    if gate.state not in {"open", "provider"} and gate.blocked_until > now:
        return {}
    return {} if gate.state == "open" and gate.strikes == 0 else {"state": "open", "strikes": 0}


def _found(gate: Gate, now: datetime, call: Plan) -> dict[str, Any]:
    """What an answered call says about the endpoints."""
    if call.endpoint == "group":
        return {"endpoint": "group", "endpoint_at": now} if call.probe or gate.endpoint != "group" else {}
    if gate.endpoint == "refused":
        doubtful = gate.state == "provider"
        return {"endpoint": "single", "endpoint_at": now - ENDPOINT_VALID_FOR + DOUBTED_FOR if doubtful else now}
    return {}


def _other_endpoint(gate: Gate, call: Plan) -> dict[str, Any]:
    """Which endpoint the next probe tries, after one in vain, as long as none is known to work."""
    after_silence = {("unknown", "group"): "refused", ("refused", "single"): "unknown"}
    other = after_silence.get((gate.endpoint, call.endpoint))
    return {"endpoint": other} if other else {}


def _strikes(gate: Gate, state: str) -> int:
    return gate.strikes + 1 if gate.state == state else 1


def _close(gate: Gate, now: datetime, state: str, seconds: float) -> dict[str, Any]:
    """Close the gate, never for shorter than it is; calls under way when it closed do not count once more.

    A bad key stays the reason while it closes the gate for longer: somebody has to do something about it. The database
    stays the reason in any case: the charges of earlier calls may be lost, so none of them may open the gate.
    """
    if gate.state in {state, *DATABASE_STATES} and gate.blocked_until > now:
        return {}
    until = now + timedelta(seconds=seconds)
    if gate.state != "open":
        if gate.state == "key" and gate.blocked_until >= until:
            return {}
        until = max(until, gate.blocked_until)
    return {"state": state, "strikes": _strikes(gate, state), "blocked_until": until}


def is_long_silent(gate: Gate) -> bool:
    """Whether a probe found no answer either, after silence had closed the gate."""
    return gate.state == "provider" and gate.strikes > SILENCES


def _silence(gate: Gate, now: datetime, terms: Terms, jitter: float) -> dict[str, Any]:
    """Several in a row close the gate. A probe without an answer leaves it closed for the reason that it had."""
    if gate.state != "open" and gate.blocked_until > now:
        return {}
    if gate.state in {"quota", "key"}:
        seconds = KEY_RETRY_S if gate.state == "key" else min(terms.window_s, SILENCE_CAP_S)
        return {"blocked_until": now + timedelta(seconds=seconds)}
    strikes = gate.strikes + 1
    if strikes < SILENCES:
        return {"strikes": strikes}
    seconds = backoff_s(strikes - SILENCES + 1, SILENCE_BASE_S, SILENCE_CAP_S) * (0.5 + jitter / 2)
    return {"state": "provider", "strikes": strikes, "blocked_until": now + timedelta(seconds=seconds)}
