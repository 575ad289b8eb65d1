"""The API's documentation: `/docs`, complete without the internet, and the responses of collections for OpenAPI."""

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from producer.access import description as access
from producer.api import problems
from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, responses
from producer.api.schemas import AcceptedBody, EstimateBody, example_of
from raingauge.web import UNEXPECTED

router = APIRouter(include_in_schema=False)

ASSETS: Final = "/docs/assets"


class DescribedApi(FastAPI):
    """An application whose OpenAPI says what a problem is."""

    def openapi(self) -> dict[str, Any]:
        description = super().openapi()
        description["components"]["schemas"] |= problems.schemas()
        access.add(description)
        return description


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI, with the files that `fastapi-swagger` brings.

    FastAPI's own page loads them from a CDN: useless behind a firewall, and it would tell others who reads it.
    """
    root_path = request.scope["root_path"]
    return get_swagger_ui_html(
        openapi_url=f"{root_path}/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{root_path}{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{root_path}{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{root_path}{ASSETS}/favicon-32x32.png",
        # No validator: it is a badge from the internet.
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True, "defaultModelsExpandDepth": 0},
    )


EXAMPLES: Final[dict[str, Any]] = {
    "the default cities": {"value": {"id": 1}},
    "cities of your own": {"value": {"id": "uruguay-2026-11-20", "cities": [3439525, 3439781], "max_age_s": 600}},
}
LOCATION: Final[dict[str, Any]] = {
    "headers": {
        "Location": {
            "description": "Where the collection can be watched and read; left out by a dry run.",
            "schema": {"type": "string"},
            "example": "/get?id=1",
        }
    }
}
LINKS: Final[dict[str, Any]] = {
    "links": {
        "watch": {
            "operationId": "get",
            "parameters": {"id": "$response.body#/id"},
            "description": "Its progress and its readings.",
        },
        "cancel": {
            "operationId": "cancel",
            "parameters": {"id": "$response.body#/id"},
            "description": "Ends it before it is done.",
        },
    },
}


def link_to(example: str) -> dict[str, Any]:
    """The OpenAPI entry of the header `Link`."""
    return {
        "description": 'Where the next page is (`rel="next"`), as in `next`; left out on the last one.',
        "schema": {"type": "string"},
        "example": f'<{example}>; rel="next"',
    }


HEADERS: Final = {
    "ETag": {
        "description": "Names what this answer says; send it back in `If-None-Match`.",
        "schema": {"type": "string"},
        "example": 'W/"0f3a9c5d2b7e4a618c9d0e1f"',
    },
    "Link": link_to("/get?id=1&limit=1000&after=3441481"),
}
COLLECT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: LOCATION | LINKS,
    200: LOCATION
    | {
        "model": AcceptedBody | EstimateBody,
        "description": "The same request was accepted before; or a dry run.",
        "content": {
            "application/json": {
                "examples": {
                    "accepted before": {"value": example_of(AcceptedBody)},
                    "dry run": {"value": example_of(EstimateBody)},
                }
            }
        },
    },
    **responses(
        s403=ELSEWHERE,
        s409="a collection 1 exists already, with other cities or another max_age_s",
        s413="the body is longer than 4004096 bytes",
        s422="id: it is missing",
        s500=UNEXPECTED,
        s503=UNAVAILABLE,
    ),
}
GET_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": HEADERS},
    304: {
        "description": "Nothing has changed since the `ETag` that `If-None-Match` names.",
        "headers": {"ETag": HEADERS["ETag"]},
    },
    **responses(
        s404="there is no collection 7",
        s422="limit: Input should be less than or equal to 10000",
        s500=UNEXPECTED,
        s503=UNAVAILABLE,
    ),
}
CANCEL_RESPONSES: Final = responses(
    s403=ELSEWHERE,
    s404="there is no collection 7",
    s422=f"force: {WORDS['extra_forbidden']}",
    s500=UNEXPECTED,
    s503=UNAVAILABLE,
)
