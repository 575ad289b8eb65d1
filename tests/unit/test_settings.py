"""Settings: documented defaults, precedence of the environment, secrets from files, and messages for mistakes."""

import json
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raingauge.access.tokens import new_token
from raingauge.database import open_database
from raingauge.errors import SettingsError
from raingauge.quota.pacing import Terms
from raingauge.settings import (
    NotifySettings,
    Settings,
    ca_file,
    load_settings,
    provider_key,
    token_digests,
    webhook_secrets,
)

pytestmark = pytest.mark.usefixtures("own_environment")

DOCUMENTED = yaml.safe_load((Path(__file__).parents[2] / "config.env.yml").read_text())
PASSWORD = "geheim"  # pragma: allowlist secret

OTHER: dict[str, Any] = {
    "http.host": "0.0.0.0",
    "http.port": 8080,
    "http.keep_alive_s": 75,
    "http.root_path": "/weather",
    "http.allow_anonymous": True,
    "http.allowed_hosts": ["weather.example.org"],
    "access.tokens": [{"name": "ci", "scope": "write", "token_file": "secret", "expires": None, "limits": None}],
    "limits.requests_per_s": 2.5,
    "limits.cities_open": 5000,
    "database.url": "sqlite:///elsewhere.db",
    "broker.url": "kafka://one:9092,two:9092",
    "broker.security": "sasl_ssl",
    "broker.sasl_mechanism": "PLAIN",
    "broker.username": "raingauge",
    "broker.password_file": "password",  # pragma: allowlist secret
    "broker.ca_file": "ca.pem",
    "broker.certificate_file": "client.pem",
    "broker.key_file": "client.key",
    "broker.key_password_file": "client.password",  # pragma: allowlist secret
    "broker.topic_prefix": "team-a.",
    "broker.topic": "towns",
    "broker.events_topic": "news",
    "broker.partitions": 3,
    "broker.create_topics": False,
    "broker.replication_factor": 2,
    "broker.group": "others",
    "collect.outstanding_batches": 2,
    "collect.max_cities": 20,
    "relay.every_s": 0.5,
    "relay.republish_after_s": 60.5,
    "consumer.window": 10,
    "consumer.lanes": 1,
    "consumer.http.host": "0.0.0.0",
    "consumer.http.port": 9100,
    "openweather.base_url": "http://127.0.0.1:8900",
    "openweather.endpoint": "single",
    "openweather.timeout_s": 2.5,
    "quota.account": "12345",
    "quota.cities_per_window": 3000,
    "quota.window_s": 6.5,
    "quota.pacing": "burst",
    "quota.cities_per_month": 1000,
    "quota.month_pacing": "none",
    "quota.keep_charges_days": 1,
    "freshness.max_age_s": 0,
    "log.format": "json",
    "notify.webhooks": [{"url": "https://example.org/hook", "events": ["dead_letter"], "secret_file": "secret"}],
    "notify.allow_private": True,
    "export.folder": "/srv/export",
    "streams.enabled": True,
    "streams.folder": "/srv/streams",
    "streams.readings_topic": "all",
    "streams.latest_topic": "newest",
    "streams.format": "connect-json",
    "retention.readings_days": 30,
    "retention.collections_days": 365,
    "cities.file": "/srv/cities.db",
    "schedules": [
        {
            "name": "hourly",
            "cron": "0 * * * *",
            "every_s": None,
            "zone": "Europe/Berlin",
            "cities": [1, 2],
            "cities_file": None,
            "max_age_s": 0,
            "missed": "skip",
            "overlap": "queue",
        }
    ],
}
"""For every setting a value that is not its default."""


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_text(value: Any) -> str:
    """The value as a variable of the environment."""
    return json.dumps(value) if isinstance(value, list) else str(value)


def variable(name: str) -> str:
    return f"RAINGAUGE_{name.upper().replace('.', '__')}"


