"""The form of a token, its digest, and what a scope includes. It must not know where tokens are stored or sent.

A token is `rg_`, 32 random bytes as 43 characters, and the CRC-32 of these as 6, all in base 62. As with GitHub's
(https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/), scanners find it
by its prefix, and a mistyped one is recognised without a database.

The page's cookie holds the token's session, a hash of the token; stored is a hash of the session. So neither is what
is stored worth anything to a thief, nor can the token be computed from a cookie.
"""

import binascii
import hashlib
import re
import secrets
from typing import Final, Literal

Scope = Literal["read", "write", "admin"]
"""Each includes those before it."""

PREFIX: Final = "rg_"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_BYTES: Final = 32
RANDOM_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
FORM: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{RANDOM_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII)
SESSION: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
NAME: Final = re.compile(rf"(?!.*{FORM.pattern})[A-Za-z0-9._-]{{1,64}}", re.ASCII)
"""What a token can be named: names are shown, so none contains a token."""
_RANKS: Final[dict[Scope, int]] = {"read": 0, "write": 1, "admin": 2}


def new_token() -> str:
    """A token that nobody else has."""
    random = _in_base_62(int.from_bytes(secrets.token_bytes(RANDOM_BYTES), "big"), RANDOM_LENGTH)
    return f"{PREFIX}{random}{checksum(random)}"


def is_token(text: str) -> bool:
    """Whether it has the form of a token, and its checksum is right."""
    match = FORM.fullmatch(text)
    return match is not None and match[2] == checksum(match[1])


def looks_like_token(text: str) -> bool:
    """Whether this may be or contain a token, mistyped ones too: then no message shows it."""
    return text.strip().startswith(PREFIX) or FORM.search(text) is not None


def session_of(token: str) -> str:
    """What the page's cookie holds instead of the token: 64 hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def digest_of_session(session: str) -> str:
    """What is stored of the token that this is the session of: SHA-256, in 64 hexadecimal digits."""
    return hashlib.sha256(session.encode("utf-8", "surrogateescape")).hexdigest()


def digest(token: str) -> str:
    """What is stored of a token."""
    return digest_of_session(session_of(token))


def includes(scope: Scope, needed: Scope) -> bool:
    """Whether a token of this scope may do what needs another one."""
    return _RANKS[scope] >= _RANKS[needed]


def checksum(random: str) -> str:
    """The last characters of the token with these random ones."""
    return _in_base_62(binascii.crc32(random.encode()), CHECKSUM_LENGTH)


def _in_base_62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
