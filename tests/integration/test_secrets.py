"""Neither settings nor the provider's client show the key or a password, whatever is wrong with them."""

import base64
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from consumer.provider.openweather import OpenWeather
from raingauge.clock import SystemClock
from raingauge.database import open_database
from raingauge.errors import ProviderUnavailable, SettingsError
from raingauge.messaging.kafka import cluster_of, servers_of
from raingauge.observability.log import LIBRARIES
from raingauge.process import run_program
from raingauge.settings import BrokerSettings, Settings, load_settings
from tests.e2e import marks
from tests.e2e.echo import echoing
from tests.e2e.marks import KEY, PASSWORD, QUOTED_PASSWORD, SPELLINGS, assert_unmarked, url_with_password
from tests.e2e.running import settings_for
from tests.support.servers import free_port

DATABASE = url_with_password("mysql+pymysql", "127.0.0.1:3306")
Environ = Callable[[dict[str, str]], None]


def test_the_search_finds_every_spelling_and_a_mark_within_base64() -> None:
    within = [base64.b64encode(f"{before}{secret}".encode()) for before in ("", "a", "ab", "abc:", "user:")
              for secret in (KEY, PASSWORD)]  # fmt: skip
    for spelling in (*SPELLINGS, *within):
        with pytest.raises(AssertionError):
            assert_unmarked(b"before" + spelling + b"after", "a text")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Environ]:
    """Sets the environment; the levels of libraries are restored at the end."""

    def setenv(environment: dict[str, str]) -> None:
        usual = settings_for(
            "http://127.0.0.1:1", f"sqlite:///{tmp_path}/x.db", {"broker__url": "kafka://127.0.0.1:9092"}, KEY
        )
        for name, value in (usual | environment).items():
            monkeypatch.setenv(name, value)

    levels = {logger: logger.level for logger in map(logging.getLogger, LIBRARIES)}
    yield setenv
    for logger, level in levels.items():
        logger.setLevel(level)


WRONG: dict[str, dict[str, str]] = {
    "the key as a setting": {"RAINGAUGE_OPENWEATHER__API_KEY": KEY},
    "the key under another name": {"RAINGAUGE_OPENWEATHER_API_KEY": KEY},
    "a section that is no object": {"RAINGAUGE_DATABASE": DATABASE},
    "a section with an unknown key": {"RAINGAUGE_DATABASE": f'{{"password": "{QUOTED_PASSWORD}"}}'},
    "a password of its own": {"RAINGAUGE_DATABASE__PASSWORD": PASSWORD},
    "another database": {"RAINGAUGE_DATABASE__URL": url_with_password("oracle", "127.0.0.1")},
    "a port that is no number": {"RAINGAUGE_DATABASE__URL": url_with_password("mysql+pymysql", "127.0.0.1:port")},
    "a password that is not encoded": {"RAINGAUGE_DATABASE__URL": f"mysql+pymysql://raingauge:{PASSWORD}@:x/"},
    "no scheme": {"RAINGAUGE_DATABASE__URL": f"raingauge:{PASSWORD}@127.0.0.1"},
    "another hand-off": {"RAINGAUGE_BROKER__URL": url_with_password("amqp", "127.0.0.1")},
    "Kafka with a password": {"RAINGAUGE_BROKER__URL": url_with_password("kafka", "127.0.0.1:9092")},
    "a base_url with a password": {"RAINGAUGE_OPENWEATHER__BASE_URL": url_with_password("http", "127.0.0.1:1")},
    "a base_url with the key": {"RAINGAUGE_OPENWEATHER__BASE_URL": "http://127.0.0.1:1/?appid=kEyMaRk7Q"},
    "a base_url with spaces": {"RAINGAUGE_OPENWEATHER__BASE_URL": f"http://127.0.0.1:1/{KEY}"},
    "a key that is no text": {"OPENWEATHER_API_KEY": f"{KEY}\udcff"},
}
WRONG_FILES = [
    f"openweather: {{api_key: {marks.HEADS_AND_TAILS[0]}}}",
    f'database: {{url: "{DATABASE}", password: "{marks.HEADS_AND_TAILS[2]}"}}',
    f'database:\n  url: "{DATABASE}\n',
    f"database:\n  url: {DATABASE}: more\n",
    f"database: {DATABASE}",
    f"{DATABASE}",
    f"- {DATABASE}",
    f"database:\n\turl: {DATABASE}",
    f"database: {{url: [{DATABASE}]}}",
]


