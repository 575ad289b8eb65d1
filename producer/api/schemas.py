"""What the API answers: the response models, and how they are filled. It knows no HTTP and no SQL."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from producer.collections import Estimate, View
from producer.forecast import Reason, Status
from producer.quota import Endpoint, Proof, Standing
from raingauge.contracts import utc_text
from raingauge.model import BATCH_SIZE
from raingauge.quota.pacing import MonthPacing, Pacing, month_of, next_month
from raingauge.storage.readings import COLUMNS

ROW: Final = {
    "name": "name",
    "temperature": "temperature",
    "humidity": "humidity",
    "datetime": "fetched_at",
    "fetched_at": "fetched_at",
    "observed_at": "observed_at",
}
"""What a row shows, and which columns that is."""
MORE: Final = tuple(name for name in COLUMNS if name not in ROW.values())
"""What `fields=` can add."""

Time = Annotated[str, Field(examples=["2026-11-20T16:00:00.123Z"], json_schema_extra={"format": "date-time"})]

_DATUM: Final = {
    "city_id": 3439525,
    "name": "Young",
    "temperature": 19.4,
    "humidity": 55.0,
    "datetime": "2026-11-20T16:00:00.123Z",
    "fetched_at": "2026-11-20T16:00:00.123Z",
    "observed_at": "2026-11-20T15:53:20.000Z",
}


class Datum(BaseModel):
    """The weather of one city."""

    city_id: int = Field(description="The provider's id of the city.", examples=[3439525])
    name: str | None = Field(description="The city's name as the provider spells it.", examples=["Young"])
    temperature: float | None = Field(description="°C.", examples=[19.4])
    humidity: float | None = Field(
        description="Relative humidity, %; null when the provider left it out.", examples=[55]
    )
    datetime: Time = Field(description="The same as `fetched_at`, which is the better name.")
    fetched_at: Time = Field(description="When it was fetched from the provider, ISO 8601 in UTC.")
    observed_at: Time = Field(description="When it was so, as the provider says, ISO 8601 in UTC.")
    country: str | None = Field(None, description="Country code; with `fields=country`.", examples=["UY"])
    latitude: float | None = Field(None, description="Degrees north; with `fields=latitude`.", examples=[-32.698])
    longitude: float | None = Field(None, description="Degrees east; with `fields=longitude`.", examples=[-57.627])
    feels_like: float | None = Field(None, description="°C; with `fields=feels_like`.", examples=[18.9])
    pressure: float | None = Field(None, description="hPa; with `fields=pressure`.", examples=[1016])
    wind_speed: float | None = Field(None, description="m/s; with `fields=wind_speed`.", examples=[1.5])
    wind_deg: float | None = Field(None, description="Degrees it blows from; with `fields=wind_deg`.", examples=[220])
    clouds: float | None = Field(None, description="% of the sky; with `fields=clouds`.", examples=[0])
    visibility: float | None = Field(None, description="m; with `fields=visibility`.", examples=[10000])
    rain_1h: float | None = Field(None, description="mm in the last hour; with `fields=rain_1h`.", examples=[0.3])
    snow_1h: float | None = Field(None, description="mm in the last hour; with `fields=snow_1h`.", examples=[0.1])
    condition_id: int | None = Field(None, description="Weather code; with `fields=condition_id`.", examples=[800])
    description: str | None = Field(None, description="In words; with `fields=description`.", examples=["clear sky"])
    utc_offset_s: int | None = Field(
        None, description="Seconds local time is ahead of UTC; with `fields=utc_offset_s`.", examples=[-10800]
    )


class Failure(BaseModel):
    """A city that could not be collected."""

    city_id: int = Field(description="The id as it was asked for.", examples=[99])
    reason: str = Field(description="Why.", examples=["unknown city"])


class CollectionHead(BaseModel):
    """A collection without its rows."""

    id: str = Field(description="The collection's id.", examples=["1"])
    status: Status = Field(
        description="queued: nothing is settled yet; collecting; waiting: see `reason`; done; cancelled.",
        examples=["collecting"],
    )
    reason: Reason | None = Field(
        description="What a waiting collection waits for: the next month's budget (month), a key that the provider "
        "accepts (key), the provider, the database's clock (database), or a consumer that runs (no consumer).",
        examples=[None],
    )
    progress: float = Field(description="Settled cities / total, 0 to 1.", ge=0, le=1, examples=[0.24])
    total: int = Field(description="Distinct cities.", examples=[167])
    collected: int = Field(description="Cities with their weather.", examples=[40])
    failed: int = Field(description="Cities that could not be collected; see `errors`.", examples=[0])
    requested_at: Time = Field(description="When it was accepted, ISO 8601 in UTC.")
    finished_at: Time | None = Field(
        description="When the last city was settled, or it was cancelled; null before.", examples=[None]
    )
    expected_at: Time | None = Field(
        description="When the last city will be settled; null when nobody knows.",
        examples=["2026-11-20T16:02:40.000Z"],
    )


class CollectionBody(CollectionHead):
    """A collection and a page of its readings."""

    data: list[Datum] = Field(
        description="Readings in the order of city ids; empty with `data=false`.", examples=[[_DATUM]]
    )
    errors: list[Failure] = Field(
        description="Cities of this page that failed.", examples=[[{"city_id": 99, "reason": "unknown city"}]]
    )
    next: str | None = Field(
        description="Where the next page is; null on the last one.", examples=["/get?id=1&limit=1000&after=3441481"]
    )


class Accepted(BaseModel):
    """A collection that is accepted."""

    id: str = Field(description="The collection's id, as text.", examples=["1"])
    status: Status = Field(description="How it stands, as in `GET /get`.", examples=["queued"])
    total: int = Field(description="Distinct cities to collect.", examples=[167])
    batches: int = Field(description="Messages of at most 20 cities that they travel in.", examples=[9])
    expected_at: Time | None = Field(
        description="When the last city will be settled, if all goes on as it is, ISO 8601 in UTC; null when nobody "
        "knows.",
        examples=["2026-11-20T16:02:40.000Z"],
    )


class EstimateBody(BaseModel):
    """What a collection would cost, or costs still: `settled`, `fresh` and `cost` make `total`."""

    id: str = Field(description="The collection's id, as text.", examples=["1"])
    total: int = Field(description="Distinct cities to collect.", examples=[167])
    batches: int = Field(description="Messages of at most 20 cities that they travel in.", examples=[9])
    settled: int = Field(
        description="Cities collected or failed already; 0 unless the same request was accepted before.", examples=[0]
    )
    fresh: int = Field(
        description="Cities that need no call: observed late enough for `max_age_s`, or known to be unknown.",
        examples=[27],
    )
    cost: int = Field(
        description="Cities to ask the provider for, each one unit of the quota: fewer where other collections have "
        "the same ones fetched first; 0 when the collection is done or cancelled.",
        examples=[140],
    )
    expected_at: Time | None = Field(
        description="When it would be done if it was accepted now, ISO 8601 in UTC; of a collection that is done, when "
        "it was; null when nobody knows, and of a cancelled one.",
        examples=["2026-11-20T16:02:20.000Z"],
    )


def head(view: View) -> dict[str, Any]:
    """The fields of CollectionHead."""
    state, progress = view.state, view.progress
    return {
        "id": state.id,
        "status": progress.status,
        "reason": progress.reason,
        "progress": state.settled / state.total,
        "total": state.total,
        "collected": state.collected,
        "failed": state.failed,
        "requested_at": utc_text(state.requested_at),
        "finished_at": _text(state.finished_at),
        "expected_at": _text(progress.expected_at),
    }


def accepted(view: View) -> Accepted:
    """The answer to a POST."""
    return Accepted(
        id=view.state.id,
        status=view.progress.status,
        total=view.state.total,
        batches=_batches(view),
        expected_at=_text(view.progress.expected_at),
    )


def estimated(estimate: Estimate) -> EstimateBody:
    """The answer to a dry run."""
    view = estimate.view
    return EstimateBody(
        id=view.state.id,
        total=view.state.total,
        batches=_batches(view),
        settled=view.state.settled,
        fresh=estimate.fresh,
        cost=estimate.cost,
        expected_at=_text(view.progress.expected_at),
    )


def _batches(view: View) -> int:
    return -(-view.state.total // BATCH_SIZE)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


# -- quota -------------------------------------------------------------------------------------------------------------

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
    "allowed_now": 60,
    "forecast": 998_000,
    "outlook": "at the last hour's rate 998,000 of 1,000,000 cities are spent when the month ends",
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
    allowed_now: int = Field(
        description="Cities that it allows at this moment, of one window's at most.", examples=[60]
    )
    forecast: int = Field(
        description="Cities spent at its end, were each hour until then like the last one; more than the budget: "
        "the budget would end before.",
        examples=[998_000],
    )
    outlook: str = Field(description="The forecast in words.", examples=[MONTH["outlook"]])


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
            "allowed_now": min(found.month_allows, terms.cities_per_window),
            "forecast": found.forecast,
            "outlook": _outlook(found.forecast, terms.cities_per_month),
        },
    }


def _outlook(forecast: int, budget: int) -> str:
    if forecast > budget:
        return f"at the last hour's rate the budget of {budget:,} cities is spent before the month ends"
    return f"at the last hour's rate {forecast:,} of {budget:,} cities are spent when the month ends"


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
