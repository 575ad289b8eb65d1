"""`POST /collections/{id}/cancel`: ends a collection before it is done."""

from copy import copy
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, create_model
from starlette.exceptions import HTTPException

from producer.api.get_body import CollectionBody, head
from producer.api.problems import ELSEWHERE, UNAVAILABLE, UNEXPECTED, WORDS, refuse_parameters, responses, shown
from producer.desk import Desk
from raingauge.contracts import COLLECTION_ID

ROWS: Final = frozenset({"data", "errors", "next"})


def _without_rows() -> type[BaseModel]:
    fields = {name: field for name, field in CollectionBody.model_fields.items() if name not in ROWS}
    shape: dict[str, Any] = {name: (field.annotation, copy(field)) for name, field in fields.items()}
    return create_model("CollectionHead", __doc__="A collection as it stands, without its rows.", **shape)


CollectionHead: Final = _without_rows()


def router(desk: Desk) -> APIRouter:
    """The front door."""
    api = APIRouter(tags=["collections"])

    @api.post(
        "/collections/{id}/cancel",
        operation_id="cancel",
        summary="Cancel a collection",
        response_model=CollectionHead,
        response_description="The collection as it stands: cancelled, unless it was done before.",
        responses=responses(
            s403=ELSEWHERE,
            s404="there is no collection 7",
            s422=f"force: {WORDS['extra_forbidden']}",
            s500=UNEXPECTED,
            s503=UNAVAILABLE,
        ),
    )
    async def cancel(
        request: Request,
        collection_id: Annotated[
            str, Path(alias="id", description="The collection's id, for example `1`.", examples=["1"])
        ],
    ) -> dict[str, Any]:
        """Ends a collection: no further city of it is stored, and none is asked for soon after.

        What is collected stays readable. Calls under way are finished, and their quota is spent. Cancelling what is
        done or cancelled already changes nothing and answers how it stands. No body is needed.
        """
        refuse_parameters(request)
        view = await desk.cancel(collection_id) if COLLECTION_ID.fullmatch(collection_id) else None
        if view is None:
            raise HTTPException(404, f"there is no collection {shown(collection_id)}")
        return head(view)

    return api
