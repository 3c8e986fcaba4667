"""Full-text search over the messages that a user may see, newest first, in any script."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from domain.errors import invalid
from domain.streams import StreamKind, qualified
from eventlog.record import Recorded
from projections.access import Access, access_from
from projections.cursors import cursor_of, place_of
from projections.messages import message_row, shows_newest_text
from projections.reading import LIMIT_DEFAULT, Freshen, Reads, Source, checked_limit
from projections.shapes import Page
from projections.store import Phrase, Row, Schema, Snapshot, Table, Text, TextQuery, UnitOfWork
from projections.tables import EVENTS
from projections.timeline import memberships

TEXTS = Table(
    name="texts",
    columns=("stream text", "seq int", "id int", "actor text", "words text", "place text"),
    key_size=2,
    text=Text(searched=("words", "place"), order="id"),
)
"""One row per message that is not recalled. `id` grows with the message's time. `place` is a word for the conversation, so that a
search looks only where the caller has been."""
SCHEMA = Schema(name="search", version=2, tables=(TEXTS,))
KINDS = frozenset({StreamKind.GROUP, StreamKind.DIRECT})
TYPES = frozenset({"message_posted", "message_edited", "message_recalled"})

QUERY_CHARACTERS_MAX = 256
QUERY_WORDS_MAX = 16
TEXT_CHARACTERS_MAX = 16_384
FOUND_ROWS = 200
SCANNED_ROWS_MAX = 5_000
"""The most matches that one page looks at; a page may be short and still have `next`."""
PLACES_CACHED = 20_000
_ID_BITS = 22
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"  # Chinese, Japanese
    "\ua960-\ua97f\uac00-\ud7ff\u1100-\u11ff\u3130-\u318f\uf900-\ufaff\uff66-\uffdc"  # Korean, compatibility
    "\u2600-\u27bf\U0001f000-\U0001faff\U00020000-\U0003ffff"  # pictures, rare ideographs
)
_UNSPACED_CHARACTER = re.compile(f"([{_UNSPACED}])")
_UNSPACED_FIRST = re.compile(f"[{_UNSPACED}]")
_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_WORD = re.compile(r"[^\W_]")

T = TypeVar("T")


class _Content(msgspec.Struct):
    """The searchable parts of a content."""

    text: str = ""
    caption: str = ""
    name: str = ""
    title: str = ""
    address: str = ""
    question: str = ""
    options: Any = None
    html: str = ""


_decode_content = msgspec.json.Decoder(_Content).decode
_TAG = re.compile(r"<[^>]*>")


def apply(view: UnitOfWork, row: Recorded) -> None:
    """Apply one event: posted messages are indexed, edited ones again, recalled ones no longer."""
    if row.seq is None:
        return
    event: Any = row.event
    kind = event.TYPE
    stream = row.stream
    if kind == "message_posted":
        text_id = _text_id(event.at if event.origin is None else event.origin.at, row)
        words = spaced(text_of(event.content))
        view.append(TEXTS, (stream, row.seq, text_id, event.actor, words, place_word(stream)))
    elif kind == "message_edited":
        known = view.get(TEXTS, (stream, event.target))
        if known is not None:
            words = spaced(text_of(event.content))
            view.put(TEXTS, (stream, event.target, known[2], event.actor, words, known[5]))
    elif kind == "message_recalled":
        view.delete(TEXTS, (stream, event.target))


def _text_id(at: int, row: Recorded) -> int:
    """An id that grows with the time; the low bits part messages of one millisecond."""
    return at << _ID_BITS | (row.shard & 0x7F) << 15 | row.number & 0x7FFF


def text_of(content: bytes | msgspec.Raw) -> str:
    """What can be searched of a content; nothing for kinds without text and for custom ones that look different."""
    try:
        parts = _decode_content(content)
    except msgspec.ValidationError:
        return ""
    if parts.text:
        return parts.text[:TEXT_CHARACTERS_MAX]
    texts = [parts.caption, parts.name, parts.title, parts.address, parts.question]
    if parts.html:
        texts.append(_TAG.sub(" ", parts.html))
    if isinstance(parts.options, list):
        texts += (option for option in parts.options if isinstance(option, str))
    return " ".join(text for text in texts if text)[:TEXT_CHARACTERS_MAX]


def spaced(text: str) -> str:
    """The text with every character of scripts without spaces as a word of its own."""
    return text if text.isascii() else _UNSPACED_CHARACTER.sub(r" \1 ", text)


@lru_cache(maxsize=PLACES_CACHED)
def place_word(stream: str) -> str:
    """The word that stands for a conversation in the index."""
    return hashlib.blake2b(stream.encode(), digest_size=8).hexdigest()


def phrases_of(query: str) -> list[Phrase]:
    """The query as phrases, all of which must occur: a word matches as a beginning, a run without spaces as it stands."""
    phrases = []
    for word in query.split():
        for run in _RUN.findall(word):
            unspaced = _UNSPACED_FIRST.match(run) is not None
            if unspaced or _WORD.search(run):
                phrases.append(Phrase("words", spaced(run).strip(), beginning=not unspaced))
    return phrases


class Search:
    """Finds messages. What may be seen comes from the timeline's snapshot, and so do the rows: search only says where to look."""

    def __init__(self, reads: Reads, search: Source, timeline: Source, freshen: Freshen) -> None:
        self._reads = reads
        self._search = search
        self._timeline = timeline
        self._freshen = freshen

    async def search(
        self,
        tenant: str,
        user_id: str,
        query: str,
        *,
        conversation_id: str | None = None,
        sender: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = LIMIT_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """Message rows with `conversation_id`, newest first. `after` and `before` are milliseconds, exclusive.

        Raises `validation_failed` for a query without a letter or too long, `not_found` never: what one may not see is not found.
        """
        checked_limit(limit)
        phrases = _checked_phrases(query)
        bounds = (
            None if after is None else (after + 1 << _ID_BITS) - 1,
            None if before is None else before << _ID_BITS,
        )
        place = None if cursor is None else place_of("search", cursor, int)

        def answer() -> Page:
            with self._search().snapshot() as texts, self._timeline().snapshot() as timeline:
                accesses = _accesses(timeline, tenant, user_id, conversation_id)
                looking = _Looking(texts, timeline, accesses, phrases, sender)
                rows, following = looking.page(bounds[0], _least(bounds[1], place), limit)
                return Page(rows, None if following is None else cursor_of("search", following))

        await self._freshen()
        return await self._reads.run(answer)


class _Looking:
    """One page of a search."""

    def __init__(
        self,
        texts: Snapshot,
        timeline: Snapshot,
        accesses: dict[str, Access],
        phrases: Sequence[Phrase],
        sender: str | None,
    ) -> None:
        self._texts = texts
        self._timeline = timeline
        self._accesses = accesses
        self._sender = sender
        places = tuple(Phrase("place", place_word(stream)) for stream in accesses)
        self._query = TextQuery(all_of=tuple(phrases), any_of=places)

    def page(
        self, after_id: int | None, before_id: int | None, limit: int
    ) -> tuple[list[msgspec.Raw], int | None]:
        """At most `limit` rows, newest first, and the id to go on below."""
        found: list[msgspec.Raw] = []
        scanned = 0
        while self._accesses:
            rows = self._texts.find_text(
                TEXTS, self._query, after=after_id, before=before_id, limit=FOUND_ROWS
            )
            for row in rows:
                before_id = _int(row[2])
                scanned += 1
                shown = self._shown(row)
                if shown is not None:
                    found.append(shown)
                if len(found) >= limit or scanned >= SCANNED_ROWS_MAX:
                    return found, before_id
            if len(rows) < FOUND_ROWS:
                break
        return found, None

    def _shown(self, row: Row) -> msgspec.Raw | None:
        """The message as the timeline shows it; what it no longer shows or shows recalled is not found."""
        stream, seq, _, actor, _, _ = row
        access = self._accesses.get(str(stream))
        if access is None or not access.sees(_int(seq)) or self._sender not in (None, actor):
            return None
        stored = self._timeline.get(EVENTS, (stream, seq))
        if stored is None or stored[3] is None:
            return None
        if not access.whole and not shows_newest_text(self._timeline, access, _int(seq)):
            return None  # What was found is not what this user sees.
        assert isinstance(stored[4], bytes)
        shown = message_row(self._timeline, access, stored[4], with_conversation=True)
        return (
            None
            if b'"recalled":true' in bytes(shown) and msgspec.json.decode(shown).get("recalled")
            else shown
        )


def _accesses(
    timeline: Snapshot, tenant: str, user_id: str, conversation_id: str | None
) -> dict[str, Access]:
    rows = memberships(timeline, tenant, user_id)
    if conversation_id is not None:
        wanted = qualified(tenant, conversation_id)
        rows = [row for row in rows if row[0] == wanted]
    found = (access_from(timeline, row) for row in rows)
    return {access.stream: access for access in found if access is not None}


def _checked_phrases(query: str) -> list[Phrase]:
    if len(query) > QUERY_CHARACTERS_MAX:
        raise invalid("query", f"at most {QUERY_CHARACTERS_MAX} characters")
    phrases = phrases_of(query.replace("\x00", " "))
    if not phrases:
        raise invalid("query", "must have a letter or a digit")
    if len(phrases) > QUERY_WORDS_MAX:
        raise invalid("query", f"at most {QUERY_WORDS_MAX} words")
    return phrases


def _least(one: int | None, other: int | None) -> int | None:
    bounds = [bound for bound in (one, other) if bound is not None]
    return min(bounds) if bounds else None


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
