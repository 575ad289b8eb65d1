"""The sections of the settings, their defaults and the form of each value."""

import hashlib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from raingauge.access.tokens import NAME, Scope
from raingauge.contracts import CityId
from raingauge.model import EventType, StreamFormat
from raingauge.quota.pacing import MonthPacing, Pacing, Terms
from raingauge.settings.secrets import content

PREFIX: Final = "RAINGAUGE_"
CONFIG_VARIABLE: Final = "RAINGAUGE_CONFIG"
URL_VARIABLE: Final = "RAINGAUGE_URL"
"""Where the command finds the API: no setting, and none of the services' business."""
TOKEN_VARIABLES: Final = (f"{PREFIX}TOKEN", f"{PREFIX}TOKEN_FILE")
"""What the command sends to the API: no settings either."""
OPENWEATHER_URL: Final = "https://api.openweathermap.org"


def _matches(pattern: str, expected: str) -> AfterValidator:
    """A pattern whose error message says in words what is expected."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise PydanticCustomError("pattern", "expected {expected}", {"expected": expected})
        return value

    return AfterValidator(check)


Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, _matches(r"[A-Za-z0-9._-]{1,64}", "1 to 64 characters of A-Z a-z 0-9 . _ -")]
Prefix = Annotated[str, _matches(r"[A-Za-z0-9._-]{0,64}", "up to 64 of A-Z a-z 0-9 . _ -")]
BrokerUrl = Annotated[
    str, _matches(r"inprocess://|kafka://.+", "inprocess:// (embedded mode) or kafka://host:port,host:port")
]
ProviderUrl = Annotated[
    str,
    _matches(r"https?://[^\s?#@]+", "http:// or https:// and a host, without user, password, query or fragment"),
]
ScheduleName = Annotated[
    str, _matches(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,40}", "1 to 40 of A-Z a-z 0-9 . _ -, and neither . nor ..")
]
Host = Annotated[
    str, _matches(r"\*|[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]", "a host name or an address, without a port, or *")
]
RootPath = Annotated[str, _matches(r"(/[A-Za-z0-9._~-]+)*", "a path such as /weather, without a slash at its end")]


class Section(BaseModel):
    """A section of the settings; unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(Section):
    """The producer's HTTP server."""

    host: str = "127.0.0.1"
    port: Port = 8000
    keep_alive_s: int = Field(20, ge=1, le=3600)
    root_path: RootPath = ""
    allow_anonymous: bool = False
    """Whether it may listen beyond loopback although there is no token."""
    allowed_hosts: list[Host] = []
    """Empty: on loopback the names of this machine and `host`, otherwise any."""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class LimitSettings(Section):
    """What a client with a token may do; 0: as much as it likes."""

    requests_per_s: float = Field(0.0, ge=0, le=100_000)
    cities_open: int = Field(0, ge=0)
    """Unsettled cities of all its open collections."""


class TokenSettings(Section):
    """A token that is not in the database."""

    name: Annotated[str, _matches(NAME.pattern, "1 to 64 characters of A-Z a-z 0-9 . _ -, not like a token")]
    scope: Scope
    token_file: str
    expires: AwareDatetime | None = None
    limits: LimitSettings | None = None
    """What they do not name is as in those of all tokens."""


class AccessSettings(Section):
    """Who may use the API, besides those whose tokens are in the database."""

    tokens: list[TokenSettings] = []

    @field_validator("tokens")
    @classmethod
    def _are_different(cls, tokens: list[TokenSettings]) -> list[TokenSettings]:
        if len({token.name for token in tokens}) < len(tokens):
            raise ValueError("two of them have the same name")
        return tokens


class DatabaseSettings(Section):
    """The database."""

    url: str = Field("sqlite:///var/raingauge.db", repr=False)
    """Excluded from `repr`: it may contain a password."""


