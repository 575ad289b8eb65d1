"""Settings: `config.env.yml`, overridden by environment variables `RAINGAUGE_<SECTION>__<KEY>`; and secrets.

No message of this package contains a value.
"""

from raingauge.settings.loading import load_settings
from raingauge.settings.secrets import (
    FILE_SUFFIX,
    KEY_VARIABLE,
    ca_file,
    provider_key,
    secret_in,
    token_digests,
    webhook_secrets,
)
from raingauge.settings.sections import (
    CONFIG_VARIABLE,
    OPENWEATHER_URL,
    PREFIX,
    TOKEN_VARIABLES,
    URL_VARIABLE,
    BrokerSettings,
    CollectSettings,
    HttpSettings,
    LimitSettings,
    NotifySettings,
    OpenWeatherSettings,
    QuotaSettings,
    RelaySettings,
    RetentionSettings,
    ScheduleSettings,
    Settings,
    StreamSettings,
    TokenSettings,
    WebhookSettings,
    config_file,
)

__all__ = [
    "CONFIG_VARIABLE",
    "FILE_SUFFIX",
    "KEY_VARIABLE",
    "OPENWEATHER_URL",
    "PREFIX",
    "TOKEN_VARIABLES",
    "URL_VARIABLE",
    "BrokerSettings",
    "CollectSettings",
    "HttpSettings",
    "LimitSettings",
    "NotifySettings",
    "OpenWeatherSettings",
    "QuotaSettings",
    "RelaySettings",
    "RetentionSettings",
    "ScheduleSettings",
    "Settings",
    "StreamSettings",
    "TokenSettings",
    "WebhookSettings",
    "ca_file",
    "config_file",
    "load_settings",
    "provider_key",
    "secret_in",
    "token_digests",
    "webhook_secrets",
]
