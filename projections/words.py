"""The words of a text, as a store finds them: the rules of SQLite's tokenizer `unicode61`, for stores that have none of their own.

Letters, digits, marks, pictures and what Unicode has not assigned are parts of words; all else parts them. Upper and lower case are one;
accents count. Scripts without spaces are parted by whoever writes the text.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence

from projections.store import Phrase, TextQuery

_KINDS = ("L", "N", "M", "Co", "So", "Cn")
_FOLDED = "\u00b5\u017f\u0345\u03c2\u03d0\u03d1\u03d5\u03d6\u03f0\u03f1\u03f5\u1e9b\u1fbe"
"""Lower-case letters that stand for another one: the long s, the final sigma, symbols like them."""


def words_in(text: str) -> list[str]:
    """The words of a text in their order, in lower case."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return [word.translate(_folding()) for word in _word().findall(text)]


def holds(words: Sequence[str], wanted: Sequence[str], beginning: bool) -> bool:
    """Whether the wanted words follow each other somewhere; `beginning`: the last of them may be longer there. No words are nowhere."""
    if not wanted:
        return False
    *exact, last = wanted
    for first in range(len(words) - len(exact)):
        end = first + len(exact)
        if words[first:end] == exact and (words[end].startswith(last) if beginning else words[end] == last):
            return True
    return False


def matches(query: TextQuery, columns: Mapping[str, str]) -> bool:
    """Whether a row with these texts in its searched columns matches."""
    words = {name: words_in(text) for name, text in columns.items()}

    def found(phrase: Phrase) -> bool:
        return holds(words[phrase.column], words_in(phrase.text), phrase.beginning)

    return all(map(found, query.all_of)) and (not query.any_of or any(map(found, query.any_of)))


_ASCII_WORD = re.compile(r"[0-9a-z]+")
_LOOKED_AT = (range(0x20000), range(0xE0000, 0xE1000))
"""Where Unicode has anything but ideographs, private and unassigned characters; asking all of it takes a second."""


@functools.cache
def _word() -> re.Pattern[str]:
    ranges = [[0x20000, 0xDFFFF], [0xE1000, sys.maxunicode]]
    for code in (code for part in _LOOKED_AT for code in part):
        kind = unicodedata.category(chr(code))
        if kind[0] not in _KINDS and kind not in _KINDS:
            continue
        if ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    parts = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)
    return re.compile(f"[{parts}]+")


@functools.cache
def _folding() -> dict[int, str]:
    folding = {ord(letter): letter.casefold() for letter in _FOLDED}
    for code in _LOOKED_AT[0]:
        lower = chr(code).lower()
        if len(lower) == 1 and ord(lower) != code:
            folding[code] = lower
    return folding
