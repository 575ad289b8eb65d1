"""Collections of the default cities by their id: all that the older services know. It has no contract of its own."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import orjson
from fastapi import Path
from starlette.exceptions import HTTPException

from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, responses
from producer.collections import Collections
from producer.pages import Gone
from raingauge.contracts import COLLECTION_ID
from raingauge.model import CollectionState
from raingauge.web import UNEXPECTED, shown

PAGE_ROWS: Final = 1000
"""Rows parsed at once: about a millisecond."""

IdInPath = Annotated[str, Path(description="The id of the POST.", examples=["1234"])]


def describe_post(where: str, **more: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a POST's problems; `where` is the field of the id."""
    too_long, missing = "the body is longer than 4004096 bytes", f"{where}: {WORDS['missing']}"
    return responses(**more, s403=ELSEWHERE, s413=too_long, s422=missing, s500=UNEXPECTED, s503=UNAVAILABLE)


def describe_get() -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a GET's problems."""
    unknown = f"limit: {WORDS['extra_forbidden']}"
    return responses(s404="there is no collection 7", s422=unknown, s500=UNEXPECTED, s503=UNAVAILABLE)


async def find(collections: Collections, collection_id: str) -> CollectionState:
    """The collection.

    Raises:
        HTTPException: there is none (404).
        DatabaseUnavailable: in time.
    """
    is_id = COLLECTION_ID.fullmatch(collection_id) is not None
    view = await collections.view(collection_id, collections.deadline()) if is_id else None
    if view is None:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    return view.state


async def rows(collections: Collections, state: CollectionState) -> AsyncIterator[dict[str, Any]]:
    """Every collected city, in the order of city ids, with the fields of `producer.api.schemas.Datum`.

    Raises:
        HTTPException: the collection or its readings were deleted meanwhile (404).
        DatabaseUnavailable: in time.
    """
    try:
        async for page in collections.pages(state, PAGE_ROWS):
            for row in orjson.loads(page.data):
                yield row
    except Gone as error:
        raise HTTPException(404, str(error)) from None
