"""What docker-compose.yml promises: its settings exist, it is shut off from outside, the simulated weather is apart."""

import re
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
from tests.support.processes import forget_settings

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docker-compose.yml").read_text("utf-8")
VARIABLE: Final = re.compile(r"\$\{(\w+):-(\w*)\}")

SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load(VARIABLE.sub(r"\2", TEXT).replace("$$", "$"))["services"]
"""As Compose reads them when the environment is empty."""
EACH: Final = pytest.mark.parametrize(("name", "service"), SERVICES.items())
RUN_ONCE: Final = {"migrate", "simulator-migrate"}
CONFIGURED: Final = [name for name, service in SERVICES.items() if "build" in service and "environment" in service]
CONSUMERS: Final = ["consumer", "simulator-consumer"]
SIMULATED: Final = [name for name in CONFIGURED if name.startswith("simulator-")]


@pytest.fixture(autouse=True)
def _settings_from_the_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    forget_settings(monkeypatch)


def settings_of(name: str) -> Settings:
    """The settings as the program in this service reads them."""
    defaults = Settings().model_dump()
    with pytest.MonkeyPatch.context() as environment:
        for variable, value in SERVICES[name]["environment"].items():
            if variable.startswith("RAINGAUGE_") and value is None:  # taken over from whoever starts the service
                section, key = variable.removeprefix("RAINGAUGE_").lower().split("__")
                environment.setenv(variable, str(defaults[section][key]))
            elif variable.startswith("RAINGAUGE_"):
                environment.setenv(variable, value)
        return load_settings()


@pytest.mark.parametrize("name", CONFIGURED)
def test_the_settings_of_a_service_exist_and_its_health_check_asks_where_it_listens(name: str) -> None:
    settings = settings_of(name)
    if name not in RUN_ONCE:
        listens = settings.consumer.http if name in CONSUMERS else settings.http
        assert listens.host == "0.0.0.0"
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{listens.port}/ready"
        assert all(port.endswith(f":{listens.port}") for port in SERVICES[name].get("ports", []))


def test_whoever_exports_what_the_file_asks_for_can_still_run_the_programs_without_docker() -> None:
    taken_over = {variable for name in CONFIGURED for variable in SERVICES[name]["environment"]}
    assert {name for name, _ in VARIABLE.findall(TEXT) if name.startswith("RAINGAUGE_")} <= taken_over


def test_every_port_is_published_once_on_loopback_and_can_be_changed_by_the_environment() -> None:
    ports = [port for service in yaml.safe_load(TEXT)["services"].values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port) for port in ports)
    taken = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len({*taken}) == len(ports)


@EACH
def test_a_service_has_no_rights_that_it_does_not_need_and_comes_back_unless_it_runs_once(
    name: str, service: dict[str, Any]
) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc"} & service.keys()
    # Kafka's start script writes configuration and logs below /opt/kafka.
    assert service.get("read_only", False) is (name != "kafka")
    assert name != "mysql" or service["user"] == "mysql", "its image's user is root"
    assert "build" in service or re.fullmatch(r"[\w/]+:\d+\.\d+(\.\d+)?", service["image"]), "a pinned version"
    assert service["restart"] == ("no" if name in RUN_ONCE else "unless-stopped")
    assert service["init"] is True
    assert ("healthcheck" in service) is (name not in RUN_ONCE)


@EACH
def test_a_service_waits_for_the_health_of_what_it_needs(name: str, service: dict[str, Any]) -> None:
    for needed, how in service.get("depends_on", {}).items():
        ended = needed in RUN_ONCE
        assert how == {"condition": "service_completed_successfully" if ended else "service_healthy"}
    if name in CONFIGURED and name not in RUN_ONCE:
        assert {"kafka", "simulator-migrate" if name in SIMULATED else "migrate"} <= service["depends_on"].keys()
    waits_for_the_profile = name == "simulator" or name in SIMULATED
    assert service.get("profiles") == (["simulator"] if waits_for_the_profile else None)
    assert waits_for_the_profile or not service.get("depends_on", {}).keys() & {"simulator", *SIMULATED}


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_can_be_scaled_and_is_not_killed_while_it_drains(name: str) -> None:
    assert not {"ports", "container_name", "hostname"} & SERVICES[name].keys()
    drain_s = DRAIN_S + settings_of(name).openweather.timeout_s + GRACE_S
    farewell_s = 2 * DEFAULT_TIMEOUTS.commit_s + 3 * DEFAULT_TIMEOUTS.stop_s
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain_s + farewell_s


def test_invented_weather_shares_neither_database_nor_topic_nor_group_nor_account_with_the_real() -> None:
    real, simulated = (
        [settings_of(name) for name in side] for side in (["migrate", "producer", "consumer"], SIMULATED)
    )
    assert {settings.openweather.base_url for settings in simulated} == {"http://simulator:8080"}
    for apart in map(attrgetter, ("database.url", "broker.topic", "broker.group", "quota.account")):
        assert {apart(settings) for settings in real}.isdisjoint(apart(settings) for settings in simulated)
    for side in (real, simulated):
        assert len({(settings.database.url, settings.broker, settings.quota) for settings in side}) == 1


def test_the_simulator_takes_the_quota_and_the_key_that_its_consumers_have() -> None:
    command = SERVICES["simulator"]["command"]
    assert command[:3] == ["python", "-m", "simulator"]
    simulator = read_options(command[3:])
    quota = settings_of("simulator-consumer").quota
    assert (simulator.quota, simulator.window_s) == (quota.cities_per_window, quota.window_s)
    assert simulator.key == SERVICES["simulator-consumer"]["environment"]["OPENWEATHER_API_KEY"]


def test_the_key_goes_to_the_consumers_alone_and_is_empty_when_nobody_gives_it() -> None:
    assert "OPENWEATHER_API_KEY: ${OPENWEATHER_API_KEY:-}" in TEXT
    assert [name for name in CONFIGURED if "OPENWEATHER_API_KEY" in SERVICES[name]["environment"]] == CONSUMERS


def test_both_databases_are_made_for_the_user_that_the_programs_are() -> None:
    mysql = SERVICES["mysql"]["environment"]
    user, password, database = mysql["MYSQL_USER"], mysql["MYSQL_PASSWORD"], mysql["MYSQL_DATABASE"]
    url = f"mysql+pymysql://{user}:{password}@mysql:3306/{database}"
    assert SERVICES["producer"]["environment"]["RAINGAUGE_DATABASE__URL"] == url
    assert SERVICES["simulator-producer"]["environment"]["RAINGAUGE_DATABASE__URL"] == f"{url}_simulator"
    made = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/mysql").glob("*.sql"))
    assert f"CREATE DATABASE IF NOT EXISTS {database}_simulator " in made
    assert rf"GRANT ALL ON `{database}\_simulator`.* TO '{user}'@'%';" in made


def test_kafka_gives_the_programs_and_the_host_the_address_that_each_of_them_uses() -> None:
    kafka = SERVICES["kafka"]
    known = dict(listener.split("://") for listener in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    urls = {SERVICES[name]["environment"]["RAINGAUGE_BROKER__URL"] for name in CONFIGURED}
    assert (urls, known["EXTERNAL"]) == ({f"kafka://{known['CLIENT']}"}, "localhost:9094")
    assert kafka["ports"] == ["127.0.0.1:9094:9094"]
    assert kafka["volumes"] == [f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}"]