def write(text: str, name: str = "config.env.yml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def refused() -> str:
    """What the error says; it is one line."""
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "\n" not in str(error.value)
    return str(error.value)


# -- defaults, file, environment ---------------------------------------------------------------------------------------


def test_the_file_documents_every_setting_with_its_default_and_nothing_changes_a_setting_later() -> None:
    settings: Any = load_settings()
    assert settings.model_dump() == Settings().model_dump() == DOCUMENTED
    for section, name in ((settings, "http"), (settings.http, "port")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, None)


def test_every_setting_is_tried_here() -> None:
    assert list(OTHER) == [name for name, _ in leaves(DOCUMENTED)]
    assert not [name for name, default in leaves(DOCUMENTED) if OTHER[name] == default]


@pytest.mark.parametrize("name", OTHER)
def test_the_environment_overrides_each_setting_of_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(yaml.safe_dump(DOCUMENTED))
    monkeypatch.setenv(variable(name), as_text(OTHER[name]))
    changed = dict(leaves(load_settings().model_dump(mode="json")))
    assert changed == dict(leaves(DOCUMENTED)) | {name: OTHER[name]}


def test_a_file_may_hold_a_few_settings_only() -> None:
    write("consumer: {http: {port: 9100}}\nquota: {pacing: burst}")
    changed = dict(leaves(load_settings().model_dump()))
    assert changed == dict(leaves(DOCUMENTED)) | {"consumer.http.port": 9100, "quota.pacing": "burst"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_changes_nothing(text: str) -> None:
    write(text)
    assert load_settings() == Settings()


def test_another_file_can_be_named_and_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write("http: {port: 1}")
    monkeypatch.setenv("RAINGAUGE_CONFIG", str(write("http: {port: 2}", "other.yml")))
    assert load_settings().http.port == 2
    for named in ("missing.yml", "", "."):
        monkeypatch.setenv("RAINGAUGE_CONFIG", named)
        assert refused() == f"RAINGAUGE_CONFIG: there is no file {named}"


@pytest.mark.parametrize(("url", "prefix"), [("kafka://host:9092", "team-a."), ("inprocess://", "")])
def test_a_prefix_is_in_front_of_all_names_on_kafka_and_of_none_in_embedded_mode(
    url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(yaml.safe_dump({"broker": {"url": url, "topic_prefix": "team-a."}}))
    broker, streams = load_settings().broker, load_settings().streams
    names = (broker.topic, broker.events_topic, broker.group, streams.readings_topic, streams.latest_topic)
    assert names == tuple(f"{prefix}{name}" for name in ("cities", "events", "collectors", "readings", "latest"))


def test_the_ledgers_terms_come_from_quota_and_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OTHER.items():
        monkeypatch.setenv(variable(name), as_text(value))
    assert load_settings().terms == Terms(3000, 6.5, "burst", 1000, "none", timeout_s=2.5)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["http", "consumer.http", "quota", "freshness"])
def test_an_unknown_key_is_named_wherever_it_stands(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner: Any = {"prot": 1}
    for name in reversed(section.split(".")):
        inner = {name: inner}
    path = write(yaml.safe_dump(inner))
    assert f"{section}.prot: unknown setting" in refused()
    path.unlink()
    monkeypatch.setenv(variable(f"{section}.prot"), "1")
    assert f"{section}.prot: unknown setting" in refused()


SUGGESTIONS = {
    "htpp: {port: 1}": "htpp: unknown setting; did you mean http?",
    "http: {prot: 1}": "http.prot: unknown setting; did you mean http.port?",
    "consumer: {http: {prot: 1}}": "consumer.http.prot: unknown setting; did you mean consumer.http.port?",
    "quota: {window: 1}": "quota.window: unknown setting; did you mean quota.window_s?",
    "openweather: {key: 1}": "openweather.key: unknown setting",
    "zzz: 1": "zzz: unknown setting",
}


@pytest.mark.parametrize(("text", "message"), SUGGESTIONS.items())
def test_the_nearest_setting_is_suggested_for_a_misspelt_one(text: str, message: str) -> None:
    write(text)
    assert refused() == f"settings: {message}"


NO_SETTINGS = {
    "RAINGAUGE_HTPP__PORT": "names no setting; did you mean RAINGAUGE_HTTP__PORT?",
    "RAINGAUGE_Z": "names no setting; expected RAINGAUGE_<SECTION>__<KEY>",
} | dict.fromkeys(
    ("RAINGAUGE_HTTP", "RAINGAUGE_HTTP_PORT", "RAINGAUGE_CONFIG__PORT", "raingauge_htpp__port", "RAINGAUGE_"),
    "names no setting",
)


@pytest.mark.parametrize(("name", "message"), NO_SETTINGS.items())
def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert refused().startswith(f"settings: {name} {message}")


EXPECTED = {
    "broker.url": "inprocess:// (embedded mode) or kafka://host:port,host:port",
    "broker.topic": "1 to 64 characters of A-Z a-z 0-9 . _ -",
    "openweather.base_url": "http:// or https:// and a host, without user, password, query or fragment",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_expected_form_is_described_in_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), "a b")
    assert refused() == f"settings: {name}: expected {EXPECTED[name]}"


def test_other_programs_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP__PORT", "RAIN", "RAINGAUGES_HTTP__PORT", "PATH__X"):
        monkeypatch.setenv(name, "1")
    assert load_settings().model_dump() == DOCUMENTED


OUT_OF_RANGE = {
    "http.port": ["eight", "65536", "-1", ""],
    "consumer.http.port": ["70000"],
    "broker.url": ["amqp://somewhere", "inprocess://somewhere", "kafka://"],
    "broker.security": ["tls", "SASL_SSL"],
    "broker.sasl_mechanism": ["GSSAPI", "plain"],
    "broker.topic_prefix": ["team/", "a" * 65],
    "broker.replication_factor": ["-1"],
    "broker.topic": ["two words", "cities\n"],
    "broker.partitions": ["0"],
    "collect.outstanding_batches": ["0"],
    "collect.max_cities": ["0"],
    "relay.every_s": ["0", "inf", "nan"],
    "relay.republish_after_s": ["1e300"],
    "consumer.window": ["0"],
    "consumer.lanes": ["0", "257"],
    "openweather.base_url": ["ftp://host", "http://some where", "http://a:b@host", "http://host/?appid=key"],
    "openweather.endpoint": ["both"],
    "openweather.timeout_s": ["0", "61"],
    "quota.account": ["a:b", "a" * 65],
    "quota.cities_per_window": ["0", "1.5"],
    "quota.window_s": ["0", "86401"],
    "quota.pacing": ["fast"],
    "quota.cities_per_month": ["0"],
    "quota.month_pacing": ["odd"],
    "quota.keep_charges_days": ["0", "3661"],
    "freshness.max_age_s": ["-1", "86401"],
    "notify.allow_private": ["perhaps"],
    "streams.enabled": ["perhaps"],
    "streams.folder": [""],
    "streams.readings_topic": ["two words"],
    "streams.format": ["avro"],
    "retention.readings_days": ["-1", "0.5"],
    "retention.collections_days": ["36501"],
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, all_ in OUT_OF_RANGE.items() for wrong in all_])
def test_a_value_out_of_its_range_is_named(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), wrong)
    assert refused().startswith(f"settings: {name}: ")


