"""The token that the command sends to the API: from the environment or a file, never from the command line.

Other users of the machine can read command lines.
"""

import os
from pathlib import Path
from typing import Final

from cli.errors import Misused
from raingauge.access.tokens import looks_like_token

VARIABLE: Final = "RAINGAUGE_TOKEN"
FILE_VARIABLE: Final = "RAINGAUGE_TOKEN_FILE"


def may_pass_proxies(url: str) -> bool:
    """Whether requests to this URL may go through a proxy of the environment: within TLS it cannot read the token."""
    return url.lower().startswith("https://")


def authorization() -> dict[str, str]:
    """The header `Authorization`, or nothing if no token is given.

    Raises:
        Misused: both variables are set, the file cannot be read, or what is given cannot be a token.
    """
    token, file = os.environ.get(VARIABLE), os.environ.get(FILE_VARIABLE)
    if token and file:
        raise Misused(f"{VARIABLE} and {FILE_VARIABLE} are both set; remove one")
    if file:
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, ValueError):
            shown = "what looks like a token" if looks_like_token(file) else file
            raise Misused(f"{FILE_VARIABLE}: cannot read {shown}; name a file with a token in it") from None
    if not token:
        return {}
    token = token.strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise Misused(f"{FILE_VARIABLE if file else VARIABLE} holds no token; it is one word that begins with rg_")
    return {"Authorization": f"Bearer {token}"}
