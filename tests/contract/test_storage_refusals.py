"""A database server that refuses this program: one line at the start that names it; later an outage like any other."""

from contextlib import closing

import pytest
from sqlalchemy import URL, make_url, text

from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.storage.database import open_database
from tests.support.databases import SERVERS, need_port

pytestmark = pytest.mark.services


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> URL:
    """A server's URL, with its right password."""
    found = make_url(SERVERS[request.param])
    need_port(found.port or 0, request.param)
    return found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "a wrong one"}, "Access denied|authentication failed"),  # pragma: allowlist secret
        ({"username": "nobody"}, "Access denied|authentication failed|does not exist"),
        ({"database": "nothing"}, "to database 'nothing'|\"nothing\" does not exist|Unknown database"),
    ],
    ids=["password", "user", "database"],
)
def test_a_refusal_ends_a_start_and_is_waited_out_later(url: URL, changes: dict[str, str], words: str) -> None:
    wrong = url.set(**changes)  # type: ignore[arg-type]
    place = f"127.0.0.1:{url.port}/{wrong.database}"
    with closing(open_database(wrong.render_as_string(hide_password=False))) as database:
        with pytest.raises(SettingsError, match=f"^database.url: {place}: .*({words})") as refused:
            database.check_at_start()
        assert "a wrong one" not in str(refused.value)
        with pytest.raises(DatabaseUnavailable, match=words):
            database.read(lambda _: None)


def test_options_in_the_url_are_kept_beside_the_limits_of_a_session() -> None:
    need_port(5432, "postgres")
    with closing(open_database(f"{SERVERS['postgres']}?options=-c%20work_mem%3D1234kB")) as database:
        found = database.read(
            lambda c: [c.scalar(text(f"SHOW {name}")) for name in ("work_mem", "statement_timeout", "lock_timeout")]
        )
    assert found == ["1234kB", "15s", "10s"]