def test_a_base_url_may_have_a_path_of_its_own_but_none_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINGAUGE_OPENWEATHER__BASE_URL", "https://proxy.test/data/weather")
    assert load_settings().openweather.base_url == "https://proxy.test/data/weather"
    for path in ("/data/2.5", "/data/2.5/", "/data/2.5/weather", "/data/3.0/onecall", "/geo/1.0"):
        monkeypatch.setenv("RAINGAUGE_OPENWEATHER__BASE_URL", f"https://proxy.test/owm{path}")
        assert re.search(r"openweather\.base_url: .*remove /(data|geo)/\d\.\d and what follows", refused())


UNREADABLE = "- 1|text|5|1: 2|a: *b|http: {port: 1\nx: [|http:\n\tport: 1|http: !!python/object:os.system x"
WRONG_TYPES: dict[str, list[str | bytes]] = {
    "http.port": ["http: {port: eight}", "http: {port: [1]}", "http: {port: }"],
    "quota.account": ["quota: {account: 12}"],
    "http": ["http: 5", "http:", "http: [1]", "http: {1: 2}"],
    "config.env.yml: ": [*UNREADABLE.split("|"), b"\xff\xfe\x00"],
}


@pytest.mark.parametrize(("named", "text"), [(named, text) for named, all_ in WRONG_TYPES.items() for text in all_])
def test_a_wrong_type_in_the_file_is_named_or_the_file_if_it_has_no_sections(named: str, text: str | bytes) -> None:
    Path("config.env.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused().startswith(f"settings: {named}")


def test_json_that_cannot_be_read_names_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINGAUGE_CONSUMER__HTTP", "{")
    assert "consumer" in refused()


def test_the_certificate_authorities_come_from_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert ca_file() is None
    monkeypatch.setenv("SSL_CERT_FILE", ".")
    assert ca_file() == "."
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "missing.pem")
    with pytest.raises(SettingsError, match=r"^REQUESTS_CA_BUNDLE: there is no file missing.pem$"):
        ca_file()


def webhook(url: str = "https://example.org/hook", **more: Any) -> dict[str, Any]:
    return {"url": url, "secret_file": "secret"} | more


WRONG_WEBHOOKS = {
    "0.url: URL scheme": [webhook("ftp://example.org")],
    "0.url: Input should be a valid URL": [webhook(f"https://user:{PASSWORD}/x@host")],
    "0.events: List should have at least 1 item": [webhook(events=[])],
    "1.events.0: Input should be 'message',": [webhook(), webhook("https://example.net", events=["rain"])],
    "0.secret_file: Field required": [{"url": "https://example.org"}],
    "0.secret: unknown setting": [webhook(secret=PASSWORD)],
    "Value error, two of them have the same url": [webhook(), webhook(events=["message"])],
}


@pytest.mark.parametrize(("message", "webhooks"), WRONG_WEBHOOKS.items())
def test_a_wrong_webhook_is_named_and_its_url_is_not_shown(message: str, webhooks: list[dict[str, Any]]) -> None:
    write(yaml.safe_dump({"notify": {"webhooks": webhooks}}))
    separator = ": " if message.startswith("Value") else "."
    assert refused().startswith(f"settings: notify.webhooks{separator}{message}")
    assert PASSWORD not in refused()


def test_a_webhook_is_shown_without_what_may_be_secret() -> None:
    write(yaml.safe_dump({"notify": {"webhooks": [webhook(f"https://user:{PASSWORD}@[::1]:8443/a?t={PASSWORD}")]}}))
    settings = load_settings()
    (found,) = settings.notify.webhooks
    assert found.shown_url == "https://[::1]:8443/a"
    assert len(found.events) == 7
    assert PASSWORD not in f"{settings!r} {found.id}"


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_its_own_variable_and_stands_in_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_key() is None
    monkeypatch.setenv("OPENWEATHER_API_KEY", "")
    assert provider_key() is None
    monkeypatch.setenv("OPENWEATHER_API_KEY", PASSWORD)
    assert provider_key() == PASSWORD
    settings = load_settings()
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize("key", ["two\nlines", "\x1b[31m", "a\x7f"])
def test_a_key_that_cannot_be_shown_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENWEATHER_API_KEY", key)
    with pytest.raises(SettingsError, match=r"^OPENWEATHER_API_KEY: ") as error:
        provider_key()
    assert key not in str(error.value)


FILE_VARIABLES = ["OPENWEATHER_API_KEY", "RAINGAUGE_DATABASE__URL", "RAINGAUGE_BROKER__URL"]
each_file_variable = pytest.mark.parametrize("name", FILE_VARIABLES)
SECRET_URL = f"kafka://user:{PASSWORD}@host:9092"


def read_secret(name: str) -> str | None:
    if name == "OPENWEATHER_API_KEY":
        return provider_key()
    settings = load_settings()
    return settings.database.url if "DATABASE" in name else settings.broker.url


@each_file_variable
def test_a_secret_can_come_from_a_file_instead_of_a_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(yaml.safe_dump(DOCUMENTED))
    monkeypatch.setenv(f"{name}_FILE", str(write(f"  {SECRET_URL}\n", "secret")))
    assert read_secret(name) == SECRET_URL, "it overrides the configuration"
    assert PASSWORD not in f"{load_settings()!r}"
    monkeypatch.setenv(name, SECRET_URL)
    with pytest.raises(SettingsError) as error:
        read_secret(name)
    assert str(error.value) == f"{name} and {name}_FILE are both set: remove one of them"
    monkeypatch.setenv(f"{name}_FILE", "")
    assert read_secret(name) == SECRET_URL, "an empty one counts as not set"


@each_file_variable
def test_a_secret_file_that_cannot_be_read_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("\n", "empty")
    Path("binary").write_bytes(b"\xff\xfe")
    missing = {"missing": "cannot read missing: No such file or directory", ".": "cannot read .: Is a directory"}
    for file, reason in (missing | {"empty": "empty is empty", "binary": "binary is not UTF-8 text"}).items():
        monkeypatch.setenv(f"{name}_FILE", file)
        with pytest.raises(SettingsError) as error:
            read_secret(name)
        assert str(error.value) == f"{name}_FILE: {reason}"


@pytest.mark.parametrize("key", ["key", "api_key", "appid"])
def test_the_key_is_refused_as_a_setting(key: str) -> None:
    write(f"openweather: {{{key}: {PASSWORD}}}")
    told = refused()
    assert f"openweather.{key}: " in told
    assert PASSWORD not in told


def test_a_password_in_a_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"database.url": f"mysql+pymysql://user:{PASSWORD}@host/raingauge", "broker.url": SECRET_URL}
    for name, url in urls.items():
        monkeypatch.setenv(variable(name), url)
    settings = load_settings()
    assert urls.items() <= dict(leaves(settings.model_dump())).items()
    assert PASSWORD not in f"{settings!r} {settings}"
    database = open_database(urls["database.url"])
    assert PASSWORD not in repr(database.engine)
    database.close()


