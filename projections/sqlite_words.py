"""Searching for words on SQLite: an FTS5 index beside a table, which keeps no text of its own."""

from __future__ import annotations

from collections.abc import Iterator

from projections.store import Phrase, Table, Text, TextQuery

_TOKENIZER = "unicode61 remove_diacritics 0 categories ''L* N* M* Co So''"
"""Letters, digits, marks and pictures are tokens; the search projection has already parted scripts without spaces."""

AUTOMERGE = 8
"""How many parts of a size the index has before they are merged: twice FTS5's default, for a tenth less work."""


def words_of(table: Table) -> str:
    """The name of a table's index."""
    return f"{table.name}_words"


def create_words(table: Table, text: Text) -> Iterator[str]:
    """The statements that make the index."""
    words = words_of(table)
    yield (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {words} USING fts5({', '.join(text.searched)}, content='{table.name}',"
        f" content_rowid='{text.order}', columnsize=0, tokenize='{_TOKENIZER}')"
    )
    yield f"INSERT INTO {words} ({words}, rank) VALUES ('automerge', {AUTOMERGE})"


def match_of(query: TextQuery) -> str:
    """The query as FTS5 takes it: every phrase in quotes, so that nothing in it is an operator."""
    terms = [_term(phrase) for phrase in query.all_of]
    if query.any_of:
        terms.append(f"({' OR '.join(_term(phrase) for phrase in query.any_of)})")
    return " AND ".join(terms)


def _term(phrase: Phrase) -> str:
    quoted = phrase.text.replace('"', '""')
    return f'{phrase.column} : "{quoted}"{"*" if phrase.beginning else ""}'
