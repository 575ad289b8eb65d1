"""The command `raingauge` against a fake API: what it requests, prints and ends with. No network, no process."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.__main__ import main
from cli.city_ids import read_city_ids
from cli.errors import Misused
from cli.reference import reference
from cli.session import Session
from cli.times import spelled
from raingauge.settings import TOKEN_VARIABLES, URL_VARIABLE, load_settings

ROOT = Path(__file__).parents[2]
DATE = "Fri, 20 Nov 2026 12:00:00 GMT"
COUNTS = {"progress": 0.25, "total": 4, "collected": 1, "failed": 0}
TIMES = {"requested_at": "2026-11-20T11:59:00.000Z", "finished_at": None, "expected_at": "2026-11-20T12:02:10.000Z"}
STATE: dict[str, Any] = {"id": "1", "status": "collecting", "reason": None} | COUNTS | TIMES
DONE = STATE | {"status": "done", "progress": 1.0, "collected": 4, "finished_at": "2026-11-20T12:02:10.000Z"}
WEATHER = {"name": "Young\x1b[2J", "temperature": 19.44, "humidity": None}
ROW = {"city_id": 7, **WEATHER, "observed_at": "2026-11-20T11:50:00.000Z"}
GATE = {"state": "key", "why": "the key is refused", "blocked_until": "2026-11-20T12:05:00.000Z", "endpoint": "group"}
MONTH = {"month": "2026-11", "ends_at": "2026-12-01T00:00:00.000Z", "budget": 1000, "pacing": "even"}
MONTH |= {"spent": 400, "allowed_now": 60, "forecast": 900, "outlook": "900 of 1,000"}
QUOTA: dict[str, Any] = {
    "account": "openweather",
    "now": "2026-11-20T12:00:00.000Z",
    "limit": {"cities_per_window": 60, "window_s": 60.0, "pacing": "smooth"},
    "next_release": {"at": "2026-11-20T12:00:12.000Z", "cities": 20},
    "gate": GATE,
    "month": MONTH,
} | {"held": 40, "free": 20, "charges_open": 1}
Handler = Callable[[httpx2.Request], httpx2.Response]


class Terminal:
    """Runs commands against a fake API and keeps what was requested."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []

    def run(self, *arguments: str, api: Handler | dict[str, Any] | None = None) -> tuple[int, str, str]:
        """The exit status, stdout and stderr."""

        def handle(request: httpx2.Request) -> httpx2.Response:
            self.requests.append(request)
            return api(request) if callable(api) else answer(api)

        status = main(arguments, Session(httpx2.MockTransport(handle), self.pauses.append))
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    @property
    def request(self) -> str:
        """The only request that was made."""
        (only,) = self.requests
        return f"{only.method} {only.url.raw_path.decode()}"


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for variable in (URL_VARIABLE, *TOKEN_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    return Terminal(capsys)


def answer(body: Any, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers={"Date": DATE, **headers})


def problem(status: int, detail: str) -> httpx2.Response:
    content = json.dumps({"type": "about:blank", "title": "", "status": status, "detail": detail}).encode()
    return httpx2.Response(status, content=content, headers={"Content-Type": "application/problem+json"})


def broken(error: Exception) -> Handler:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    return fail


# -- exit statuses and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "status", "line"),
    [
        (problem(404, "there is no collection 1"), 4, "there is no collection 1"),
        (problem(503, "the database cannot be used now"), 3, "the database cannot be used now"),
        (problem(500, "an unexpected error; it is in the log"), 1, "the API failed: an unexpected error"),
        (httpx2.Response(200, html="<p>hello</p>"), 3, "not as Raingauge does; correct --url"),
        (httpx2.Response(404, html="<p>hello</p>"), 4, "not as Raingauge does; correct --url"),
        (httpx2.ConnectError("[Errno 111] refused"), 3, "(refused); start it with `raingauge run`"),
        (httpx2.ReadTimeout("timed out"), 3, "in time; try again"),
        (httpx2.UnsupportedProtocol("no protocol"), 2, "no protocol; correct --url"),
        (KeyError("data"), 1, "an unexpected error in "),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failure_is_one_line_and_decides_the_exit_status(
    terminal: Terminal, api: Any, status: int, line: str
) -> None:
    handler = (lambda _: api) if isinstance(api, httpx2.Response) else broken(api)
    ended, out, err = terminal.run("get", "1", api=handler)
    assert (ended, out) == (status, "")
    assert line in err
    assert len(err.splitlines()) == (1 if line else 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["colect"], "no such command 'colect'. Did you mean 'collect'? (see `raingauge --help`)"),
        (["get", "1", "--units", "kelvin"], "'kelvin' is not one of 'metric', 'imperial', 'standard'"),
        (["get", "1", "--unit", "metric"], "no such option '--unit'. Did you mean '--units'? (see"),
        (["get", "1", "--nothing"], "no such option '--nothing' (see"),
        (["events", "--limit", "-1"], "invalid value for '--limit'"),
        (["watch"], "missing argument 'ID' (see `raingauge watch --help`)"),
        (["admin", "dead-letters", "replay"], "give either --all or --offset"),
        (["proof", "export", "x", "--from", "yesterday"], "--from: yesterday is no time: give ISO 8601"),
        (["collect", "1", "--cities", "/nowhere/ids.csv"], "/nowhere/ids.csv: No such file or directory"),
        (["list", "--url", "http://here:port"], "--url or RAINGAUGE_URL"),
    ],
)
def test_a_mistake_in_a_command_ends_with_2_and_a_remedy(terminal: Terminal, arguments: list[str], line: str) -> None:
    status, out, err = terminal.run(*arguments)
    assert (status, out, len(err.splitlines()), terminal.requests) == (2, "", 1, [])
    assert line in err