@pytest.mark.parametrize("name", ["broker.url", "openweather.base_url", "database.ulr"])
def test_a_mistake_is_named_without_its_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), f"amqp://user:{PASSWORD}@host")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "url",
    [
        f"mysql+pymysql://user:{PASSWORD}@host:port/raingauge",
        f"mysql+pymysql://user:word@{PASSWORD}:port/raingauge",  # pragma: allowlist secret
        f"mysql+pymysql//user:{PASSWORD}@host",
        f"mysql+nosuchdriver://user:{PASSWORD}@host/raingauge",
        f"mysql://user:{PASSWORD}@host/raingauge",
        f"oracle://user:{PASSWORD}@host/raingauge",
        "",
        "sqlite://",
        "sqlite:////proc/nowhere/raingauge.db",
    ],
)
def test_a_database_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^database\.url: ") as error:
        open_database(url)
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_the_secret_of_a_webhook_comes_from_its_file_which_is_named_without_what_it_holds() -> None:
    settings = NotifySettings.model_validate({"webhooks": [webhook()]})
    held: dict[str | None, str] = {None: "cannot read secret: No such file or directory", " \n": "secret is empty"}
    wrong = (PASSWORD, f"whsec_{'A' * 31}", f"whsec_{'A' * 28}", "A" * 32)
    held |= dict.fromkeys(wrong, "secret does not hold whsec_ and 24 to 64 bytes in base64")
    for content, message in held.items():
        if content is not None:
            write(content, "secret")
        with pytest.raises(SettingsError) as error:
            webhook_secrets(settings)
        assert str(error.value) == f"notify.webhooks.0.secret_file: {message}"
    secret = f"whsec_{'A' * 32}"
    write(f"{secret}\n", "secret")
    assert webhook_secrets(settings) == [secret]