class BrokerSettings(Section):
    """The broker between producer and consumers."""

    url: BrokerUrl = Field("inprocess://", repr=False)
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_password_file: str = ""
    topic_prefix: Prefix = ""
    topic: Name = "cities"
    events_topic: Name = "events"
    partitions: int = Field(12, ge=1, le=10_000)
    create_topics: bool = True
    replication_factor: int = Field(0, ge=0, le=32_767)
    """0: three, or one for each broker if there are fewer."""
    group: Name = "collectors"


class CollectSettings(Section):
    """Limits of a collection."""

    outstanding_batches: int = Field(10, ge=1)
    max_cities: int = Field(250_000, ge=1)


class RelaySettings(Section):
    """The relay that publishes batches."""

    every_s: float = Field(1.0, gt=0, le=3600)
    republish_after_s: float = Field(3600.0, gt=0, le=31_536_000)


class ConsumerHttpSettings(Section):
    """A consumer's HTTP server for health, readiness and metrics."""

    host: str = "127.0.0.1"
    port: Port = 0


class ConsumerSettings(Section):
    """Concurrency of a consumer."""

    window: int = Field(1000, ge=1)
    lanes: int = Field(24, ge=1, le=256)
    http: ConsumerHttpSettings = ConsumerHttpSettings()


class OpenWeatherSettings(Section):
    """The weather provider."""

    base_url: ProviderUrl = OPENWEATHER_URL
    """Appears in logs, so it must not contain a password or a query."""
    endpoint: Literal["auto", "group", "single"] = "auto"
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("base_url")
    @classmethod
    def _has_no_path_of_the_api(cls, url: str) -> str:
        if found := re.search(r"/(data|geo)/[0-9.]+(?=/|$)", url):
            raise ValueError(f"remove {found[0]} and what follows it: the client adds the paths of the API")
        return url


class QuotaSettings(Section):
    """The quota of the provider account."""

    account: Name = "openweather"
    cities_per_window: int = Field(60, ge=1)
    window_s: float = Field(60.0, gt=0, le=86_400)
    pacing: Pacing = "smooth"
    cities_per_month: int = Field(1_000_000, ge=1)
    month_pacing: MonthPacing = "even"
    keep_charges_days: int = Field(62, ge=1, le=3660)


class FreshnessSettings(Section):
    """Reuse of observations."""

    max_age_s: int = Field(600, ge=0, le=86_400)


class LogSettings(Section):
    """The log on standard error."""

    format: Literal["text", "json"] = "text"


class WebhookSettings(Section):
    """A receiver of events."""

    url: HttpUrl = Field(repr=False)
    """Excluded from `repr`: it may contain a password or a token."""
    events: list[EventType] = Field(list(get_args(EventType)), min_length=1)
    secret_file: str

    @property
    def id(self) -> str:
        """What its deliveries are stored under."""
        return hashlib.sha256(str(self.url).encode()).hexdigest()

    @property
    def shown_url(self) -> str:
        """The URL without user, password, query and fragment."""
        url, path = self.url, (self.url.path or "/")[1:]
        return str(HttpUrl.build(scheme=url.scheme, host=url.host or "", port=url.port, path=path))


class NotifySettings(Section):
    """Who is notified of events."""

    webhooks: list[WebhookSettings] = []
    allow_private: bool = False

    @field_validator("webhooks")
    @classmethod
    def _are_different(cls, webhooks: list[WebhookSettings]) -> list[WebhookSettings]:
        if len({webhook.url for webhook in webhooks}) < len(webhooks):
            raise ValueError("two of them have the same url")
        return webhooks


class ExportSettings(Section):
    """Files of finished collections."""

    folder: str = ""
    """Empty: none are written."""


class StreamSettings(Section):
    """Readings on Kafka, in embedded mode in files, for anyone to read."""

    enabled: bool = False
    folder: str = Field("var/streams", min_length=1)
    """Where embedded mode has its files."""
    readings_topic: Name = "readings"
    latest_topic: Name = "latest"
    format: StreamFormat = "json"