def test_help_and_version_are_data_and_examples_come_first(terminal: Terminal) -> None:
    for arguments in ([], ["--help"], ["collect", "--help"], ["admin", "quota", "--help"]):
        status, out, err = terminal.run(*arguments)
        assert (status, err) == (0, "")
        assert out.index("Examples:") < out.index("Options:")
    assert terminal.run("--version")[1].startswith("raingauge ")


def test_the_reference_is_what_help_prints() -> None:
    assert (ROOT / "docs/command.md").read_text("utf-8") == reference(), "run `make reference`"


# -- collections -------------------------------------------------------------------------------------------------------


def test_json_is_the_body_of_the_api_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    body = b'{ "collections":[],"next": null}\t'
    raw = httpx2.Response(200, content=body, headers={"Content-Type": "application/json"})
    assert main(["list", "--json"], Session(httpx2.MockTransport(lambda _: raw))) == 0
    assert capfdbinary.readouterr().out == body


def test_the_address_comes_from_an_option_or_a_variable(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "http://there:1/weather/")
    terminal.run("quota", api=QUOTA)
    terminal.run("quota", "--url", "http://here:2", api=QUOTA)
    assert [str(each.url) for each in terminal.requests] == ["http://there:1/weather/quota", "http://here:2/quota"]
    assert load_settings().http.port == 8000, "the services ignore it"


