"""The settings: `config.env.yml`, overridden by the environment `RAINGAUGE_<SECTION>__<KEY>`.

The provider's key comes from `OPENWEATHER_API_KEY` alone and is not a setting: it stands in no file.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from raingauge.contracts import describe
from raingauge.errors import SettingsError
from raingauge.pacing import Terms

PREFIX: Final = "RAINGAUGE_"
CONFIG_VARIABLE: Final = "RAINGAUGE_CONFIG"
KEY_VARIABLE: Final = "OPENWEATHER_API_KEY"
CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
OPENWEATHER_URL: Final = "https://api.openweathermap.org"

Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Section(BaseModel):
    """A section: unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(Section):
    """Where the producer listens."""

    host: str = "127.0.0.1"
    port: Port = 8000


class DatabaseSettings(Section):
    """Where the data is."""

    url: str = Field("sqlite:///var/raingauge.db", repr=False)
    """May hold a password, so it is not shown."""


class BrokerSettings(Section):
    """The hand-off."""

    url: str = Field("inprocess://", pattern=r"^(inprocess://$|kafka://.+)", repr=False)
    topic: Name = "cities"
    partitions: int = Field(12, ge=1, le=10_000)
    group: Name = "collectors"


class CollectSettings(Section):
    """What a collection may be."""

    outstanding_batches: int = Field(10, ge=1)
    max_cities: int = Field(250_000, ge=1)


class RelaySettings(Section):
    """Publishing."""

    every_s: float = Field(1.0, gt=0, le=3600)
    republish_after_s: float = Field(3600.0, gt=0, le=31_536_000)


class ConsumerHttpSettings(Section):
    """Where a consumer answers health, ready and metrics."""

    host: str = "127.0.0.1"
    port: Port = 0


class ConsumerSettings(Section):
    """How much a consumer takes at once."""

    window: int = Field(1000, ge=1)
    lanes: int = Field(24, ge=1, le=256)
    http: ConsumerHttpSettings = ConsumerHttpSettings()


class OpenWeatherSettings(Section):
    """The provider."""

    base_url: str = Field(OPENWEATHER_URL, pattern=r"^https?://[^\s?#@]+$")
    """Shown in logs: so neither a password nor a query may be in it."""
    endpoint: Literal["auto", "group", "single"] = "auto"
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("base_url")
    @classmethod
    def _has_no_path_of_the_api(cls, url: str) -> str:
        if found := re.search(r"/(data|geo)/[0-9.]+(?=/|$)", url):
            raise ValueError(f"remove {found[0]} and what follows it: the client adds the paths of the API")
        return url


class QuotaSettings(Section):
    """What the account may spend."""

    account: Name = "openweather"
    cities_per_window: int = Field(60, ge=1)
    window_s: float = Field(60.0, gt=0, le=86_400)
    pacing: Literal["smooth", "burst"] = "smooth"
    cities_per_month: int = Field(1_000_000, ge=1)
    month_pacing: Literal["even", "none"] = "even"


class FreshnessSettings(Section):
    """How old an observation may be."""

    max_age_s: int = Field(600, ge=0, le=86_400)


class Settings(BaseSettings):
    """All of it."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    http: HttpSettings = HttpSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    collect: CollectSettings = CollectSettings()
    relay: RelaySettings = RelaySettings()
    consumer: ConsumerSettings = ConsumerSettings()
    openweather: OpenWeatherSettings = OpenWeatherSettings()
    quota: QuotaSettings = QuotaSettings()
    freshness: FreshnessSettings = FreshnessSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file."""
        file = YamlConfigSettingsSource(settings_cls, yaml_file=config_file(os.environ))
        return init_settings, env_settings, file

    @property
    def terms(self) -> Terms:
        """The quota's terms, as the ledger wants them."""
        return Terms(
            cities_per_window=self.quota.cities_per_window,
            window_s=self.quota.window_s,
            pacing=self.quota.pacing,
            cities_per_month=self.quota.cities_per_month,
            month_pacing=self.quota.month_pacing,
            timeout_s=self.openweather.timeout_s,
        )


def config_file(environ: Mapping[str, str]) -> Path:
    """The settings file: `config.env.yml` in the working directory, or what RAINGAUGE_CONFIG names."""
    return Path(environ.get(CONFIG_VARIABLE, "config.env.yml"))


def load_settings() -> Settings:
    """Read file and environment.

    Raises:
        SettingsError: a key is unknown or a value is out of its range; the message says which.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None and not Path(named).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {named}")
    _refuse_unreadable(config_file(os.environ))
    _refuse_unknown_sections(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(f"settings: {describe(error)}") from None
    except ValueError as error:
        raise SettingsError(f"settings: {error}") from None


def provider_key() -> str | None:
    """The provider's key from the environment, or None.

    Raises:
        SettingsError: it is not text.
    """
    key = os.environ.get(KEY_VARIABLE) or None
    if key is not None and not key.isprintable():
        raise SettingsError(f"{KEY_VARIABLE}: there are characters in it that cannot be shown")
    return key


def ca_file() -> str | None:
    """Return the file or directory of trusted certificate authorities for the provider's calls, if one is named.

    Raises:
        SettingsError: it does not exist.
    """
    for variable in CA_VARIABLES:
        if named := os.environ.get(variable):
            if not Path(named).exists():
                raise SettingsError(f"{variable}: there is no file {named}")
            return named
    return None


def _refuse_unreadable(file: Path) -> None:
    """Say in one line what YAML's own errors would tell in a traceback."""
    if not file.is_file():
        return
    try:
        with file.open("rb") as stream:
            sections = yaml.safe_load(stream)
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"settings: {file}: {' '.join(str(error).split())}") from None
    if sections is not None and not (isinstance(sections, dict) and all(isinstance(name, str) for name in sections)):
        raise SettingsError(f"settings: {file}: expected sections, each with its keys")


def _refuse_unknown_sections(environ: Mapping[str, str]) -> None:
    """pydantic-settings reads only variables it knows of; a misspelt section would pass in silence."""
    known = {name.upper() for name in Settings.model_fields}
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, _, key = variable.upper().removeprefix(PREFIX).partition("__")
        if section not in known or not key:
            raise SettingsError(f"settings: {variable} names no setting (RAINGAUGE_<SECTION>__<KEY>)")
