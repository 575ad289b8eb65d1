"""`/docs`: the API's description for people, complete without the internet."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from producer.api import problems

ASSETS: Final = "/docs/assets"


class DescribedApi(FastAPI):
    """An application whose OpenAPI says what a problem is."""

    def openapi(self) -> dict[str, Any]:
        description = super().openapi()
        description["components"]["schemas"] |= problems.schemas()
        return description


def install(api: FastAPI) -> None:
    """Serve Swagger UI from the files that `fastapi-swagger` brings; `/` leads there.

    FastAPI's own page loads them from a CDN: useless behind a firewall, and it would tell others who reads it.
    """
    api.mount(ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=api.title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        # No validator: it is a badge from the internet.
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True, "defaultModelsExpandDepth": 0},
    )

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.body)

    @api.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/docs")