@pytest.mark.parametrize("variable", TOKEN_VARIABLES)
def test_the_token_comes_from_the_environment_or_a_file_and_follows_no_redirect(
    variable: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("rg_secret\n")
    monkeypatch.setenv(variable, f"{tmp_path}/token" if variable.endswith("FILE") else "rg_secret")
    elsewhere = httpx2.Response(307, headers={"Location": "http://elsewhere:1/quota"})
    status, _, err = terminal.run("quota", "--url", "http://here:2", api=lambda _: elsewhere)
    assert (status, len(err.splitlines())) == (3, 1)
    assert [request.url.host for request in terminal.requests] == ["here"]
    assert terminal.requests[0].headers["authorization"] == "Bearer rg_secret"
    assert load_settings().http.port == 8000, "the services ignore it"


def test_a_refusal_for_want_of_a_token_says_where_the_command_takes_it_from(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = httpx2.Response(401, json={"detail": "no token"}, headers={"Content-Type": "application/problem+json"})
    status, _, err = terminal.run("quota", api=lambda _: refused)
    assert (status, "RAINGAUGE_TOKEN or the file that RAINGAUGE_TOKEN_FILE" in err) == (4, True)
    assert "authorization" not in terminal.requests[0].headers
    for name, value, line in (
        ("RAINGAUGE_TOKEN", "two words", "RAINGAUGE_TOKEN holds no token; it is one word that begins with rg_"),
        ("RAINGAUGE_TOKEN_FILE", "/none", "RAINGAUGE_TOKEN and RAINGAUGE_TOKEN_FILE are both set; remove one"),
    ):
        monkeypatch.setenv(name, value)
        status, _, err = terminal.run("quota", api=QUOTA)
        assert (status, err) == (2, f"raingauge: {line}\n")
    monkeypatch.delenv("RAINGAUGE_TOKEN")
    assert "cannot read /none" in terminal.run("quota", api=QUOTA)[2]
    monkeypatch.setenv("RAINGAUGE_TOKEN_FILE", "rg_secret")
    line = "RAINGAUGE_TOKEN_FILE: cannot read what looks like a token; name a file with a token in it"
    assert terminal.run("quota", api=QUOTA)[2] == f"raingauge: {line}\n"


def test_collecting_posts_the_cities_of_a_file_and_prints_what_was_accepted(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("7\n\n8\n")
    accepted = {"id": "1", "status": "queued", "total": 2, "batches": 1, "expected_at": STATE["expected_at"]}
    status, out, err = terminal.run("collect", "1", "--cities", f"{tmp_path}/ids", "--max-age-s", "0", api=accepted)
    assert (status, out) == (0, "1  queued  2 cities, done in 2 min 10 s\n")
    assert "raingauge watch 1" in err
    assert json.loads(terminal.requests[0].content) == {"id": "1", "max_age_s": 0, "cities": [7, 8]}


def test_ctrl_c_while_the_api_accepts_says_how_to_go_on(terminal: Terminal) -> None:
    def interrupt(_: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    status, out, err = terminal.run("collect", "1", api=interrupt)
    assert (status, out) == (130, "")
    assert "1 may be accepted; `raingauge get 1` shows it, or repeat the command" in err


def test_a_dry_run_prints_the_cost(terminal: Terminal) -> None:
    found = {"id": "1", "total": 4, "batches": 1, "settled": 0, "fresh": 1, "cost": 3, "expected_at": None}
    assert terminal.run("collect", "1", "--dry-run", api=found)[1].startswith("1 would cost 3 of 4 cities (1 are fresh")
    assert terminal.request == "POST /collect?dry_run=true"
    done = found | {"settled": 4, "fresh": 0, "cost": 0, "expected_at": "2026-11-20T12:00:00.000Z"}
    assert terminal.run("collect", "1", "--dry-run", api=done)[1] == (
        "1 is done: it would cost nothing, all 4 cities are settled\n"
    )


@pytest.mark.parametrize(
    ("end", "status", "line"),
    [
        (DONE, 0, ""),
        (DONE | {"collected": 3, "failed": 1}, 5, "1 city of 1 failed; `raingauge get 1` says why"),
        (DONE | {"status": "cancelled", "collected": 2}, 5, "1 was cancelled"),
    ],
)
def test_waiting_polls_quietly_outlives_an_outage_and_ends_with_0_or_5(
    terminal: Terminal, end: dict[str, Any], status: int, line: str
) -> None:
    answers = iter([answer(STATE, ETag='W/"a"'), None, httpx2.Response(304), answer(end)])

    def api(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return answer({"id": "1"}, 202)
        following = next(answers)
        return broken(httpx2.ConnectError("gone"))(request) if following is None else following

    ended, out, err = terminal.run("collect", "1", "--wait", api=api)
    assert (ended, out.split()[:2], err.count("\n")) == (status, ["1", end["status"]], 1 if line else 0)
    assert line in err
    assert terminal.pauses == [1.0] * 3
    assert [each.headers.get("if-none-match") for each in terminal.requests[1:]] == [None, *['W/"a"'] * 3]


def test_a_wait_is_given_up_when_the_api_stays_away_or_never_was(terminal: Terminal) -> None:
    assert terminal.run("watch", "1", api=broken(httpx2.ConnectError("gone")))[0] == 3
    assert terminal.pauses == []
    first = iter([answer(STATE)])
    ended, _, _ = terminal.run("watch", "1", api=lambda _: next(first, problem(503, "away")))
    assert (ended, len(terminal.pauses)) == (3, 121)


def test_readings_are_printed_in_columns_and_what_is_not_data_on_stderr(terminal: Terminal) -> None:
    found = DONE | {"failed": 1, "data": [ROW | {"country": "UY"}], "next": "/get?id=1&limit=1&after=7"}
    found["errors"] = [{"city_id": 9, "reason": "unknown city"}]
    status, out, err = terminal.run("get", "1", "--fields", "country", "--limit", "1", api=found)
    assert status == 0
    assert out.splitlines() == [
        "city_id\tname\ttemperature (°C)\thumidity (%)\tcountry\tobserved_at (UTC)",
        "7\tYoung\N{REPLACEMENT CHARACTER}[2J\t19.4\t\tUY\t2026-11-20 11:50",
    ]
    assert "city 9 failed: unknown city" in err
    assert "--after 7" in err
    assert terminal.request == "GET /get?id=1&fields=country&limit=1"


def test_collections_are_listed_page_by_page(terminal: Terminal) -> None:
    waiting = STATE | {"id": "2", "status": "waiting", "reason": "month", "expected_at": None}
    found = {"collections": [waiting, DONE], "next": "/collections?limit=2&after=x.1"}
    status, out, err = terminal.run("list", "--status", "open", "--limit", "2", api=found)
    assert (status, "--after x.1" in err) == (0, True)
    requested_at, ended_at = "2026-11-20T11:59:00.000Z", "2026-11-20T12:02:10.000Z"
    assert out.splitlines()[1:] == [
        f"2\twaiting\tmonth\t0.25\t1\t0\t4\t{requested_at}\t\t",
        f"1\tdone\t\t1.0\t4\t0\t4\t{requested_at}\t{ended_at}\t{ended_at}",
    ]
    assert terminal.request == "GET /collections?status=open&limit=2"


def test_a_collection_is_cancelled(terminal: Terminal) -> None:
    cancelled = STATE | {"status": "cancelled"}
    assert terminal.run("cancel", "1", api=cancelled)[:2] == (0, "1  cancelled  1 of 4 collected\n")
    assert terminal.request == "POST /collections/1/cancel"


def test_a_collection_is_deleted_when_a_person_says_so(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.run("delete", "1", "--yes", api=lambda _: httpx2.Response(204)) == (0, "", "1 is deleted\n")
    assert terminal.request == "DELETE /collections/1"
    terminal.requests.clear()
    status, _, said = terminal.run("delete", "1", api=DONE)
    assert (status, "add --yes" in said, terminal.request) == (2, True, "GET /get?id=1&data=false")
    for words, methods in (("n\n", ["GET"]), ("y\n", ["GET", "DELETE"])):
        terminal.requests.clear()
        person = io.StringIO(words)
        person.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", person)
        api = {"GET": answer(DONE), "DELETE": httpx2.Response(204)}
        _, _, said = terminal.run("delete", "1", api=lambda request, api=api: api[request.method])  # type: ignore[misc]
        assert "Delete 1 (done, 4 of 4 collected) for good?" in said
        assert [request.method for request in terminal.requests] == methods


def test_a_history_is_a_table_of_all_pages_or_the_api_s_own_bytes(terminal: Terminal) -> None:
    row = ROW | {"collection_id": "1", "fetched_at": "2026-11-20T11:51:00.000Z", "pressure": 1000.5}
    bodies = iter([{"data": [row], "next": "/readings?city_id=7&after=x"}, {"data": [row], "next": None}])
    arguments = ("history", "7", "--from", "2026-11-01", "--fields", "pressure")
    status, out, _ = terminal.run(*arguments, api=lambda _: answer(next(bodies)))
    line = "2026-11-20 11:51\t7\t19.4\t\t1000.5\t2026-11-20 11:50"
    headings = "fetched_at (UTC)\tcity_id\ttemperature (°C)\thumidity (%)\tpressure (hPa)\tobserved_at (UTC)"
    assert (status, out.splitlines()) == (0, [headings, line, line])
    wanted = {"city_id": "7", "from": "2026-11-01T00:00:00Z", "fields": "pressure", "units": "metric", "limit": "1000"}
    assert dict(terminal.requests[0].url.params) == wanted
    csv = httpx2.Response(200, content=iter([b"a,b\n", b"1,2\n"]))
    assert terminal.run("history", "7", "--format", "csv", api=lambda _: csv)[:2] == (0, "a,b\n1,2\n")
    body: dict[str, Any] = {"data": [], "next": None}
    assert terminal.run("history", "7", "--format", "json", api=body)[:2] == (0, '{"data":[],"next":null}')
    assert terminal.run("history", "7", api=body)[:2] == (0, "")


@pytest.mark.parametrize(("name", "form"), [("w.csv", "csv"), ("w.geojson", "geojson"), ("w.txt", "csv")])
def test_an_export_appears_when_it_is_complete(terminal: Terminal, name: str, form: str, tmp_path: Path) -> None:
    rows = httpx2.Response(200, content=iter([b"a,b\n", b"1,2\n"]))
    assert terminal.run("export", "1", "-o", f"{tmp_path}/{name}", api=lambda _: rows)[0] == 0
    assert terminal.request == f"GET /collections/1/export?format={form}&units=metric"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "a,b\n1,2\n"}


def test_an_export_that_breaks_off_leaves_the_old_file(terminal: Terminal, tmp_path: Path) -> None:
    def cut() -> Any:
        yield b"a,b\n"
        raise httpx2.RemoteProtocolError("peer closed the connection")

    (tmp_path / "w.csv").write_text("old")
    whole, broken_off = httpx2.Response(200), httpx2.Response(200, content=cut())
    assert terminal.run("export", "1", "-o", f"{tmp_path}/w.csv", api=lambda _: broken_off)[:2] == (3, "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"w.csv": "old"}
    assert terminal.run("export", "1", "-o", f"{tmp_path}/no/w.csv", api=lambda _: whole)[0] == 2


# -- the account and events --------------------------------------------------------------------------------------------


def test_the_quota_is_one_screen(terminal: Terminal) -> None:
    status, out, _ = terminal.run("quota", api=QUOTA)
    assert status == 0
    assert {
        "gate\tclosed: the key is refused; tried again in 5 min",
        "held now\t40 of 60 cities in 60 s, smooth",
        "next release\t20 cities in 12 s",
        "month 2026-11\t400 of 1,000 cities, ends in 10 d 12 h",
        "forecast\t900 of 1,000",
    } <= {*out.splitlines()}
    open_gate = QUOTA["gate"] | {"state": "open", "blocked_until": None}
    spent = QUOTA["month"] | {"allowed_now": 0}
    one = QUOTA["next_release"] | {"cities": 1}
    _, out, _ = terminal.run("quota", api=QUOTA | {"gate": open_gate, "month": spent, "next_release": one})
    assert "gate\topen, 20 cities a call\n" in out
    assert "next release\t1 city in 12 s\n" in out
    assert "\t0: the month's budget allows no more cities yet; a new month begins in 10 d 12 h\n" in out


def test_the_newest_events_are_shown_unless_a_number_is_given(terminal: Terminal) -> None:
    def event(number: int) -> dict[str, Any]:
        time = "2026-11-20T11:50:00.000Z"
        return {"number": number, "created_at": time, "type": "message", "user_id": "u", "description": "rain"}

    def api(request: httpx2.Request) -> httpx2.Response:
        first = "after" not in request.url.params
        following = "/weather/events?after=2&limit=1000" if first else None
        return answer({"events": [event(1), event(2)] if first else [event(3)], "next": following})

    _, out, _ = terminal.run("events", "--limit", "2", api=api)
    assert [line.split("\t")[0] for line in out.splitlines()] == ["number", "2", "3"]
    assert terminal.requests[1].url.path == "/events"
    (_, only) = terminal.run("events", "--after", "2", api=api)[1].splitlines()
    assert only.startswith("3\t2026-11-20 11:50:00\tmessage")


# -- on a terminal -----------------------------------------------------------------------------------------------------


def test_a_terminal_gets_colours_unless_no_color_is_set(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    _, coloured, _ = terminal.run("quota", api=QUOTA)
    drawn = terminal.run("list", api={"collections": [STATE, DONE | {"failed": 1}], "next": None})[1].splitlines()
    monkeypatch.setenv("NO_COLOR", "1")
    _, plain, _ = terminal.run("quota", api=QUOTA)
    assert "\x1b[33mclosed" in coloured
    assert [line.rstrip()[-10:] for line in drawn[1:]] == ["2 min 10 s", "3 min 10 s"]
    assert "4 of 4, 1 failed" in drawn[2]
    assert "\x1b[36m" + "━" * 13 + "\x1b[0m\x1b[2m" + "─" * 7 in coloured, "40 of 60"
    assert "\x1b[33m" not in plain
    assert "\t" not in plain


def test_the_bar_shows_progress_and_the_time_left(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    waiting = STATE | {"status": "waiting", "reason": "month"}
    answers = iter([answer(STATE), answer(waiting), answer(DONE)])
    status, _, err = terminal.run("watch", "1", api=lambda _: next(answers))
    assert status == 0
    assert " 100 % \x1b[2m4 of 4\x1b[0m done" in err


# -- pure parts --------------------------------------------------------------------------------------------------------


def test_city_ids_are_read_from_lines_a_csv_or_json() -> None:
    tables = ("name,City_ID\nA,7\nB,8\n", 'id;name\n7;"A;\nB"\n8;C', "id\n7\n8\n", "name\tid\nA\t7\nB\t8")
    for text in ("7\n8\n", "\n 7\r\n8", "[7, 8]", *tables):
        assert read_city_ids("f", text) == [7, 8], text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "there is no city id"),
        ("id\n", "no city id below its heading"),
        ("7\nMontevideo\n", "f, line 2: 'Montevideo' is no city id; `raingauge cities match`"),
        ("name,id\nA,7\nB,\n", "f, line 3: '' is no city id"),
        ("[7, true]", "a JSON list of city ids"),
        ("[]", "a JSON list of city ids"),
        ("[7", "it begins as JSON and is none"),
        pytest.param("[" * 100_000, "it begins as JSON and is none", id="deeply nested"),
        pytest.param(f"[{'7' * 5000}]", "it begins as JSON and is none", id="many digits in JSON"),
        pytest.param("7" * 5000, "f, line 1: '7777", id="many digits"),
    ],
)
def test_what_is_no_city_id_is_named_with_its_line(text: str, line: str) -> None:
    with pytest.raises(Misused) as found:
        read_city_ids("f", text)
    assert line in str(found.value)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (59.6, "1 min"), (130, "2 min 10 s"), (20_040, "5 h 34 min"), (360_000, "4 d 4 h"), (3600, "1 h")],
)
def test_durations_are_spelled_in_two_units(seconds: float, words: str) -> None:
    assert spelled(timedelta(seconds=seconds)) == words
