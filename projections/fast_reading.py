"""Hot questions answered from the fast views, by the same functions as from the views, over what was fetched.

What is not held, lies behind what this process knows of the view, or takes too long raises NotHeldError: then the view is asked. What was
absent is put there in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from domain.streams import inbox_stream, qualified, split
from projections.access import access_from, access_of
from projections.fast import Ask, FastAwayError, FastRows, Held, Miss
from projections.fast_documents import (
    document_of,
    list_of,
    member_field,
    own_field,
    personal_field,
    sharding,
)
from projections.fast_filling import FastFills
from projections.fast_moment import Document, FastMoment, NotHeldError
from projections.fast_want import Want
from projections.numbers import numbers_of
from projections.shapes import Numbers

T = TypeVar("T")
Standing = Callable[[str], tuple[str, Mapping[int, int]]]
"""Of a view: what the fast views call its current version, and the positions that this process knows it to hold."""
ROUNDS_MAX = 4
"""Fetches for one question: each brings what the one before turned out to need."""
CONVERSATIONS_MAX = 500
"""Of one user; who has more is answered by the view."""
NEWEST = (-1, 0)
"""The newest event only."""
_NOTHING: Mapping[str, int] = {}


class FastCounters:
    """How questions ended. `absent`: a document or an event was not there; `behind`: the shard was; `away`: Redis was."""

    __slots__ = ("absent", "away", "behind", "hits")

    def __init__(self) -> None:
        self.hits = 0
        self.absent = 0
        self.behind = 0
        self.away = 0


class FastReads:
    """Reads of one process. Any thread; all calls block for a bounded time, and raise NotHeldError."""

    def __init__(self, rows: FastRows, standing: Standing, fills: FastFills, shard_count: int) -> None:
        self._rows = rows
        self._standing = standing
        self._fills = fills
        self._shard_count = shard_count
        self._shard = sharding(shard_count)
        self.counters = FastCounters()

    def close(self) -> None:
        """Fill no more. Blocks."""
        self._fills.close()

    def of_conversation(self, want: Want, question: Callable[[FastMoment], T]) -> T:
        """The answer to a question about one conversation."""
        moment = FastMoment()
        self._fetch_conversations(moment, [want])
        for _ in range(ROUNDS_MAX):
            try:
                return self._hit(question(moment))
            except NotHeldError as missing:
                if missing.seq is None:
                    self._absent(want, missing)
                    raise
            self._fetch_conversations(moment, [msgspec.structs.replace(want, first=1, last=0)])
        self.counters.absent += 1
        raise NotHeldError

    def many_numbers(self, asked: Sequence[tuple[str, str, str]]) -> dict[int, Numbers | None]:
        """The numbers of (tenant, user id, conversation id), by their place in `asked`, as far as they are held."""
        timeline, inbox = FastMoment(), FastMoment()
        members: dict[str, list[str]] = {}
        marks: dict[str, list[str]] = {}
        for tenant, user_id, name in asked:
            members.setdefault(qualified(tenant, name), []).append(qualified(tenant, user_id))
            marks.setdefault(inbox_stream(tenant, user_id), []).append(personal_field(name))
        self._add_inboxes(inbox, marks)
        self._add_groups(timeline, members)
        answers: dict[int, Numbers | None] = {}
        for _ in range(2):
            bases: dict[tuple[str, int], None] = {}
            for number, entry in enumerate(asked):
                if number not in answers:
                    try:
                        access = access_of(timeline, *entry)
                        answers[number] = None if access is None else numbers_of(timeline, inbox, access)
                    except NotHeldError as missing:
                        if missing.seq is not None:
                            bases[missing.stream, missing.seq] = None
                        elif missing.member:
                            self._fills.conversation(qualified(entry[0], entry[2]), qualified(*entry[:2]))
            if not bases:
                break
            self._add_bases(timeline, list(bases))
        self.counters.hits += len(answers)
        return answers

    def of_user(
        self,
        tenant: str,
        user_id: str,
        question: Callable[[FastMoment, FastMoment], T],
        *,
        have: Mapping[str, int] = _NOTHING,
        recent: int = 0,
        numbered: Collection[str] | None = None,
    ) -> T:
        """The answer to a question about all that a user is in: the timeline and his own stream, with what lies behind `have`, or
        the newest `recent` events. `numbered`: the conversations whose numbers are asked for; None: all.
        """
        member = qualified(tenant, user_id)
        inbox = FastMoment()
        own = inbox_stream(tenant, user_id)
        self._fetch_inbox(inbox, own, _range(have.get("me"), recent))
        timeline = FastMoment()
        self._fetch_list(timeline, member)
        streams = timeline.lists[member]
        if len(streams) > CONVERSATIONS_MAX:
            raise NotHeldError
        names = {stream: split(stream)[1] for stream in streams}
        wants = {stream: Want(stream, member, *_range(have.get(names[stream]), recent)) for stream in streams}
        self._fetch_conversations(timeline, list(wants.values()))
        self._fetch_bases(timeline, inbox, wants, names, numbered)
        for _ in range(ROUNDS_MAX):
            try:
                return self._hit(question(timeline, inbox))
            except NotHeldError as missing:
                if missing.seq is None or missing.stream not in wants:
                    self.counters.absent += 1
                    raise
                self._fetch_conversations(timeline, [_only(wants[missing.stream], missing.seq)])
        self.counters.absent += 1
        raise NotHeldError

    # Fetching

    def _fetch_bases(
        self,
        timeline: FastMoment,
        inbox: FastMoment,
        wants: Mapping[str, Want],
        names: Mapping[str, str],
        numbered: Collection[str] | None,
    ) -> None:
        """The events that numbers are counted from."""
        bases: list[Want] = []
        for stream, want in wants.items():
            if numbered is not None and names[stream] not in numbered:
                continue
            try:
                member = timeline.documents[document_of(stream)].member(member_field(want.member))
                access = None if member is None else access_from(timeline, member)
                if access is not None:
                    numbers_of(timeline, inbox, access)
            except NotHeldError as missing:
                if missing.seq is None:
                    self._absent(want, missing)
                    raise
                bases.append(_only(want, missing.seq))
        if bases:
            self._fetch_conversations(timeline, bases)

    def _fetch_conversations(self, moment: FastMoment, wants: Sequence[Want]) -> None:
        for want, document in zip(wants, self._fetched(wants), strict=True):
            if document is None:
                raise NotHeldError
            moment.add(document_of(want.stream), document)

    def _fetched(self, wants: Sequence[Want]) -> list[Document | None]:
        place, positions = self._standing("timeline")
        asks = []
        for want in wants:
            shard = self._shard(want.stream)
            needed = max(positions.get(shard, 0), want.position)
            members = member_field(want.member), own_field(want.member)
            name = document_of(want.stream)
            asks.append(Ask(shard, needed, name, members, want.first, want.last, want.small))
        documents: list[Document | None] = []
        for want, ask, held in zip(wants, asks, self._fetch(place, asks), strict=True):
            if held is Miss.ABSENT:
                self._fills.conversation(want.stream, want.member)
            documents.append(None if isinstance(held, Miss) else Document(held, ask))
        return documents

    def _add_inboxes(self, moment: FastMoment, marks: Mapping[str, Sequence[str]]) -> None:
        """Users' own streams, each with these fields."""
        place, positions = self._standing("inbox")
        asks = []
        for stream, fields in marks.items():
            shard = self._shard(stream)
            asks.append(Ask(shard, positions.get(shard, 0), document_of(stream), tuple(fields)))
        for stream, ask, held in zip(marks, asks, self._fetch(place, asks), strict=True):
            if not isinstance(held, Miss):
                moment.add(ask.name, Document(held, ask))
            elif held is Miss.ABSENT:
                self._fills.inbox(stream)

    def _add_groups(self, moment: FastMoment, members: Mapping[str, Sequence[str]]) -> None:
        """Conversations, each with these members and its newest event."""
        place, positions = self._standing("timeline")
        asks = []
        for stream, names in members.items():
            shard = self._shard(stream)
            fields = (field for name in names for field in (member_field(name), own_field(name)))
            asks.append(Ask(shard, positions.get(shard, 0), document_of(stream), tuple(fields), *NEWEST))
        for stream, ask, held in zip(members, asks, self._fetch(place, asks), strict=True):
            if not isinstance(held, Miss):
                moment.add(ask.name, Document(held, ask))
            elif held is Miss.ABSENT:
                for name in members[stream]:
                    self._fills.conversation(stream, name)

    def _add_bases(self, moment: FastMoment, bases: Sequence[tuple[str, int]]) -> None:
        """Events that numbers are counted from."""
        place, positions = self._standing("timeline")
        asks = []
        for stream, seq in bases:
            shard = self._shard(stream)
            name = document_of(stream)
            asks.append(Ask(shard, positions.get(shard, 0), name, (), seq, seq, small=False))
        for ask, held in zip(asks, self._fetch(place, asks), strict=True):
            try:
                if isinstance(held, Miss):
                    raise NotHeldError
                if ask.name in moment.documents:
                    moment.add(ask.name, Document(held, ask))
            except NotHeldError:  # It moved on meanwhile.
                moment.documents.pop(ask.name, None)

    def _fetch_inbox(self, moment: FastMoment, stream: str, events: tuple[int, int]) -> None:
        place, positions = self._standing("inbox")
        shard = self._shard(stream)
        ask = Ask(shard, positions.get(shard, 0), document_of(stream), None, *events)
        (held,) = self._fetch(place, [ask])
        if isinstance(held, Miss):
            if held is Miss.ABSENT:
                self._fills.inbox(stream)
            raise NotHeldError
        moment.add(ask.name, Document(held, ask))

    def _fetch_list(self, moment: FastMoment, member: str) -> None:
        place, positions = self._standing("timeline")
        shards = range(self._shard_count)
        asks = [Ask(shard, positions.get(shard, 0), list_of(member)) for shard in shards]
        lists = self._fetch(place, asks)
        if Miss.ABSENT in lists:
            self._fills.lists(member)
        held = [one for one in lists if not isinstance(one, Miss)]
        if len(held) < len(lists):
            raise NotHeldError
        moment.list_all(member, held)

    def _fetch(self, place: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """Raises NotHeldError when the fast views are away."""
        try:
            answers = self._rows.fetch(place, asks)
        except FastAwayError:
            self.counters.away += 1
            raise NotHeldError from None
        if Miss.BEHIND in answers:
            self.counters.behind += 1
        elif Miss.ABSENT in answers:
            self.counters.absent += 1
        return answers

    def _absent(self, want: Want, missing: NotHeldError) -> None:
        self.counters.absent += 1
        if missing.member:
            self._fills.conversation(want.stream, want.member)

    def _hit(self, answer: T) -> T:
        self.counters.hits += 1
        return answer


def _only(want: Want, seq: int) -> Want:
    return msgspec.structs.replace(want, first=seq, last=seq, small=False)


def _range(have: int | None, recent: int) -> tuple[int, int]:
    """The events behind what somebody has, else the newest."""
    return (-max(recent, 1), 0) if have is None else (have + 1, 0)