@pytest.mark.parametrize(
    ("environment", "file"),
    [*((environment, None) for environment in WRONG.values()), *(({}, file) for file in WRONG_FILES)],
    ids=[*WRONG, *(f"file {number}" for number in range(len(WRONG_FILES)))],
)
def test_a_program_with_wrong_settings_ends_with_one_line_without_a_secret(
    environment: dict[str, str], file: str | None, environ: Environ, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    async def program(settings: Settings) -> None:
        open_database(settings.database.url).close()
        servers_of(settings.broker.url)

    environ(environment)
    if file is not None:
        (tmp_path / "config.yml").write_text(file)
        monkeypatch.setenv("RAINGAUGE_CONFIG", str(tmp_path / "config.yml"))
        monkeypatch.delenv("RAINGAUGE_DATABASE__URL")
    assert run_program(program) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert_unmarked(printed.err + printed.out, "the error")


def test_settings_show_no_password(environ: Environ) -> None:
    environ(
        {"RAINGAUGE_DATABASE__URL": DATABASE, "RAINGAUGE_BROKER__URL": url_with_password("kafka", "127.0.0.1:9092")}
    )
    settings = load_settings()
    assert make_url(settings.database.url).password == PASSWORD
    for part in (settings, settings.database, settings.broker, settings.openweather):
        assert_unmarked(f"{part!r} {part}", "the settings")
    with closing(open_database(settings.database.url)) as database:
        assert_unmarked(f"{database.engine!r} {database.engine.url}", "the engine")


@pytest.mark.parametrize(
    "base_url",
    [
        *(
            "http://{closed}",
            "http://nowhere.invalid",
            "https://nowhere.invalid/path",
            "http://\u00fcml\u00e4ut.invalid",
        ),
        *(
            "http://[::1",
            "http://127.0.0.1:99999999",
            "http://",
            "http://%zz",
            "http://127.0.0.1:port",
            "https://{echo}",
        ),
    ],
)
def test_a_base_url_that_leads_nowhere(base_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for library in LIBRARIES:
        caplog.set_level(logging.DEBUG, library)
    with echoing() as provider:
        base_url = base_url.replace("{echo}", provider.url.removeprefix("http://"))
        base_url = base_url.replace("{closed}", f"127.0.0.1:{free_port()}")
        with (
            closing(OpenWeather(base_url, KEY, 0.5, SystemClock(), 1)) as client,
            pytest.raises(ProviderUnavailable) as away,
        ):
            client.single(1, float("inf"))
    assert away.value.__cause__ is away.value.__context__ is None
    assert_unmarked("".join(traceback.format_exception(away.value)) + repr(away.value), "the error")
    logged = [(record.getMessage(), vars(record)) for record in caplog.records]
    assert_unmarked(f"{client!r} {logged!r}", "the log")


def test_kafkas_settings_show_no_password_and_name_a_file_that_is_not_usable(tmp_path: Path) -> None:
    for content in ("", PASSWORD):
        (tmp_path / "file").write_text(content)
        given = {"password_file": str(tmp_path / "file"), "ca_file": str(tmp_path / "file")}
        settings = BrokerSettings(url="kafka://127.0.0.1:9092", security="sasl_ssl", username="raingauge", **given)
        with pytest.raises(SettingsError, match=r"^broker\.ca_file: .* has no certificate in PEM$") as refused:
            cluster_of(settings)
        assert_unmarked(f"{refused.value!r} {settings!r}", "the error")
