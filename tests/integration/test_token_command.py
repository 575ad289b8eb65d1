"""`raingauge admin token` and `python -m producer token`: tokens are shown once, and mistakes get one line."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cli.__main__ import main
from producer.__main__ import parser
from raingauge.access import stored, tokens
from raingauge.database import Database
from raingauge.process import run_program

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["raingauge admin", "python -m producer"])
def run(
    request: pytest.FixtureRequest, sqlite: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Run:  # fmt: skip
    """Runs `token …` by either program; gives its status, stdout and stderr."""
    (tmp_path / "ci").write_text(tokens.new_token())
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", str(sqlite.engine.url))
    entry = f'[{{"name": "fixed", "scope": "read", "token_file": "{tmp_path}/ci"}}]'
    monkeypatch.setenv("RAINGAUGE_ACCESS__TOKENS", entry)

    def by_program(*arguments: str) -> tuple[int, str, str]:
        words = ["token", *arguments]
        if request.param == "raingauge admin":
            status = main(["admin", *words])
        else:
            given = parser().parse_args(words)
            status = run_program(given.program(given))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return by_program


def test_a_token_is_shown_once_listed_without_itself_and_revoked(run: Run, sqlite: Database) -> None:
    status, out, err = run("add", "ci", "--scope", "write", "--expires", "90d")
    assert (status, tokens.is_token(out.strip())) == (0, True)
    assert re.fullmatch(r"ci \(write\) is valid until 20\S+Z. Keep the token: it cannot be shown again\n", err)
    (token,) = sqlite.read(lambda c: stored.find(c, [tokens.digest(out.strip())])).values()
    assert (token.name, token.expires_at) == ("ci", token.created_at + timedelta(days=90))
    status, listed, _ = run("list")
    shown = [" ".join(line.split()[:3]) for line in listed.splitlines()]
    assert shown == ["name scope state", "ci write valid", "fixed read settings"]
    assert out.strip() not in listed
    assert run("revoke", "ci")[:2] == (0, "ci: write -> revoked\n")
    assert run("revoke", "ci")[1].startswith("ci: revoked since 20")
    assert " revoked " in run("list")[1]
    assert tokens.is_token(run("generate")[1].strip())


TOKEN = tokens.new_token()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["add", TOKEN, "--scope", "read"], ""),
        (["revoke", TOKEN], ""),
        (["revoke", TOKEN[:-1]], ""),
        (["add", "a/b", "--scope", "read"], "the name of a token is 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (["add", "fixed", "--scope", "read"], "a token of access.tokens is named fixed; choose another name"),
        (["add", "old", "--scope", "read", "--expires", "soon"], "'soon' is no time; give for example 12h, 90d or "),
        (["add", "old", "--scope", "read", "--expires", "2020-01-31"], "the token would have expired at 2020-01-31T00"),
        (["revoke", "nobody"], "there is no token nobody; list them to see their names"),
        (["revoke", "fixed"], "fixed is a token of access.tokens: remove it there and restart the producers"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2_and_a_token_in_place_of_its_name_is_not_shown(
    run: Run, arguments: list[str], line: str
) -> None:
    status, out, err = run(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(line)
    assert TOKEN[:10] not in err
