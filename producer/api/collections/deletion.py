"""The endpoint that deletes a collection: `DELETE /collections/{id}`. It speaks HTTP."""

import logging
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response
from starlette.exceptions import HTTPException

from producer.api.answers import ID_IS
from producer.api.parts import RetentionDep
from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, responses
from producer.api.requests import StrictRoute
from raingauge.contracts import COLLECTION_ID
from raingauge.storage.retention import StillOpen
from raingauge.web import UNEXPECTED, shown

router = APIRouter(tags=["collections"], route_class=StrictRoute)

log = logging.getLogger("raingauge.producer")

RESPONSES: Final[dict[int | str, dict[str, Any]]] = responses(
    s403=ELSEWHERE,
    s404="there is no collection 7",
    s409="the collection 1 is open: cancel it first",
    s422=f"force: {WORDS['extra_forbidden']}",
    s500=UNEXPECTED,
    s503=UNAVAILABLE,
)
RESPONSES[409]["description"] = "The collection is open; nothing was changed."


@router.delete(
    "/collections/{id}",
    operation_id="delete_collection",
    summary="Delete a collection",
    status_code=204,
    response_class=Response,
    response_description="It is deleted.",
    responses=RESPONSES,
)
async def delete(
    retention: RetentionDep,
    collection_id: Annotated[str, Path(alias="id", description=ID_IS, examples=["1"])],
) -> None:
    """Deletes a collection that is done or cancelled, with its readings. It cannot be undone.

    It answers at once and the collection is gone at once; the rows of a large one are removed within the next
    minutes, and until then its id cannot be used again (409, with `Retry-After`). Quota that was spent stays
    spent, the latest observations of cities stay, and so do files and messages that were written elsewhere.
    """
    try:
        found = COLLECTION_ID.fullmatch(collection_id) is not None and await retention.delete(collection_id)
    except StillOpen as error:
        raise HTTPException(409, str(error)) from None
    if not found:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    log.info("collection.deleted", extra={"collection_id": collection_id})
