"""Secrets from the environment and from files that it names. The API key is not a setting: no settings file holds it.

`OPENWEATHER_API_KEY_FILE`, `RAINGAUGE_DATABASE__URL_FILE` and `RAINGAUGE_BROKER__URL_FILE` name files; the secret of a
webhook and a token of the settings always come from one.
"""

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from raingauge.access.tokens import digest, is_token, looks_like_token
from raingauge.errors import SettingsError

KEY_VARIABLE: Final = "OPENWEATHER_API_KEY"
CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
FILE_SUFFIX: Final = "_FILE"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105
SECRET_BYTES: Final = range(24, 65)
"""https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Signature scheme"."""


KEY: Final = re.compile(r"[0-9a-fA-F]{32}")
"""The form of OpenWeather's keys."""


class HasSecretFile(Protocol):
    """A section that names a file with a secret."""

    @property
    def secret_file(self) -> str:
        """The file's path."""


class HasWebhooks(Protocol):
    """The section of the webhooks."""

    @property
    def webhooks(self) -> Sequence[HasSecretFile]:
        """Each with its own file."""


class HasTokenFile(Protocol):
    """A section that names a file with a token."""

    @property
    def token_file(self) -> str:
        """The file's path."""


def provider_key() -> str | None:
    """The API key from OPENWEATHER_API_KEY or the file that OPENWEATHER_API_KEY_FILE names; None without either.

    Raises:
        SettingsError: both variables are set, the file cannot be read, or the key has unprintable characters.
    """
    key = os.environ.get(KEY_VARIABLE) or None
    if file := os.environ.get(KEY_VARIABLE + FILE_SUFFIX):
        key = content(KEY_VARIABLE, key, file)
    if key is not None and not key.isprintable():
        raise SettingsError(f"{KEY_VARIABLE}: the key has unprintable characters")
    return key


def webhook_secrets(notify: HasWebhooks) -> list[str]:
    """The secrets of the webhooks, in their order. Raises SettingsError: a file cannot be read, or holds none."""
    return [_webhook_secret(f"notify.webhooks.{n}.secret_file", one) for n, one in enumerate(notify.webhooks)]


def _webhook_secret(setting: str, webhook: HasSecretFile) -> str:
    secret = secret_in(setting, webhook.secret_file)
    try:
        size = len(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True))
    except ValueError:
        size = 0
    if not secret.startswith(SECRET_PREFIX) or size not in SECRET_BYTES:
        expected = f"{SECRET_PREFIX} and {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in base64"
        raise SettingsError(f"{setting}: {shown_file(webhook.secret_file)} does not hold {expected}")
    return secret


def token_digests(tokens: Sequence[HasTokenFile]) -> list[str]:
    """The digests of the tokens of `access.tokens`, in their order.

    Raises:
        SettingsError: a file cannot be read, holds no token, or the same as another one.
    """
    digests: list[str] = []
    for number, one in enumerate(tokens):
        setting = f"access.tokens.{number}.token_file"
        token, file = secret_in(setting, one.token_file), shown_file(one.token_file)
        if not is_token(token):
            hint = "`raingauge admin token generate` makes one"
            raise SettingsError(f"{setting}: {file} does not hold a token; {hint}")
        if digest(token) in digests:
            raise SettingsError(f"{setting}: {file} holds the token of another entry; each needs its own")
        digests.append(digest(token))
    return digests


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


def content(variable: str, value: str | None, file: str) -> str:
    """The content of the file that `<variable>_FILE` names, without white space around it; `variable` has no value."""
    if value is not None:
        raise SettingsError(f"{variable} and {variable}{FILE_SUFFIX} are both set: remove one of them")
    return secret_in(f"{variable}{FILE_SUFFIX}", file)


def secret_in(name: str, file: str) -> str:
    """The content of a file that this variable or setting names, without white space around it.

    Raises:
        SettingsError: it cannot be read, is empty, or is no text.
    """
    try:
        content = Path(file).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}: cannot read {shown_file(file)}: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"{name}: {shown_file(file)} is not UTF-8 text") from None
    if not content:
        raise SettingsError(f"{name}: {shown_file(file)} is empty")
    return content


def shown_file(file: str) -> str:
    """The name of a file for a message, unless a secret stands in its place."""
    text = file.strip()
    is_secret = looks_like_token(text) or text.startswith(SECRET_PREFIX) or KEY.fullmatch(text) is not None
    return "what looks like a secret (write it into a file, and name that file)" if is_secret else file
