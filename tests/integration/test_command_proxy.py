"""The command and the proxies of the environment: none gets to read its token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.__main__ import main
from cli.arguments.completion import complete_collections
from tests.support.servers import free_port


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The URL of a proxy that passes nothing on, and what it was asked for."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(f"{self.requestline} {self.headers['Authorization']}")
            self.send_error(502)

        def do_CONNECT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requested
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("scheme", "expected"), [("http", []), ("https", ["CONNECT {} HTTP/1.1 None"])])
def test_a_proxy_of_the_environment_passes_on_only_what_it_cannot_read(
    scheme: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    api = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAINGAUGE_TOKEN", "rg_secret")
    monkeypatch.setenv("RAINGAUGE_URL", f"{scheme}://{api}")
    with proxy() as (url, requested):
        monkeypatch.setenv(f"{scheme}_proxy", url)
        status = main(["quota"])
        assert complete_collections("") == []
    assert (status, requested) == (3, [each.format(api) for each in expected] * 2)
    assert "cannot reach the API" in capsys.readouterr().err
