"""Access to a running system: it starts as it is allowed to, and a token appears nowhere, however it is sent."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import requests

from raingauge.access.tokens import is_token, session_of
from raingauge.database import open_database
from tests.e2e.marks import TOKEN, assert_unmarked
from tests.e2e.provoking import assert_answers_unmarked, assert_database_unmarked
from tests.e2e.running import settings_for
from tests.support.processes import launched, program
from tests.support.servers import free_port

pytestmark = pytest.mark.long


def settings(folder: Path, **more: object) -> dict[str, str]:
    return settings_for(f"http://127.0.0.1:{free_port()}", f"sqlite:///{folder}/raingauge.db", more)


def test_beyond_loopback_it_does_not_start_without_a_token_and_says_what_to_do(tmp_path: Path) -> None:
    with launched("standalone", settings=settings(tmp_path, http__host="0.0.0.0")) as running:
        assert running.ended() == 2
    assert running.lines[-1].startswith("http.host: 0.0.0.0 can be reached from other machines, and there is no token.")
    assert not any("http://0.0.0.0" in line for line in running.lines)


def test_a_token_appears_nowhere_however_it_is_sent(tmp_path: Path) -> None:
    assert is_token(TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    entry = {"name": "ci", "scope": "write", "token_file": f"{tmp_path}/token", "limits": {"cities_open": 10}}
    given = settings(tmp_path, http__host="0.0.0.0", access__tokens=json.dumps([entry]))
    bearer, cookie = {"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"raingauge_session={session_of(TOKEN)}"}
    with program("standalone", settings=given) as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        assert assert_answers_unmarked(url) == {200, 401}
        statuses = []
        for headers in (bearer, cookie, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}):
            for method, path, body in (
                ("GET", "/session", None),
                ("POST", "/collect", {"id": "first", "cities": [1]}),
                ("POST", "/collect", {"id": "second", "cities": [*range(10)]}),
                ("POST", "/session", {"token": TOKEN, "other": 1}),
                ("POST", "/session", {"token": TOKEN}),
                ("DELETE", "/collections/first", None),
            ):
                answer = requests.request(method, url + path, headers=headers, json=body, timeout=10)
                assert_unmarked(answer.content, path)
                assert_unmarked(repr(answer.headers), path)
                statuses.append(answer.status_code)
        assert set(statuses) == {200, 202, 204, 401, 403, 422}
        assert running.stop() == 0
    assert "audit token=ci method=POST route=/collect subject=first status=202" in running.output
    assert_unmarked(running.output, "the output")
    assert session_of(TOKEN) not in running.output
    with closing(open_database(f"sqlite:///{tmp_path}/raingauge.db")) as database:
        assert assert_database_unmarked(database)["tokens"] == 2  # a row to lock, and that the settings had tokens
