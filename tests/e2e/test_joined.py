"""Producer and consumer as processes on a Kafka and databases that want TLS and passwords; no secret shows anywhere."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from raingauge.database import open_database
from tests.e2e.marks import HEADS_AND_TAILS, KEY, PASSWORD, assert_unmarked
from tests.e2e.provoking import assert_answers_unmarked, assert_database_unmarked
from tests.e2e.running import settings_for
from tests.support.certificates import HOST
from tests.support.eventually import eventually
from tests.support.mysql import SecuredMySQL
from tests.support.processes import Program, launched, program, simulator
from tests.support.secured import USER, SecuredKafka, SecuredMariaDB, SecuredPostgres

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("secured"), pytest.mark.timeout(180)]

CITIES = [3439525 + n for n in range(40)]
WRONG = f"{HEADS_AND_TAILS[2]}-wrong"
PREFIX = "team-a."


class Place:
    """The settings of a team, with every secret marked."""

    def __init__(
        self, kafka: SecuredKafka, database: SecuredMariaDB | SecuredMySQL | SecuredPostgres, folder: Path
    ) -> None:
        self.kafka = kafka
        self.database = database
        self.folder = folder
        certificate, key = kafka.certificates.issue("client", key_password=PASSWORD)
        certified = {"certificate_file": certificate, "key_file": key, "key_password_file": self.file("key", PASSWORD)}
        sasl = {"username": USER, "password_file": self.file("password", PASSWORD), "sasl_mechanism": "SCRAM-SHA-512"}
        by_password = not isinstance(database, SecuredPostgres)
        port, how = (kafka.secure, sasl) if by_password else (kafka.mutual, certified)
        security = {"url": f"kafka://{HOST}:{port}", "security": "sasl_ssl" if by_password else "ssl"}
        names = {"topic_prefix": PREFIX, "partitions": 2, "group": f"g-{folder.name}", "topic": f"t-{folder.name}"}
        broker = security | how | names | {"ca_file": kafka.certificates.ca}
        self.broker = {f"broker__{name}": value for name, value in broker.items()}

    def file(self, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(content)
        return str(path)

    def settings(self, provider_url: str, database_url: str = "", **more: object) -> dict[str, str]:
        pace = {"quota__window_s": 6, "freshness__max_age_s": 0}
        return settings_for(provider_url, database_url or self.database.url, self.broker | pace | more, KEY)


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql), "postgres"])
def place(request: pytest.FixtureRequest, secured_kafka: SecuredKafka, tmp_path: Path) -> Place:
    database = request.getfixturevalue(f"secured_{request.param}")
    database.fresh()
    return Place(secured_kafka, database, tmp_path)


def wrong_settings(place: Place, provider_url: str) -> dict[str, dict[str, str]]:
    """By the beginning of the line that each ends a program with."""
    kafka = {
        "broker__url": f"kafka://{HOST}:{place.kafka.secure}", "broker__security": "sasl_ssl",
        "broker__username": USER, "broker__password_file": place.file("wrong", WRONG),
        "broker__certificate_file": "", "broker__key_file": "", "broker__key_password_file": "",
    }  # fmt: skip
    url = place.database.url_with(password=WRONG).render_as_string(hide_password=False)
    key = kafka | {"broker__security": "ssl", "broker__username": "", "broker__password_file": ""}
    for name, suffix in (("certificate", "pem"), ("key", "key")):
        key[f"broker__{name}_file"] = str(place.kafka.certificates.folder / f"client.{suffix}")
    key["broker__key_password_file"] = place.file("wrong-key", WRONG)
    return {
        f"broker.url: {HOST}:{place.kafka.secure} refuses this user or password": place.settings(provider_url, **kafka),
        f"database.url: {HOST}:": place.settings(provider_url, url),
        "broker.certificate_file, broker.key_file: ": place.settings(provider_url, **key),
    }


def assert_ends_with(line: str, ended: Program) -> None:
    """With status 2 and one line, beside those of the log."""
    assert ended.ended() == 2, ended.output
    printed = [each for each in ended.lines if not each.startswith("20")]
    assert len(printed) == 1, ended.output
    assert printed[0].startswith(line)
    assert_unmarked(ended.output, "the output")


def test_a_collection_over_tls_and_what_is_wrong_in_one_line(place: Place) -> None:
    with ExitStack() as parts:
        weather = parts.enter_context(simulator("--key", KEY, "--quota", "60", "--window-s", "6"))
        settings = place.settings(weather.url)
        producer, consumer = (
            parts.enter_context(program(name, settings=settings)) for name in ("producer", "consumer")
        )
        outsiders = {
            line: parts.enter_context(launched(name, settings=wrong))
            for name, (line, wrong) in zip(
                ("consumer", "producer", "consumer"), wrong_settings(place, weather.url).items(), strict=True
            )
        }
        assert producer.collect(id=1, cities=CITIES).status_code == 202
        producer.done(1)
        eventually(lambda: consumer.get("/ready")["status"] == "ready", 10)
        letters = parts.enter_context(launched("consumer", "dead-letters", "list", settings=settings))
        assert letters.ended() == 0
        for line, outsider in outsiders.items():
            assert_ends_with(line, outsider)
        for running in (producer, consumer):
            assert_answers_unmarked(running.url)
            assert_unmarked(Path(f"/proc/{running.process.pid}/cmdline").read_bytes(), "the command line")
        assert [running.stop() for running in (producer, consumer)] == [0, 0]
        for running in (producer, consumer, letters):
            assert_unmarked(running.output, "the output")
            assert "Traceback" not in running.output
    admin = AdminClient(place.kafka.client)
    topic = f"{PREFIX}{place.broker['broker__topic']}"
    assert {topic, f"{topic}.dead", f"{PREFIX}events"} <= set(admin.list_topics(timeout=10).topics)
    group = f"{PREFIX}{place.broker['broker__group']}"
    assert {group, f"{group}.events"} <= {each.group_id for each in admin.list_consumer_groups().result().valid}
    with closing(open_database(place.database.url)) as database:
        assert assert_database_unmarked(database)["readings"] == len(CITIES)