TOKEN = new_token()
INSTEAD = "what looks like a secret (write it into a file, and name that file)"


@pytest.mark.parametrize(
    "secret",
    [TOKEN, TOKEN[:-3], f" {TOKEN}", f"whsec_{'A' * 32}", "0123456789abcdef" * 2, f"{'0123456789abcdef' * 2}\n"],
    ids=["token", "cut off", "spaced", "webhook", "key", "key with a newline"],
)
def test_a_secret_in_place_of_a_files_name_is_not_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"name": "ci", "scope": "read", "token_file": secret}
    monkeypatch.setenv("RAINGAUGE_ACCESS__TOKENS", json.dumps([entry]))
    with pytest.raises(SettingsError) as error:
        token_digests(load_settings().access.tokens)
    assert str(error.value) == f"access.tokens.0.token_file: cannot read {INSTEAD}: No such file or directory"
    assert secret not in "".join(traceback.format_exception(error.value))
    monkeypatch.setenv("RAINGAUGE_CONFIG", secret)
    assert refused() == f"RAINGAUGE_CONFIG: there is no file {INSTEAD}"


def test_a_token_at_another_place_of_the_settings_is_not_shown() -> None:
    named = "0.name: expected 1 to 64 characters of A-Z a-z 0-9 . _ -, not like a token"
    for text, message in {
        f"name: {TOKEN}, scope: read, token_file: x": named,
        f"name: x, scope: read, token_file: x, {TOKEN}: x": "0: an unknown setting with an invalid name",
    }.items():
        write(f"access: {{tokens: [{{{text}}}]}}")
        assert refused() == f"settings: access.tokens.{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{name: a/b, cron: x}]", "schedules.0.name: expected 1 to 40 of A-Z a-z 0-9 . _ -, and neither . nor .."),
        ("[{name: a, crn: x}]", "schedules.0.crn: unknown setting"),
        ("[{name: a}, {name: a}]", "schedules: Value error, two of them have the name a"),
        ("[{name: a, cities: [1], cities_file: x}]", "schedules.0: Value error, give either cities or cities_file"),
        ("[{cron: x}]", "schedules.0.name: Field required"),
        ("1", "schedules: Input should be a valid list"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_named(text: str, message: str) -> None:
    write(f"schedules: {text}")
    assert refused() == f"settings: {message}"
