"""`GET /quota`: how the account stands. `GET /quota/held`: what was held over time.

`GET /quota/proof`: whether the quota's promise was kept.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from producer.api.parts import QuotaDep
from producer.api.periods import FROM, NOT_GIVEN, TO, Moment, from_parameter, to_parameter
from producer.api.problems import UNAVAILABLE, WORDS, Invalid, responses
from producer.api.requests import StrictRoute
from producer.api.schemas import CourseBody, ProofBody, QuotaBody, course_body, proof_body, quota_body
from producer.quota import Period
from raingauge.contracts import utc_text
from raingauge.storage.quota import KEPT_FOR
from raingauge.web import UNEXPECTED

router = APIRouter(tags=["quota"], route_class=StrictRoute)

LONGEST: Final = timedelta(hours=24)
USUAL: Final = timedelta(hours=1)
NO_GATE: Final = "no consumer has created this account's gate yet"
Since = Annotated[Moment, from_parameter("Begin of the time, ISO 8601 with its zone. Left out: an hour before `to`.")]
Until = Annotated[
    Moment,
    to_parameter("End of the time, at most 24 h after its begin. Left out, or later than now: now."),
]


def _period(since: datetime, until: datetime, now: datetime) -> Period:
    """From when to when, as far as charges are kept.

    Raises:
        Invalid: the period is not valid.
    """
    kept = now - KEPT_FOR
    until = min(until, now)
    if until <= kept:
        raise Invalid(f"proofs reach back a day (`raingauge proof` further); give a time after {utc_text(kept)}", *TO)
    since = until - USUAL if since == NOT_GIVEN else since
    if since >= until:
        raise Invalid("it must be before `to` and not in the future", *FROM)
    if until - since > LONGEST:
        raise Invalid("a proof is about 24 hours at most", *FROM)
    return max(since, kept).astimezone(UTC), until.astimezone(UTC)


def _problems(**more: str) -> dict[int | str, dict[str, Any]]:
    described = responses(s404=NO_GATE, **more, s500=UNEXPECTED, s503=UNAVAILABLE)
    described[404]["description"] = "No consumer has created this account's gate yet."
    return described


@router.get(
    "/quota",
    operation_id="quota",
    summary="How the provider account stands",
    response_model=QuotaBody,
    response_description="The quota as it stands.",
    responses=_problems(s422=f"at: {WORDS['extra_forbidden']}"),
)
async def standing(quota: QuotaDep) -> dict[str, Any]:
    """Tells what the account may spend, what is held and free now, and what stops calls, if anything."""
    found = await quota.standing()
    if found is None:
        raise HTTPException(404, NO_GATE)
    return quota_body(found)


@router.get(
    "/quota/held",
    operation_id="quota_held",
    summary="What was held over time",
    response_model=CourseBody,
    response_description="The course of what was held.",
    responses=_problems(s422=f"at: {WORDS['extra_forbidden']}"),
)
async def course(quota: QuotaDep) -> dict[str, Any]:
    """Shows how many cities were held against the limit during the last ten windows, of a day at most.

    A charge is held for a window after its answers were in. One that has none yet counts as if they came as late as
    they can. With very many charges the time is shorter.
    """
    found = await quota.course()
    if found is None:
        raise HTTPException(404, NO_GATE)
    return course_body(found)


@router.get(
    "/quota/proof",
    operation_id="quota_proof",
    summary="Whether the quota's promise was kept",
    response_model=ProofBody,
    response_description="What the charges of that time say.",
    responses=_problems(s422="from: a proof is about 24 hours at most"),
)
async def proof(quota: QuotaDep, since: Since, until: Until) -> dict[str, Any]:
    """Replays the charges of a time and answers the most cities that any window can have seen.

    A charge's calls may have arrived at any moment from its reservation until its answers were in, or, where none
    came, until D + T + M after the reservation. The worst case is taken over all such moments, for all windows that
    touch the time. It goes back a day; `raingauge proof export` goes back as far as charges are kept.
    """
    found = await quota.proof(partial(_period, since, until))
    if found is None:
        raise HTTPException(404, NO_GATE)
    return proof_body(found)
