"""Views with fast views beside them, asked both ways: what is told from the fast views must be what the views say."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from domain.errors import Problem
from eventlog.record import Committed
from projections.directory import Directory
from projections.fast import Ask, FastAwayError, FastRows, Held, Miss, Offer, Span
from projections.fast_documents import place_of
from projections.fast_filling import FastFills
from projections.fast_reading import FastReads
from projections.fast_shelf import FastShelf, ToldStore
from projections.inbox import Inbox
from projections.projection import Projection
from projections.reading import Reads
from projections.shelf import ViewShelf
from projections.store import ViewStore
from projections.timeline import Timeline
from projections.views import READ_MODELS
from tests.histories import GROUPS, PAIRS, USERS
from tests.unit.projections.world import SHARDS

LOG = "log-1"
TENANT = "default"
ASKERS = (*USERS, "stranger")
CONVERSATIONS = (*GROUPS, *PAIRS, "g_unknown")
SETTLED_S = 30.0

Answer = tuple[str, str]
Question = tuple[str, Callable[[Timeline, Inbox], Awaitable[object]]]


class Failing:
    """Rows that are away when `fails` says so; of a telling that fails it may have happened or not."""

    def __init__(self, rows: FastRows) -> None:
        self.rows = rows
        self.fails: Callable[[], bool] = lambda: False

    def tell(self, view: str, spans: Sequence[Span]) -> list[frozenset[str]]:
        """See the port."""
        if self.fails():
            some = spans[: len(spans) // 2]
            if some:
                self.rows.tell(view, some)
            raise FastAwayError("away")
        return self.rows.tell(view, spans)

    def offer(self, view: str, offers: Sequence[Offer]) -> list[bool]:
        """See the port."""
        if self.fails():
            raise FastAwayError("away")
        return self.rows.offer(view, offers)

    def fetch(self, view: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """See the port."""
        if self.fails():
            raise FastAwayError("away")
        return self.rows.fetch(view, asks)


class House:
    """Writers of the timeline and the inbox over a shelf, and readers of both kinds. `grow` blocks."""

    def __init__(self, shelf: ViewShelf, rows: FastRows) -> None:
        self.rows = Failing(rows)
        self.shelf = FastShelf(shelf, self.rows, SHARDS, look_s=3_600)
        self.projections: dict[str, Projection] = {}
        self.reopen()
        self.fills = FastFills(self.rows, self._current, SHARDS)
        self.fast = FastReads(self.rows, self._standing, self.fills, SHARDS)
        self._reads = Reads(threads=1)
        self._directory = Directory(self._reads, self._source("directory"))
        self.readers = self._readers(None), self._readers(self.fast)

    def reopen(self) -> None:
        """Go on as another process would."""
        for projection in self.projections.values():
            projection.store.close()
        for name in ("timeline", "inbox", "directory"):
            model = READ_MODELS[name]
            self.projections[name] = model.over(self.shelf.open(model.schema, 1, LOG), shared=True)

    def take(self, batch: Sequence[Committed]) -> None:
        """Apply commits."""
        for projection in self.projections.values():
            projection.take(batch)

    async def close(self) -> None:
        """End everything."""
        self.fast.close()
        await self._reads.close()
        for projection in self.projections.values():
            projection.store.close()
        self.shelf.close()

    def _readers(self, fast: FastReads | None) -> tuple[Timeline, Inbox]:
        names = self._directory.names_now
        timeline, inbox = self._source("timeline"), self._source("inbox")
        return (
            Timeline(self._reads, timeline, names, _fresh, SHARDS, fast),
            Inbox(self._reads, timeline, inbox, names, _fresh, LOG, fast),
        )

    def _source(self, name: str) -> Callable[[], ViewStore]:
        return lambda: self.projections[name].store

    def _current(self, name: str) -> tuple[ViewStore, int]:
        store = self.projections[name].store
        assert isinstance(store, ToldStore)
        return store, store.version

    def _standing(self, name: str) -> tuple[str, Mapping[int, int]]:
        positions = dict(self.projections[name].positions)
        return place_of(*self._current(name)), positions

    # Asking

    async def compare(self, questions: Sequence[Question]) -> None:
        """Both must say the same, byte for byte."""
        plain, fast = self.readers
        for what, question in questions:
            assert await said(question(*plain)) == await said(question(*fast)), what

    def settle(self) -> None:
        """Wait until what was missing is there."""
        assert self.fills.settled(SETTLED_S)


async def _fresh() -> None:
    return


async def said(answer: Awaitable[object]) -> Answer:
    """What was said, as bytes, or what was refused."""
    try:
        return "said", msgspec.json.encode(await answer).decode()
    except Problem as problem:
        return "refused", f"{problem.code} {problem}"


def questions_of(chance: random.Random, count: int) -> list[Question]:
    """Questions of any asker about anything."""
    return [chance.choice(_KINDS)(chance) for _ in range(count)]


def _page(chance: random.Random) -> Question:
    user, name, limit = chance.choice(ASKERS), chance.choice(CONVERSATIONS), chance.choice((1, 3, 50))
    direction, seq = chance.choice((None, None, None, "after", "before", "around")), chance.randint(0, 60)

    async def ask(timeline: Timeline, _: Inbox) -> object:
        access = await timeline.access(TENANT, user, name)
        if access is None:
            return None
        bounds = {other: seq if other == direction else None for other in ("after", "before", "around")}
        page = await timeline.messages(
            access, limit=limit, after=bounds["after"], before=bounds["before"], around=bounds["around"]
        )
        return access, page

    return f"page {user} {name} {limit} {direction} {seq}", ask


def _numbers(chance: random.Random) -> Question:
    asked = [
        (TENANT, chance.choice(ASKERS), chance.choice(CONVERSATIONS)) for _ in range(chance.choice((1, 4)))
    ]
    return f"numbers {asked}", lambda _, inbox: inbox.many_numbers(asked)


def _marks(chance: random.Random) -> Question:
    user, name, seq = chance.choice(ASKERS), chance.choice(CONVERSATIONS), chance.randint(0, 60)
    return (
        f"marks {user} {name} {seq}",
        lambda timeline, _: timeline.marks_allowed(TENANT, user, name, seq),
    )


def _have(chance: random.Random) -> dict[str, int]:
    names = chance.sample((*CONVERSATIONS, "me"), chance.randint(0, len(CONVERSATIONS)))
    return {name: chance.randint(0, 60) for name in names}


def _hello(chance: random.Random) -> Question:
    user, have = chance.choice(ASKERS), _have(chance)
    return f"hello {user} {have}", lambda _, inbox: inbox.hello(TENANT, user, have)


def _sync(chance: random.Random) -> Question:
    user, have = chance.choice(ASKERS), _have(chance)
    limit, recent, only = chance.choice((1, 5, 500)), chance.choice((0, 0, 3, 50)), chance.random() < 0.3
    return (
        f"sync {user} {have} {limit} {recent} {only}",
        lambda _, inbox: inbox.sync(TENANT, user, have, limit=limit, recent=recent, only=only),
    )


def _conversations(chance: random.Random) -> Question:
    user = chance.choice(ASKERS)
    return f"conversations {user}", lambda timeline, _: timeline.user_conversations(TENANT, user)


_KINDS = (_page, _page, _numbers, _marks, _hello, _sync, _conversations)
