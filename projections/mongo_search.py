"""Searching for words on MongoDB: an inverted index in the documents themselves, an array of words under one multikey index.

Not MongoDB's own text index: it stems and drops words by language, knows no beginnings of words, parts no script without spaces, checks
phrases by looking for them in the text, and sorts what it found by nothing but its score (docs/decisions/0013-words-on-mongodb.md).

A word stands in the array with the number of its column before it. Two neighbours of one character each stand there as a pair too, since
single ideographs are so common that only their pairs say something: a phrase of two is found by its pair alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from projections.mongo_driver import Document
from projections.mongo_shapes import WORDS_FIELD, TableShape
from projections.store import Phrase, Row, Text, TextQuery
from projections.words import matches, words_in


class WordsOf:
    """The words of one table's rows."""

    def __init__(self, shape: TableShape, text: Text) -> None:
        self._columns = text.searched
        names = shape.table.names
        self._indexes = [names.index(column) for column in text.searched]
        self._order = shape.field(text.order)
        self.order_index = names.index(text.order)

    def entries_of(self, row: Row) -> list[str]:
        """What the index holds of a row."""
        entries: set[str] = set()
        for number, index in enumerate(self._indexes):
            entries.update(_entries(number, words_in(str(row[index] or ""))))
        return sorted(entries)

    def filter_of(self, query: TextQuery, after: int | None, before: int | None) -> Document | None:
        """What finds every row that matches, and perhaps more; None: none does."""
        all_of = [self._terms(phrase) for phrase in query.all_of]
        any_of = [terms for terms in map(self._terms, query.any_of) if terms]
        if not all(all_of) or (query.any_of and not any_of):
            return None
        terms = [{WORDS_FIELD: term} for several in all_of for term in several]
        if any_of:
            terms.append(_one_of(any_of))
        bounds = {"$gt": after, "$lt": before}
        bounds = {name: bound for name, bound in bounds.items() if bound is not None}
        if bounds:
            terms.append({self._order: bounds})
        return {"$and": terms}

    def exact(self, query: TextQuery) -> bool:
        """Whether the filter finds nothing else."""
        return all(map(_exact, (*query.all_of, *query.any_of)))

    def matches(self, query: TextQuery, row: Row) -> bool:
        """Whether a found row matches."""
        texts = (str(row[index] or "") for index in self._indexes)
        return matches(query, dict(zip(self._columns, texts, strict=True)))

    def _terms(self, phrase: Phrase) -> list[object]:
        """What a row has of which the phrase occurs; nothing for a phrase without words, which occurs nowhere."""
        number, words = self._columns.index(phrase.column), words_in(phrase.text)
        if not words:
            return []
        terms: list[object] = []
        if phrase.beginning:
            first = f"{number}{words.pop()}"
            terms.append({"$elemMatch": {"$gte": first, "$lt": _successor(first)}})
        paired = [_is_pair(*pair) for pair in pairwise(words)]
        covered = [before or after for before, after in zip([False, *paired], [*paired, False], strict=True)]
        terms += (f"{number}{word}" for word, known in zip(words, covered, strict=False) if not known)
        terms += (f"{number}{' '.join(pair)}" for pair in pairwise(words) if _is_pair(*pair))
        return terms


def _entries(number: int, words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield f"{number}{word}"
    for one, other in pairwise(words):
        if _is_pair(one, other):
            yield f"{number}{one} {other}"


def _is_pair(one: str, other: str) -> bool:
    return len(one) == 1 and len(other) == 1 and not one.isascii() and not other.isascii()


def _exact(phrase: Phrase) -> bool:
    words = words_in(phrase.text)
    return len(words) <= 1 or (len(words) == 2 and not phrase.beginning and _is_pair(*words))


def _one_of(any_of: list[list[object]]) -> Document:
    words = [terms[0] for terms in any_of if len(terms) == 1 and isinstance(terms[0], str)]
    if len(words) == len(any_of):
        return {WORDS_FIELD: {"$in": words}}
    return {"$or": [{"$and": [{WORDS_FIELD: term} for term in terms]} for terms in any_of]}


def _successor(text: str) -> str:
    """The least text that is greater than each that begins so; `text` has a character below the last of Unicode's."""
    code = ord(text[-1]) + 1
    if code > 0x10FFFF:
        return _successor(text[:-1])
    return text[:-1] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
