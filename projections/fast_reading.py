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
        for _ in range(ROUNDS_MAX - 1):
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
        inbox = self._inboxes(asked)
        timeline: dict[int, FastMoment] = {}
        wants = [Want(qualified(tenant, name), qualified(tenant, user)) for tenant, user, name in asked]
        for number, document in enumerate(self._fetched(wants)):
            if document is not None:
                timeline[number] = FastMoment()
                timeline[number].add(document_of(wants[number].stream), document)
        answers: dict[int, Numbers | None] = {}
        for _ in range(2):
            missing: dict[int, Want] = {}
            for number, moment in timeline.items():
                if number in answers or number not in inbox:
                    continue
                try:
                    access = access_of(moment, *asked[number])
                    answers[number] = None if access is None else numbers_of(moment, inbox[number], access)
                except NotHeldError as error:
                    if error.member:
                        self._fills.conversation(wants[number].stream, wants[number].member)
                    elif error.seq is not None:
                        missing[number] = _only(wants[number], error.seq)
            if not missing:
                break
            self._add_missing(timeline, missing)
        self.counters.hits += len(answers)
        self.counters.absent += len(asked) - len(answers)
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
            asks.append(Ask(shard, needed, document_of(want.stream), members, want.first, want.last))
        documents: list[Document | None] = []
        for want, ask, held in zip(wants, asks, self._fetch(place, asks), strict=True):
            if held is Miss.ABSENT:
                self._fills.conversation(want.stream, want.member)
            documents.append(None if isinstance(held, Miss) else Document(ask.shard, held, ask.members))
        return documents

    def _inboxes(self, asked: Sequence[tuple[str, str, str]]) -> dict[int, FastMoment]:
        """The own streams, by the place in `asked`, each with what concerns that conversation."""
        place, positions = self._standing("inbox")
        asks = []
        for tenant, user_id, name in asked:
            stream = inbox_stream(tenant, user_id)
            shard = self._shard(stream)
            asks.append(Ask(shard, positions.get(shard, 0), document_of(stream), (personal_field(name),)))
        found: dict[int, FastMoment] = {}
        for number, (ask, held) in enumerate(zip(asks, self._fetch(place, asks), strict=True)):
            if not isinstance(held, Miss):
                found[number] = FastMoment()
                found[number].add(ask.name, Document(ask.shard, held, ask.members))
            elif held is Miss.ABSENT:
                self._fills.inbox(inbox_stream(*asked[number][:2]))
        return found

    def _fetch_inbox(self, moment: FastMoment, stream: str, events: tuple[int, int]) -> None:
        place, positions = self._standing("inbox")
        shard = self._shard(stream)
        ask = Ask(shard, positions.get(shard, 0), document_of(stream), None, *events)
        (held,) = self._fetch(place, [ask])
        if isinstance(held, Miss):
            if held is Miss.ABSENT:
                self._fills.inbox(stream)
            raise NotHeldError
        moment.add(ask.name, Document(shard, held, None))

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

    def _add_missing(self, timeline: dict[int, FastMoment], missing: Mapping[int, Want]) -> None:
        fetched = self._fetched(list(missing.values()))
        for (number, want), document in zip(missing.items(), fetched, strict=True):
            try:
                if document is None:
                    raise NotHeldError
                timeline[number].add(document_of(want.stream), document)
            except NotHeldError:
                del timeline[number]

    def _fetch(self, place: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """Raises NotHeldError when the fast views are away."""
        try:
            answers = self._rows.fetch(place, asks)
        except FastAwayError:
            self.counters.away += 1
            raise NotHeldError from None
        self.counters.behind += answers.count(Miss.BEHIND)
        return answers

    def _absent(self, want: Want, missing: NotHeldError) -> None:
        self.counters.absent += 1
        if missing.member:
            self._fills.conversation(want.stream, want.member)

    def _hit(self, answer: T) -> T:
        self.counters.hits += 1
        return answer


def _only(want: Want, seq: int) -> Want:
    return msgspec.structs.replace(want, first=seq, last=seq)


def _range(have: int | None, recent: int) -> tuple[int, int]:
    """The events behind what somebody has, else the newest."""
    return (-max(recent, 1), 0) if have is None else (have + 1, 0)
