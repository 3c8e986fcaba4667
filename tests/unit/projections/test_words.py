"""Words as SQLite's tokenizer finds them, without SQLite."""

from __future__ import annotations

import sqlite3
import sys
import unicodedata

import pytest

from projections.sqlite_words import _TOKENIZER
from projections.words import holds, words_in

RECENT = {"Po", "Pd", "Ps", "Pe", "Sc", "Sk", "Cf"}
"""What these kinds got since the Unicode of SQLite's tables, it takes for unassigned, and so for words."""


@pytest.mark.parametrize(
    "text, words",
    [
        ("", []),
        ("Hello, World_1", ["hello", "world", "1"]),
        ("Καλός ΚΑΛΌΣ", ["καλόσ", "καλόσ"]),
        ("naïve CAFÉ cafe\u0301", ["naïve", "café", "cafe\u0301"]),
        ("今 天 天气", ["今", "天", "天气"]),
        ("party🎉!", ["party🎉"]),
        ("\U00020001 \U000e0001 \U0010ffff", ["\U00020001", "\U0010ffff"]),
    ],
)
def test_what_is_a_word(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_wanted_words_must_follow_each_other() -> None:
    words = ["one", "two", "one", "three"]
    assert holds(words, ["one", "three"], beginning=False)
    assert holds(words, ["one", "thr"], beginning=True)
    assert not holds(words, ["one", "thr"], beginning=False)
    assert not holds(words, ["two", "three"], beginning=False)
    assert not holds(words, ["three", "one"], beginning=True)
    assert not holds(words, [], beginning=True)


@pytest.mark.slow
def test_a_character_is_part_of_a_word_exactly_when_sqlite_says_so() -> None:
    codes = {*range(1, 0x20000), *range(0x20000, sys.maxunicode + 1, 251), *range(0xE0000, 0xE0200)}
    characters = [chr(code) for code in sorted(codes) if not 0xD800 <= code <= 0xDFFF]
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='{_TOKENIZER}')")
    database.execute("CREATE VIRTUAL TABLE words USING fts5vocab(texts, 'instance')")
    database.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", ((ord(c), c) for c in characters))
    known = {document: word for word, document in database.execute("SELECT term, doc FROM words")}
    database.close()
    different = []
    for character in characters:
        word = known.get(ord(character))
        mine = words_in(character)
        if bool(mine) != (word is not None) and unicodedata.category(character) not in RECENT:
            different.append(character)
    assert len(different) <= 1, "one character changed its kind"
