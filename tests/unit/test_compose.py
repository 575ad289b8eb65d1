"""What docker-compose.yml promises: valid, its settings exist, shut off from outside, the simulated weather apart."""

import os
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from consumer.app import GRACE_S
from raingauge.messaging.kafka.client import DEFAULT_TIMEOUTS
from raingauge.process import DRAIN_S
from raingauge.settings import Settings, load_settings
from simulator.__main__ import read_options

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
VARIABLE: Final = re.compile(r"\$\{(\w+):-(\w*)\}")

RUN_ONCE: Final = {"migrate", "simulator-migrate"}
WRITABLE: Final = {"kafka": "its start script writes configuration and logs below /opt/kafka"}
OWN_USER: Final = {"kafka": "the image's user is appuser", "mysql": "asked for, because the image's is root"}


def interpolated(text: str) -> str:
    """What Compose reads when the environment is empty."""
    return VARIABLE.sub(r"\2", text).replace("$$", "$")


SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load(interpolated(FILE.read_text("utf-8")))["services"]
OURS: Final = [name for name, service in SERVICES.items() if "build" in service]
CONFIGURED: Final = [name for name in OURS if "environment" in SERVICES[name]]
CONSUMERS: Final = ["consumer", "simulator-consumer"]
SIMULATED: Final = [name for name in CONFIGURED if name.startswith("simulator-")]


