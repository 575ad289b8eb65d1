"""The API over HTTP: requests, and what a failure means for the person at the terminal. It prints nothing."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx2

from cli.errors import Away, CommandError, Misused, Refused
from cli.session import Session
from cli.times import of_header
from cli.token import FILE_VARIABLE, VARIABLE, authorization, may_pass_proxies

TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)
AWAY: Final = frozenset({502, 503, 504})
NO_CONTENT: Final = 204
NOT_MODIFIED: Final = 304
UNAUTHORIZED: Final = 401

Parameters = Mapping[str, str | int | bool | None]
"""Query parameters; those that are None are left out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered."""

    body: bytes
    """Empty: it is what it was (304)."""
    now: datetime | None
    """The API's time."""
    etag: str | None

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Api:
    """A client of one API, for one command."""

    def __init__(self, url: str, session: Session) -> None:
        self._url = url.rstrip("/")
        try:
            # Redirects are not followed: the token must not get to another origin.
            self._http = httpx2.Client(
                base_url=self._url,
                timeout=TIMEOUT,
                transport=session.transport,
                headers=authorization(),
                trust_env=may_pass_proxies(self._url),
            )
        except httpx2.InvalidURL as error:
            raise Misused(f"{url} is not a URL ({error}); correct --url or RAINGAUGE_URL") from error

    def get(self, path: str, parameters: Parameters | None = None, etag: str | None = None) -> Answer:
        """GET a JSON document; with `etag`, the body is empty when it has not changed.

        Raises (all methods):
            Misused: it is not an HTTP URL.
            Away: nobody answers there, or the API cannot work now.
            Refused: the API refused the request.
            CommandError: the API failed.
        """
        headers = {} if etag is None else {"If-None-Match": etag}
        with self._errors():
            return self._answer(self._http.get(path, params=_given(parameters), headers=headers))

    def post(self, path: str, body: Mapping[str, Any] | None = None, parameters: Parameters | None = None) -> Answer:
        """POST a JSON document."""
        with self._errors():
            return self._answer(self._http.post(path, params=_given(parameters), json=body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """PATCH a JSON document."""
        with self._errors():
            return self._answer(self._http.patch(path, json=body))

    def delete(self, path: str) -> None:
        """DELETE what is there."""
        with self._errors():
            self._check(self._http.delete(path))

    @contextmanager
    def stream(self, path: str, parameters: Parameters) -> Iterator[Iterator[bytes]]:
        """The bytes of a document, as they arrive; an answer that breaks off is an error."""
        with self._errors(), self._http.stream("GET", path, params=_given(parameters)) as response:
            if response.status_code != 200:
                response.read()
                self._check(response)
            yield response.iter_bytes()

    def pages(self, path: str, key: str, parameters: Parameters) -> Iterator[dict[str, Any]]:
        """The entries under `key` of this page and all that follow."""
        given: Parameters = parameters
        while True:
            page = self.get(path, given).json
            yield from page[key]
            if page["next"] is None:
                return
            given = following(page["next"])

    def _answer(self, response: httpx2.Response) -> Answer:
        self._check(response)
        return Answer(response.content, of_header(response.headers.get("date", "")), response.headers.get("etag"))

    def _check(self, response: httpx2.Response) -> None:
        """Raise what the status means."""
        status, kind = response.status_code, response.headers.get("content-type", "")
        if status in {NO_CONTENT, NOT_MODIFIED} or (response.is_success and kind.startswith("application/json")):
            return
        if kind != "application/problem+json":
            what = f"{self._url} answers {status} {kind}, not as Raingauge does; correct --url or RAINGAUGE_URL"
            raise Refused(what) if response.is_client_error else Away(what)
        detail = response.json()["detail"]
        if status == UNAUTHORIZED:
            raise Refused(f"{detail}; the command takes it from {VARIABLE} or the file that {FILE_VARIABLE} names")
        if response.is_client_error:
            raise Refused(detail)
        raise Away(detail) if status in AWAY else CommandError(f"the API failed: {detail}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the client's errors."""
        try:
            yield
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise Misused(f"{self._url}: {error}; correct --url or RAINGAUGE_URL") from error
        except httpx2.TimeoutException as error:
            raise Away(f"no answer from the API at {self._url} in time; try again") from error
        except httpx2.RequestError as error:
            what = f"cannot reach the API at {self._url} ({_cause(error)})"
            raise Away(f"{what}; start it with `raingauge run`, or name it by --url or RAINGAUGE_URL") from error


def following(next_url: str) -> dict[str, str]:
    """The parameters of the next page, from the answer's `next`."""
    return dict(parse_qsl(urlsplit(next_url).query))


def _cause(error: Exception) -> str:
    """The system's words for a failure, without its number."""
    return str(error).rpartition("] ")[2] or type(error).__name__


def _given(parameters: Parameters | None) -> dict[str, str | int | bool]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}
