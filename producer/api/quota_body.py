"""What `GET /quota` and `GET /quota/proof` answer: the shapes that OpenAPI tells of, and how they are filled."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from producer.api.get_body import Time
from producer.quota import Endpoint, Proof, Standing
from raingauge.contracts import utc_text
from raingauge.pacing import MonthPacing, Pacing, month_of, next_month

State = Literal["open", "quota", "key", "provider", "database"]
WHY: Final[dict[str, str]] = {
    "open": "calls may go, as far as the window, the pace and the month allow",
    "quota": "the provider refused a call because of its own quota (429)",
    "key": "the provider does not accept the key (401 or 403)",
    "provider": "the provider gives no answers of its own",
    "database": "the database's clock stepped back, or a person closed it (`quota shut`, `quota adopt`)",
}


MONTH: Final = {
    "month": "2026-11",
    "ends_at": "2026-12-01T00:00:00.000Z",
    "budget": 1_000_000,
    "pacing": "even",
    "spent": 412_345,
    "allowed_now": 254_321,
    "forecast": 998_000,
}


class LimitBody(BaseModel):
    """What the provider takes."""

    cities_per_window: int = Field(description="Cities in any rolling window at most.", examples=[60])
    window_s: float = Field(description="The window, seconds.", examples=[60.0])
    pacing: Pacing = Field(
        description="smooth: spread over the window; burst: as soon as possible.", examples=["smooth"]
    )


class ReleaseBody(BaseModel):
    """Quota that becomes free."""

    at: Time = Field(description="When, ISO 8601 in UTC.")
    cities: int = Field(description="How many cities are free again then.", examples=[20])


class GateBody(BaseModel):
    """Whether calls may go."""

    state: State = Field(description="open, or what it is closed for.", examples=["open"])
    why: str = Field(description="The state in words.", examples=[WHY["open"]])
    blocked_until: Time | None = Field(
        description="When a closed gate is tried again, ISO 8601 in UTC; null when it is open.", examples=[None]
    )
    endpoint: Endpoint = Field(
        description="What is called: 20 cities in a group call, single cities, or unknown until a probe was answered.",
        examples=["group"],
    )


class MonthBody(BaseModel):
    """The calendar month, in UTC."""

    month: str = Field(description="Which.", examples=["2026-11"])
    ends_at: Time = Field(description="When the next begins, ISO 8601 in UTC.", examples=["2026-12-01T00:00:00.000Z"])
    budget: int = Field(description="Cities that it may spend.", examples=[1_000_000])
    pacing: MonthPacing = Field(
        description="even: never more than the elapsed share and a day's; none: at any pace.", examples=["even"]
    )
    spent: int = Field(description="Cities spent.", examples=[412_345])
    allowed_now: int = Field(description="Cities that it allows at this moment.", examples=[254_321])
    forecast: int = Field(
        description="Cities spent at its end, were each hour until then like the last one; more than the budget: "
        "the budget would end before.",
        examples=[998_000],
    )


class QuotaBody(BaseModel):
    """The quota of the provider account as it stands."""

    account: str = Field(description="The gate's name: `quota.account`.", examples=["openweather"])
    now: Time = Field(description="The database's time, ISO 8601 in UTC.")
    limit: LimitBody = Field(
        description="What the provider takes, as the gate has it.",
        examples=[{"cities_per_window": 60, "window_s": 60.0, "pacing": "smooth"}],
    )
    held: int = Field(description="Cities that count against the limit now.", examples=[40])
    free: int = Field(description="Cities that could go now, as far as the limit goes.", examples=[20])
    charges_open: int = Field(description="Charges of those held that have no answer, or none yet.", examples=[1])
    next_release: ReleaseBody | None = Field(
        description="What becomes free next; null when nothing is held.",
        examples=[{"at": "2026-11-20T16:00:20.000Z", "cities": 20}],
    )
    gate: GateBody = Field(
        description="Whether calls may go, and if not, why.",
        examples=[{"state": "open", "why": WHY["open"], "blocked_until": None, "endpoint": "group"}],
    )
    month: MonthBody = Field(description="The month's budget.", examples=[MONTH])


class WindowBody(BaseModel):
    """A half-open window."""

    begin: Time = Field(description="Its first moment, ISO 8601 in UTC to the microsecond.")
    end: Time = Field(description="The first moment after it.")


class ProofBody(BaseModel):
    """What the charges of a time say about the quota's promise."""

    since: Time = Field(alias="from", description="Begin of the time, as far as charges are kept.")
    until: Time = Field(alias="to", description="End of the time.")
    window_s: float = Field(description="The window, seconds.", examples=[60.0])
    limit: int = Field(description="Cities that any window may see, as the gate says now.", examples=[60])
    worst: int = Field(description="Cities that some window can have seen at most.", examples=[60])
    window: WindowBody | None = Field(
        description="The first such window; null when there was no charge.",
        examples=[{"begin": "2026-11-20T15:12:07.123456Z", "end": "2026-11-20T15:13:07.123456Z"}],
    )
    charges: int = Field(description="Charges whose calls can have arrived in one of the windows.", examples=[180])
    cities: int = Field(description="Cities of these charges.", examples=[3600])
    holds: bool = Field(description="Whether the promise holds: `worst` is not above `limit`.", examples=[True])


def quota_body(found: Standing) -> dict[str, Any]:
    """The body that tells how the account stands."""
    gate, terms = found.gate, found.terms
    release = found.next_release
    return {
        "account": gate.account,
        "now": utc_text(found.now),
        "limit": {"cities_per_window": terms.cities_per_window, "window_s": terms.window_s, "pacing": terms.pacing},
        "held": found.held,
        "free": found.free,
        "charges_open": found.charges_open,
        "next_release": None if release is None else {"at": utc_text(release[0]), "cities": release[1]},
        "gate": {
            "state": gate.state,
            "why": WHY[gate.state],
            "blocked_until": None if gate.state == "open" else utc_text(gate.blocked_until),
            "endpoint": found.endpoint,
        },
        "month": {
            "month": month_of(found.now),
            "ends_at": utc_text(next_month(found.now)),
            "budget": terms.cities_per_month,
            "pacing": terms.month_pacing,
            "spent": found.spent,
            "allowed_now": found.month_allows,
            "forecast": found.forecast,
        },
    }


def proof_body(found: Proof) -> dict[str, Any]:
    """The body that tells what the charges say."""
    worst, terms = found.worst, found.terms
    begin = worst.begin
    end = None if begin is None else begin + timedelta(seconds=terms.window_s)
    return {
        "from": utc_text(found.since),
        "to": utc_text(found.until),
        "window_s": terms.window_s,
        "limit": terms.cities_per_window,
        "worst": worst.cities,
        "window": None if begin is None or end is None else {"begin": _exact(begin), "end": _exact(end)},
        "charges": worst.charges,
        "cities": worst.charged,
        "holds": worst.cities <= terms.cities_per_window,
    }


def _exact(moment: datetime) -> str:
    """To the microsecond, unlike other times: a millisecond decides what lies in the window."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