@pytest.fixture(autouse=True)
def _settings_from_the_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for variable in [name for name in os.environ if name.startswith("RAINGAUGE_")]:
        monkeypatch.delenv(variable)


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the program in this service reads them."""
    for variable, value in SERVICES[name]["environment"].items():
        if variable.startswith("RAINGAUGE_") and value is not None:
            monkeypatch.setenv(variable, value)
    return load_settings()


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "version" not in yaml.safe_load(FILE.read_text("utf-8")), "it is obsolete"


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_is_set_for_a_service_exists_in_the_settings_and_is_within_its_range(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = Settings().model_dump()
    for variable, value in SERVICES[name]["environment"].items():
        if variable.startswith("RAINGAUGE_") and value is None:  # taken over from whoever starts it
            section, key = variable.removeprefix("RAINGAUGE_").lower().split("__")
            monkeypatch.setenv(variable, str(defaults[section][key]))
    settings_of(name, monkeypatch)


def test_whoever_exports_what_the_file_asks_for_can_still_run_the_programs_without_docker() -> None:
    asked = {variable for variable, _ in VARIABLE.findall(FILE.read_text("utf-8"))}
    taken_over = {variable for name in CONFIGURED for variable in SERVICES[name]["environment"]}
    assert {variable for variable in asked if variable.startswith("RAINGAUGE_")} <= taken_over


def test_every_port_is_published_once_on_loopback_and_can_be_changed_by_the_environment() -> None:
    services = yaml.safe_load(FILE.read_text("utf-8"))["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port) for port in ports)
    taken = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(set(taken)) == sorted(taken)
    assert len(taken) == len(ports)


@pytest.mark.parametrize(("name", "service"), SERVICES.items())
def test_a_service_has_no_rights_that_it_does_not_need(name: str, service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc"} & service.keys()
    assert service.get("read_only", False) is (name not in WRITABLE)
    assert "build" in service or name in OWN_USER, "whose user is it?"
    assert name != "mysql" or service["user"] == "mysql"
    assert "build" in service or re.fullmatch(r"[\w/]+:\d+\.\d+(\.\d+)?", service["image"]), "a pinned version"


@pytest.mark.parametrize(("name", "service"), SERVICES.items())
def test_a_service_comes_back_unless_it_is_to_run_once(name: str, service: dict[str, Any]) -> None:
    assert service["restart"] == ("no" if name in RUN_ONCE else "unless-stopped")
    assert service["init"] is True
    assert ("healthcheck" in service) is (name not in RUN_ONCE)


@pytest.mark.parametrize("name", sorted({*CONFIGURED} - RUN_ONCE))
def test_the_health_check_asks_where_the_program_listens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    listens = settings.consumer.http if name in CONSUMERS else settings.http
    assert listens.host == "0.0.0.0"
    assert SERVICES[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{listens.port}/ready"
    assert all(port.endswith(f":{listens.port}") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_can_be_scaled_and_is_not_killed_while_it_drains(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"ports", "container_name", "hostname"} & SERVICES[name].keys()
    drain_s = DRAIN_S + settings_of(name, monkeypatch).openweather.timeout_s + GRACE_S
    farewell_s = 2 * DEFAULT_TIMEOUTS.commit_s + 3 * DEFAULT_TIMEOUTS.stop_s
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain_s + farewell_s


@pytest.mark.parametrize(("name", "service"), SERVICES.items())
def test_a_service_waits_for_the_health_of_what_it_needs(name: str, service: dict[str, Any]) -> None:
    for needed, how in service.get("depends_on", {}).items():
        ended = needed in RUN_ONCE
        assert how == {"condition": "service_completed_successfully" if ended else "service_healthy"}
        assert "profiles" not in SERVICES[needed] or "profiles" in service, "it would not start without the profile"
    if name in CONFIGURED and name not in RUN_ONCE:
        assert {"kafka", "simulator-migrate" if name in SIMULATED else "migrate"} <= service["depends_on"].keys()


def test_only_the_simulator_and_what_runs_on_it_wait_for_the_profile() -> None:
    waiting = {name for name, service in SERVICES.items() if service.get("profiles") == ["simulator"]}
    assert waiting == {"simulator", *SIMULATED}
    assert not [name for name, service in SERVICES.items() if name not in waiting and "profiles" in service]


def test_invented_weather_shares_neither_database_nor_topic_nor_group_nor_account_with_the_real() -> None:
    with pytest.MonkeyPatch.context() as environment:
        real = {name: settings_of(name, environment) for name in ["migrate", "producer", "consumer"]}
    with pytest.MonkeyPatch.context() as environment:
        simulated = {name: settings_of(name, environment) for name in SIMULATED}
    assert {s.openweather.base_url for s in simulated.values()} == {"http://simulator:8080"}
    for apart in ("database.url", "broker.topic", "broker.group", "quota.account"):
        values = [{attrgetter(apart)(settings) for settings in side.values()} for side in (real, simulated)]
        assert values[0].isdisjoint(values[1]), apart
    assert len({(s.database.url, s.broker, s.quota) for s in real.values()}) == 1
    assert len({(s.database.url, s.broker, s.quota) for s in simulated.values()}) == 1


def test_the_simulator_takes_the_quota_and_the_key_that_its_consumers_have(monkeypatch: pytest.MonkeyPatch) -> None:
    command = SERVICES["simulator"]["command"]
    assert command[:3] == ["python", "-m", "simulator"]
    simulator = read_options(command[3:])
    quota = settings_of("simulator-consumer", monkeypatch).quota
    assert (simulator.quota, simulator.window_s) == (quota.cities_per_window, quota.window_s)
    assert simulator.key == SERVICES["simulator-consumer"]["environment"]["OPENWEATHER_API_KEY"]


def test_the_key_goes_to_the_real_consumers_alone_and_is_empty_when_nobody_gives_it() -> None:
    assert "OPENWEATHER_API_KEY: ${OPENWEATHER_API_KEY:-}" in FILE.read_text("utf-8")
    having = {name for name in CONFIGURED if "OPENWEATHER_API_KEY" in SERVICES[name]["environment"]}
    assert having == {"consumer", "simulator-consumer"}


def test_both_databases_are_made_for_the_user_that_the_programs_are() -> None:
    mysql = SERVICES["mysql"]["environment"]
    user, password, database = mysql["MYSQL_USER"], mysql["MYSQL_PASSWORD"], mysql["MYSQL_DATABASE"]
    url = f"mysql+pymysql://{user}:{password}@mysql:3306/{database}"
    assert SERVICES["producer"]["environment"]["RAINGAUGE_DATABASE__URL"] == url
    assert SERVICES["simulator-producer"]["environment"]["RAINGAUGE_DATABASE__URL"] == f"{url}_simulator"
    made = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/mysql").glob("*.sql"))
    assert f"CREATE DATABASE IF NOT EXISTS {database}_simulator " in made
    assert rf"GRANT ALL ON `{database}\_simulator`.* TO '{user}'@'%';" in made


def test_kafka_tells_the_programs_and_the_host_the_address_under_which_they_asked() -> None:
    kafka = SERVICES["kafka"]
    told = dict(listener.split("://") for listener in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    urls = {SERVICES[name]["environment"]["RAINGAUGE_BROKER__URL"] for name in CONFIGURED}
    assert urls == {f"kafka://{told['CLIENT']}"}
    assert told["EXTERNAL"] == "localhost:9094"
    assert kafka["ports"] == ["127.0.0.1:9094:9094"]
    assert kafka["volumes"] == [f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}"]
