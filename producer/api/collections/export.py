"""The endpoint of exports: `GET /collections/{id}/export`. It speaks HTTP."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Send

from producer.api.answers import ID_IS, UnitsAre
from producer.api.parts import ExportsDep
from producer.api.problems import UNAVAILABLE, responses
from producer.api.requests import StrictRoute
from producer.exports.exporting import NO_PARQUET, Format, NoParquet
from producer.pages import Gone
from raingauge.contracts import COLLECTION_ID, utc_text
from raingauge.errors import DatabaseUnavailable
from raingauge.web import UNEXPECTED, shown

log = logging.getLogger("raingauge.producer")

router = APIRouter(tags=["collections"], route_class=StrictRoute)

MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "geojson": "application/geo+json",
    "parquet": "application/vnd.apache.parquet",
}
"""RFC 7111 (CSV), RFC 7946 (GeoJSON), IANA's registry (Parquet); JSON lines have none that is registered."""

PRUNED: Final = "its readings were deleted at {} because of their age (retention.readings_days)"


def _described() -> dict[int | str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    content: dict[str, Any] = {media_type.partition(";")[0]: text for media_type in MEDIA_TYPES.values()}
    content[MEDIA_TYPES["json"]] = {"schema": {"type": "array", "items": {"type": "object"}}}
    content[MEDIA_TYPES["geojson"]] = {"schema": {"type": "object"}}
    content["text/csv"] = text | {"example": "city_id,status,reason,name,…\r\n3439525,collected,,Young,…\r\n"}
    disposition = {
        "description": "The name for the file.",
        "schema": {"type": "string"},
        "example": 'attachment; filename="raingauge-1.csv"',
    }
    return {
        200: {"content": content, "headers": {"Content-Disposition": disposition}},
        **responses(
            s404="there is no collection 7",
            s410=PRUNED.format("2026-12-20T16:00:00.000Z"),
            s422="format: Input should be 'csv', 'json', 'jsonl', 'geojson' or 'parquet'",
            s500=UNEXPECTED,
            s501=NO_PARQUET,
            s503=UNAVAILABLE,
        ),
    }


@router.get(
    "/collections/{id}/export",
    operation_id="export",
    summary="The readings of a collection as a file",
    response_class=StreamingResponse,
    response_description="The file.",
    responses=_described(),
)
async def export(
    exports: ExportsDep,
    collection_id: Annotated[str, Path(alias="id", description=ID_IS, examples=["1"])],
    format_name: Annotated[Format, Query(alias="format", description="Of the file.", examples=["geojson"])] = "csv",
    units: UnitsAre = "metric",
) -> StreamingResponse:
    """Answers all readings in the order of city ids, whatever their number; the columns say their units.

    Cities that failed are among them, with their `status` and `reason`. A settled reading never changes; of what
    is settled while the export is under way, some is in it and some is not. When the database goes away or the
    collection is deleted meanwhile, the transfer breaks off: the file has no proper end.
    """
    found = await exports.find(collection_id) if COLLECTION_ID.fullmatch(collection_id) else None
    if found is None:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    if found.readings_pruned_at is not None:
        raise HTTPException(410, PRUNED.format(utc_text(found.readings_pruned_at)))
    try:
        parts = exports.parts(found, format_name, units)
    except NoParquet as error:
        raise HTTPException(501, str(error)) from None
    name = f"raingauge-{collection_id.replace(':', '_')}.{format_name}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return Transfer(collection_id, parts, headers=headers, media_type=MEDIA_TYPES[format_name])


class Transfer(StreamingResponse):
    """Sends an export. When that cannot go on, it ends without an end: the server closes the connection."""

    def __init__(self, collection_id: str, parts: AsyncIterator[bytes], **more: Any) -> None:
        super().__init__(parts, **more)
        self._collection_id = collection_id

    async def stream_response(self, send: Send) -> None:
        """Send the head and the parts."""
        try:
            await super().stream_response(send)
        except (DatabaseUnavailable, Gone) as error:
            log.warning("export.broken_off", extra={"collection_id": self._collection_id, "error": str(error)})
