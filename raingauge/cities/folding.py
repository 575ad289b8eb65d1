"""Folding of names, so that spellings which differ in case, accents or punctuation compare equal. It does no I/O."""

import re
import unicodedata
from typing import Final

LETTERS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i", "ħ": "h", "ə": "e"}
    | dict.fromkeys("'`\u00b4\u02b9\u02bb\u02bc\u2018\u2019")
)
"""Letters that Unicode does not decompose, and marks that people leave out: St. John's, Sol'deu."""
ACCENTS: Final = re.compile("[\u0300-\u036f]+")
SEPARATORS: Final = re.compile("[^a-z0-9]+")


def fold(name: str) -> str:
    """The form under which a name is stored and looked up: `São Paulo` is `sao paulo`, `Saint-Denis` `saint denis`.

    Letters of other scripts stay, without their accents (Unicode's canonical combining marks).
    """
    folded = name.casefold().translate(LETTERS)
    if not folded.isascii():
        folded = ACCENTS.sub("", unicodedata.normalize("NFKD", folded)).casefold()
    if folded.isascii():
        return SEPARATORS.sub(" ", folded).strip()
    return " ".join("".join(map(_folded, folded)).split())


def _folded(char: str) -> str:
    if unicodedata.combining(char):
        return ""
    return char if char.isalnum() or unicodedata.category(char).startswith("M") else " "
