"""Secrets that can be recognised wherever they turn up, in whatever spelling, whole or in parts."""

import base64
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from raingauge.access.tokens import checksum

HEADS_AND_TAILS: Final = ("kEyMaRk7Q", "Zq9kEyTaIl", "pAsSmArK5V", "Xw3pAsSeNd", "tOkEnMaRk3B", "Yt7tOkEnTaIl")
ODD: Final = "+ed/k=%41&\"'\\ <é>;~"
"""Characters that URLs, JSON, HTML and repr() each spell differently."""
KEY: Final = f"{HEADS_AND_TAILS[0]}{ODD}{HEADS_AND_TAILS[1]}"
PASSWORD: Final = f"{HEADS_AND_TAILS[2]}{ODD}{HEADS_AND_TAILS[3]}"
RANDOM: Final = f"{HEADS_AND_TAILS[4]}{'0' * 20}{HEADS_AND_TAILS[5]}"
TOKEN: Final = f"rg_{RANDOM}{checksum(RANDOM)}"
QUOTED_PASSWORD: Final = quote(PASSWORD, safe="")


def url_with_password(scheme: str, address: str) -> str:
    return f"{scheme}://raingauge:{QUOTED_PASSWORD}@{address}/raingauge"


def _spellings() -> Iterator[bytes]:
    for mark in (part.encode() for part in HEADS_AND_TAILS):
        yield mark.lower()
        yield mark.hex().encode()
        # In base64 a byte's spelling depends on how many stand before it: those that depend on others are cut off.
        for before in range(3):
            encoded = base64.b64encode(b"\0" * before + mark)
            yield encoded[-(-before * 4 // 3) : len(encoded) // 4 * 4 - 4].lower()


SPELLINGS: Final = tuple(_spellings())


def assert_unmarked(said: str | bytes, where: str) -> None:
    """No secret is in it: not plain, percent-encoded, escaped, in base64 or in hexadecimal, in any case."""
    lowered = (said if isinstance(said, bytes) else said.encode("utf-8", "backslashreplace")).lower()
    for spelling in SPELLINGS:
        at = lowered.find(spelling)
        assert at < 0, f"a secret is in {where}: …{lowered[max(0, at - 300) : at + 100]!r}…"
