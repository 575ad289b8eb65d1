"""Removes the API key from text, in every spelling in which a server or an error message may return it.

Also makes text safe to log and store: one line, no control characters, a bounded length.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Callable
from typing import Final

MAX_TEXT: Final = 200
"""Characters kept of any text; the columns are this wide."""
MAX_SCANNED: Final = 4096
"""Characters searched for the key before a text is cut to `MAX_TEXT`."""
LONG_KEY: Final = 16
"""Minimum length of a real key (OpenWeather's have 32). Short test keys could be part of an ordinary word."""
RECOGNIZABLE_PREFIX: Final = 8
"""A truncated long key is recognized by this many of its first characters."""


def redactor(key: str) -> Callable[[str], str]:
    """Return a function that replaces the key with *** and makes the text one printable line."""
    spelled = [_spellings(character) for character in key]
    forms = ["".join(spelled) if key.strip() else "(?!)"]
    if len(key) >= LONG_KEY:
        # A server may return the key truncated: match its beginning and any of its characters that follow.
        forms.append(f"{''.join(spelled[:RECOGNIZABLE_PREFIX])}(?:{'|'.join(sorted(set(spelled)))})*")
    pattern = re.compile("|".join(forms), re.IGNORECASE)
    # Truncated last, so that no part of a key remains at the end.
    return lambda text: pattern.sub("***", single_line(text[:MAX_SCANNED]))[:MAX_TEXT]


def hash_key(key: str, salt: str) -> str:
    """Return a hash by which keys can be compared; slow to compute, so that a short key cannot be guessed from it."""
    return hashlib.scrypt(key.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=24).hex()


def single_line(text: str) -> str:
    """Remove control characters and lone surrogates, which JSON can contain and databases reject."""
    if not text.isprintable():  # checking every character is slow and rarely needed
        text = "".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text)
    return " ".join(text.split())


def _spellings(character: str) -> str:
    """Return a pattern for one character: as it is, percent-encoded, escaped, or decoded as Latin-1."""
    if character.isascii() and character.isalnum():
        return character
    sent, code = character.encode(), ord(character)
    forms = [rf"\\*{re.escape(character)}", re.escape(html.escape(character)), re.escape(sent.decode("latin-1"))]
    forms += [prefix.join(["", *(f"{byte:02x}" for byte in sent)]) for prefix in ("%", r"\\+x")]
    forms += [rf"\\+x{code:02x}", rf"\\+u{code:04x}"]
    if character.isprintable() and character != " ":
        return f"(?:{'|'.join(forms)})"
    return rf"(?:[ +]|\\+[nrt]|{'|'.join(forms)})?"