class RetentionSettings(Section):
    """How long finished collections are kept, in days. 0: for ever."""

    readings_days: int = Field(0, ge=0, le=36_500)
    collections_days: int = Field(0, ge=0, le=36_500)


class CitiesSettings(Section):
    """Finding cities by name."""

    file: str = "var/cities.db"


class ScheduleSettings(Section):
    """A collection that is started again and again. The producer checks its expression, its zone and its file."""

    name: ScheduleName
    cron: str | None = None
    every_s: int | None = None
    zone: str = "UTC"
    cities: Annotated[list[CityId], Field(min_length=1)] | None = None
    cities_file: str | None = Field(None, min_length=1)
    max_age_s: int | None = Field(None, ge=0, le=86_400)
    """None: `freshness.max_age_s`."""
    missed: Literal["skip", "latest"] = "latest"
    overlap: Literal["skip", "queue", "cancel_previous"] = "skip"

    @model_validator(mode="after")
    def _names_cities_once(self) -> Self:
        if self.cities is not None and self.cities_file is not None:
            raise ValueError("give either cities or cities_file")
        return self


class EnvironmentSource(EnvSettingsSource):
    """Environment variables, where `<variable>_FILE` names a file with the value of a URL."""

    def __call__(self) -> dict[str, Any]:
        """Read the variables as nested dictionaries."""
        sections = super().__call__()
        for name in ("database", "broker"):
            section = sections.get(name, {})
            if file := section.pop("url_file", None):
                section["url"] = content(f"{PREFIX}{name.upper()}__URL", section.get("url"), file)
        return sections


def config_file() -> Path:
    """Path of the configuration file: RAINGAUGE_CONFIG, or `config.env.yml` in the working directory."""
    return Path(os.environ.get(CONFIG_VARIABLE, "config.env.yml"))


class Settings(BaseSettings):
    """All settings."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    http: HttpSettings = HttpSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    collect: CollectSettings = CollectSettings()
    relay: RelaySettings = RelaySettings()
    consumer: ConsumerSettings = ConsumerSettings()
    openweather: OpenWeatherSettings = OpenWeatherSettings()
    quota: QuotaSettings = QuotaSettings()
    freshness: FreshnessSettings = FreshnessSettings()
    log: LogSettings = LogSettings()
    notify: NotifySettings = NotifySettings()
    export: ExportSettings = ExportSettings()
    streams: StreamSettings = StreamSettings()
    retention: RetentionSettings = RetentionSettings()
    cities: CitiesSettings = CitiesSettings()
    schedules: list[ScheduleSettings] = []

    @field_validator("schedules")
    @classmethod
    def _have_different_names(cls, schedules: list[ScheduleSettings]) -> list[ScheduleSettings]:
        names = [schedule.name for schedule in schedules]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"two of them have the name {name}")
        return schedules

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment takes precedence over the configuration file."""
        file = YamlConfigSettingsSource(settings_cls, yaml_file=config_file())
        return init_settings, EnvironmentSource(settings_cls), file

    def with_prefix(self) -> Self:
        """The settings with `broker.topic_prefix` in front of every topic and of the group, when Kafka is used."""
        broker, streams = self.broker, self.streams
        if not broker.url.startswith("kafka://"):
            return self
        names = {name: broker.topic_prefix + getattr(broker, name) for name in ("topic", "events_topic", "group")}
        topics = {name: broker.topic_prefix + getattr(streams, name) for name in ("readings_topic", "latest_topic")}
        return self.model_copy(
            update={"broker": broker.model_copy(update=names), "streams": streams.model_copy(update=topics)}
        )

    @property
    def terms(self) -> Terms:
        """The quota as the ledger takes it."""
        return Terms(
            **self.quota.model_dump(exclude={"account", "keep_charges_days"}), timeout_s=self.openweather.timeout_s
        )
