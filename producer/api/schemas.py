"""What the API answers: the response models, and how they are filled. It knows no HTTP and no SQL."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from producer.collections import Estimate
from producer.forecast import Reason, Status
from producer.pages import ROW
from producer.quota import Course, Endpoint, Proof, Standing
from producer.views import View
from raingauge.contracts import utc_text
from raingauge.model import batches_of
from raingauge.quota.pacing import MonthPacing, Pacing, Terms, next_month
from raingauge.storage.readings import COLUMNS

MORE: Final = tuple(name for name in COLUMNS if name not in ROW)
"""What `fields=` can add."""

Time = Annotated[str, Field(examples=["2026-11-20T16:00:00.123Z"], json_schema_extra={"format": "date-time"})]


def field(description: str, example: Any, default: Any = ...) -> Any:
    """A field of a body with its sentence and an example; without a default it is always there."""
    return Field(default, description=description, examples=[example])


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """What a body looks like, by the examples of its fields."""
    fields = {name: field for name, field in model.model_fields.items() if field.is_required()}
    return {name: (field.examples or [None])[0] for name, field in fields.items()}


class Datum(BaseModel):
    """The weather of one city."""

    city_id: int = field("The provider's id of the city.", 3439525)
    name: str | None = field("The city's name as the provider spells it.", "Young")
    temperature: float | None = field("°C, or as `units` says.", 19.4)
    humidity: float | None = field("Relative humidity, %; null when the provider left it out.", 55)
    datetime: Time = Field(description="The same as `fetched_at`, which is the better name.")
    fetched_at: Time = Field(description="When it was fetched from the provider, ISO 8601 in UTC.")
    observed_at: Time = Field(description="When it was so, as the provider says, ISO 8601 in UTC.")
    country: str | None = field("Country code; with `fields=country`.", "UY", default=None)
    latitude: float | None = field("Degrees north; with `fields=latitude`.", -32.698, default=None)
    longitude: float | None = field("Degrees east; with `fields=longitude`.", -57.627, default=None)
    feels_like: float | None = field("°C, or as `units` says; with `fields=feels_like`.", 18.9, default=None)
    pressure: float | None = field("hPa; with `fields=pressure`.", 1016, default=None)
    wind_speed: float | None = field("m/s, or as `units` says; with `fields=wind_speed`.", 1.5, default=None)
    wind_deg: float | None = field("Degrees it blows from; with `fields=wind_deg`.", 220, default=None)
    clouds: float | None = field("% of the sky; with `fields=clouds`.", 0, default=None)
    visibility: float | None = field("m; with `fields=visibility`.", 10000, default=None)
    rain_1h: float | None = field("mm in the last hour; with `fields=rain_1h`.", 0.3, default=None)
    snow_1h: float | None = field("mm in the last hour; with `fields=snow_1h`.", 0.1, default=None)
    condition_id: int | None = field("Weather code; with `fields=condition_id`.", 800, default=None)
    description: str | None = field("In words; with `fields=description`.", "clear sky", default=None)
    utc_offset_s: int | None = field(
        "Seconds local time is ahead of UTC; with `fields=utc_offset_s`.", -10800, default=None
    )


class Failure(BaseModel):
    """A city that could not be collected."""

    city_id: int = field("The id as it was asked for.", 99)
    reason: str = field("Why.", "unknown city")


class CollectionHead(BaseModel):
    """A collection without its rows."""

    id: str = field("The collection's id.", "1")
    status: Status = field(
        "queued: nothing is settled yet; collecting; waiting: see `reason`; done; cancelled.", "collecting"
    )
    reason: Reason | None = field(
        "What a waiting collection waits for: more of the month's budget (month), a key that the provider "
        "accepts (key), the provider, the database's clock (database), a database that is another server than before "
        "(failover), a consumer that runs (no consumer), or one that "
        "can process a message of a newer version (newer message).",
        None,
    )
    progress: float = Field(description="Settled cities / total, 0 to 1.", ge=0, le=1, examples=[0.24])
    total: int = field("Distinct cities.", 167)
    collected: int = field("Cities with their weather.", 40)
    failed: int = field("Cities that could not be collected; see `errors`.", 0)
    requested_at: Time = Field(description="When it was accepted, ISO 8601 in UTC.")
    finished_at: Time | None = field("When the last city was settled, or it was cancelled; null before.", None)
    expected_at: Time | None = field(
        "When the last city will be settled; null when nobody knows.", "2026-11-20T16:02:40.000Z"
    )
    readings_pruned_at: Time = field(
        "Only where the readings were deleted because of their age (`retention.readings_days`): when.",
        "2026-12-20T16:00:00.000Z",
        default="",
    )


class ListedCollection(CollectionHead):
    """A collection in a list."""

    requested_by: str = Field(
        default_factory=str, description="The name of the token that requested it, if one did.", examples=["nightly"]
    )


class CollectionBody(CollectionHead):
    """A collection and a page of its readings."""

    data: list[Datum] = field("Readings in the order of city ids; empty with `data=false`.", [example_of(Datum)])
    errors: list[Failure] = field("Cities of this page that failed.", [example_of(Failure)])
    next: str | None = field("Where the next page is; null on the last one.", "/get?id=1&limit=1000&after=3441481")


class AcceptedBody(BaseModel):
    """A collection that is accepted."""

    id: str = field("The collection's id, as text.", "1")
    status: Status = field("How it stands, as in `GET /get`.", "queued")
    total: int = field("Distinct cities to collect.", 167)
    batches: int = field("Messages of at most 20 cities that they travel in.", 9)
    expected_at: Time | None = field(
        "When the last city will be settled, if all goes on as it is, ISO 8601 in UTC; null when nobody knows.",
        "2026-11-20T16:02:40.000Z",
    )


class EstimateBody(BaseModel):
    """What a collection would cost, or costs still: `settled`, `fresh` and `cost` make `total`."""

    id: str = field("The collection's id, as text.", "1")
    total: int = field("Distinct cities to collect.", 167)
    batches: int = field("Messages of at most 20 cities that they travel in.", 9)
    settled: int = field("Cities collected or failed already; 0 unless the same request was accepted before.", 0)
    fresh: int = field("Cities that need no call: observed late enough for `max_age_s`, or known to be unknown.", 27)
    cost: int = field(
        "Cities to request, one unit of quota each; fewer if other collections fetch them first; "
        "0 when the collection is done or cancelled.",
        140,
    )
    expected_at: Time | None = field(
        "When it would be done if it was accepted now, ISO 8601 in UTC; of a collection that is done, when "
        "it was; null when nobody knows, and of a cancelled one.",
        "2026-11-20T16:02:20.000Z",
    )


def head(view: View) -> dict[str, Any]:
    """The fields of CollectionHead."""
    state, progress = view.state, view.progress
    pruned_at = state.readings_pruned_at
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
        **({} if pruned_at is None else {"readings_pruned_at": utc_text(pruned_at)}),
    }


def listed(view: View) -> dict[str, Any]:
    """The fields of ListedCollection."""
    by = view.state.requested_by
    return head(view) if by is None else head(view) | {"requested_by": by}


def accepted(view: View) -> AcceptedBody:
    """The answer to a POST."""
    return AcceptedBody(
        id=view.state.id,
        status=view.progress.status,
        total=view.state.total,
        batches=batches_of(view.state.total),
        expected_at=_text(view.progress.expected_at),
    )


def estimated(estimate: Estimate) -> EstimateBody:
    """The answer to a dry run."""
    view = estimate.view
    return EstimateBody(
        id=view.state.id,
        total=view.state.total,
        batches=batches_of(view.state.total),
        settled=view.state.settled,
        fresh=estimate.fresh,
        cost=estimate.cost,
        expected_at=_text(view.progress.expected_at),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


# -- quota -------------------------------------------------------------------------------------------------------------

State = Literal["open", "quota", "key", "provider", "database", "failover"]
WHY: Final[dict[str, str]] = {
    "open": "calls may go, as far as the window, the pace and the month allow",
    "quota": "the provider refused a call because of its own quota (429)",
    "key": "the provider does not accept the key (401 or 403)",
    "provider": "no usable answers come from the provider",
    "database": "the database's clock stepped back, or a person closed the gate (`quota shut`, `quota adopt`)",
    "failover": "the database is another server than before, and its last charges may be missing",
}


def _outlook(forecast: int, budget: int) -> str:
    if forecast > budget:
        return f"at the last hour's rate the budget of {budget:,} cities is spent before the month ends"
    return f"at the last hour's rate {forecast:,} of {budget:,} cities are spent when the month ends"


class LimitBody(BaseModel):
    """What the provider takes."""

    cities_per_window: int = field("Cities in any rolling window at most.", 60)
    window_s: float = field("The window, seconds.", 60.0)
    pacing: Pacing = field("smooth: spread over the window; burst: as soon as possible.", "smooth")


class ReleaseBody(BaseModel):
    """Quota that becomes free."""

    at: Time = Field(description="When, ISO 8601 in UTC.")
    cities: int = field("How many cities are free again then.", 20)


class GateBody(BaseModel):
    """Whether calls may go."""

    state: State = field("open, or what it is closed for.", "open")
    why: str = field("The state in words.", WHY["open"])
    blocked_until: Time | None = field(
        "When a closed gate is tried again, ISO 8601 in UTC; null when it is open.", None
    )
    endpoint: Endpoint = field(
        "What is called: 20 cities in a group call, single cities, or unknown until a probe was answered.", "group"
    )


class MonthBody(BaseModel):
    """The calendar month, in UTC."""

    month: str = field("Which.", "2026-11")
    ends_at: Time = field("When the next begins, ISO 8601 in UTC.", "2026-12-01T00:00:00.000Z")
    budget: int = field("Cities that it may spend.", 1_000_000)
    pacing: MonthPacing = field("even: never more than the elapsed share and a day's; none: at any pace.", "even")
    spent: int = field("Cities spent.", 412_345)
    allowed_now: int = field("Cities that it allows at this moment, of one window's at most.", 60)
    forecast: int = field(
        "Cities spent at its end, at the last hour's rate; above the budget: it runs out early.",
        998_000,
    )
    outlook: str = field("The forecast in words.", _outlook(998_000, 1_000_000))


class QuotaBody(BaseModel):
    """The quota of the provider account as it stands."""

    account: str = field("The gate's name: `quota.account`.", "openweather")
    now: Time = Field(description="The database's time, ISO 8601 in UTC.")
    limit: LimitBody = field("What the provider takes, as the gate has it.", example_of(LimitBody))
    held: int = field("Cities that count against the limit now.", 40)
    free: int = field("Cities that could go now, as far as the limit goes.", 20)
    charges_open: int = field("Charges of those held that have no answer, or none yet.", 1)
    next_release: ReleaseBody | None = field(
        "What becomes free next; null when nothing is held.", {"at": "2026-11-20T16:00:20.000Z", "cities": 20}
    )
    gate: GateBody = field("Whether calls may go, and if not, why.", example_of(GateBody))
    month: MonthBody = field("The month's budget.", example_of(MonthBody))
    consumers: int = field("Consumers of the account that are alive.", 3)


class PointBody(BaseModel):
    """What was held at a moment."""

    at: Time = Field(description="When, ISO 8601 in UTC.")
    held: int = field("Cities held then.", 40)


class CourseBody(BaseModel):
    """What was held over time."""

    limit: LimitBody = field("What the provider takes, as the gate has it.", example_of(LimitBody))
    points: list[PointBody] = field(
        "Moments at equal distances, the last one now.", [{"at": "2026-11-20T16:00:20.000Z", "held": 40}]
    )


class WindowBody(BaseModel):
    """A half-open window."""

    begin: Time = Field(description="Its first moment, ISO 8601 in UTC to the microsecond.")
    end: Time = Field(description="The first moment after it.")


class ProofBody(BaseModel):
    """What the charges of a time say about the quota's promise."""

    since: Time = Field(alias="from", description="Begin of the time, as far as charges are kept.")
    until: Time = Field(alias="to", description="End of the time.")
    window_s: float = field("The window, seconds.", 60.0)
    limit: int = field("Cities that any window may see, as the gate says now.", 60)
    worst: int = field("Cities that some window can have seen at most.", 60)
    window: WindowBody | None = field(
        "The first such window; null when there was no charge.",
        {"begin": "2026-11-20T15:12:07.123456Z", "end": "2026-11-20T15:13:07.123456Z"},
    )
    charges: int = field("Charges whose calls can have arrived in one of the windows.", 180)
    cities: int = field("Cities of these charges.", 3600)
    holds: bool = field("Whether the promise holds: `worst` is not above `limit`.", True)


def quota_body(found: Standing) -> dict[str, Any]:
    """The body that tells how the account stands."""
    gate, terms = found.gate, found.terms
    release = found.next_release
    return {
        "account": gate.account,
        "now": utc_text(found.now),
        "limit": _limit(terms),
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
            "month": gate.counted(found.now).month,
            "ends_at": utc_text(next_month(found.now)),
            "budget": terms.cities_per_month,
            "pacing": terms.month_pacing,
            "spent": found.spent,
            "allowed_now": min(found.month_allows, terms.cities_per_window),
            "forecast": found.forecast,
            "outlook": _outlook(found.forecast, terms.cities_per_month),
        },
        "consumers": found.consumers,
    }


def course_body(found: Course) -> dict[str, Any]:
    """The body that tells what was held over time."""
    points = [{"at": utc_text(moment), "held": held} for moment, held in found.points]
    return {"limit": _limit(found.terms), "points": points}


def _limit(terms: Terms) -> dict[str, Any]:
    return {"cities_per_window": terms.cities_per_window, "window_s": terms.window_s, "pacing": terms.pacing}


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
