"""A small world: a memory log, a bus, and streams that events are put into by hand, with views that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from domain.aggregates import EVENT_CLASSES
from domain.direct import DirectOpened
from domain.event import Event
from domain.group import GroupCreated, MemberAdded
from domain.streams import shard_of
from domain.talk import MessagePosted, Origin
from domain.user import UserRegistered
from eventlog.bus import Bus
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.memory import MemoryLog
from eventlog.record import Committed, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from projections.runner import RunnerSettings
from projections.shelf import ViewShelf
from projections.sqlite_shelf import SqliteShelf
from projections.views import Views, ViewsSettings

SHARDS = 4
START_AT = 1_700_000_000_000
CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())


class World:
    """Events by hand: versions, seqs, positions and times are counted here; a minute passes with each commit."""

    def __init__(self, log_id: str = "log-1") -> None:
        self.log = MemoryLog(log_id, SHARDS)
        self.bus = Bus()
        self.history: list[Committed] = []
        self._heads: dict[int, Head] = {}
        self._versions: dict[str, int] = {}
        self._seqs: dict[str, int] = {}
        self._ordinals: dict[str, int] = {}
        self.now = START_AT

    async def commit(self, stream: str, *events: Event, publish: bool = True) -> int:
        """Append the events (whose `at` is set here) to the log and tell the bus; the seq of the last one."""
        committed = self.made(stream, *events)
        await self.log.append({committed.commit.shard: [committed.commit]})
        if publish:
            self.bus.publish([committed])
        return self._seqs.get(stream, 0)

    def made(self, stream: str, *events: Event) -> Committed:
        """The next commit of the stream, not appended."""
        self.now += 60_000
        events = tuple(msgspec.structs.replace(event, at=self.now) for event in events)
        seqs = [self._next_seq(stream) if event.PUBLIC else None for event in events]
        shard = shard_of(stream, SHARDS)
        head = self._heads.get(shard, Head())
        draft = Draft(
            stream=stream,
            first_version=self._versions.get(stream, 0) + 1,
            key=len(self.history).to_bytes(16),
            payload_digest=bytes(16),
            at=self.now,
            events=events,
            seqs=seqs,
            events_json=CODEC.encode_events(events, seqs),
        )
        commit = frame_of(draft, self.log.log_id, shard, 1, head)
        self._heads[shard] = commit.head
        self._versions[stream] = self._versions.get(stream, 0) + len(events)
        committed = recorded(commit, events, seqs)
        self.history.append(committed)
        return committed

    def positions(self) -> dict[int, int]:
        """The head of every shard."""
        return {shard: head.position for shard, head in self._heads.items()}

    async def register(self, user_id: str, name: str | None = None) -> None:
        """An account."""
        await self.commit(
            f"user:{user_id}", UserRegistered(actor=user_id, at=0, name=name or user_id.title())
        )

    async def group(
        self,
        stream: str,
        owner: str,
        members: Sequence[str] = (),
        *,
        history_visible: bool = True,
        join: str = "closed",
    ) -> None:
        """A group with members."""
        created = GroupCreated(
            actor=owner,
            at=0,
            name="Group",
            join=join,  # type: ignore[arg-type]
            max_members=500,
            history_visible=history_visible,
            members_may_add=False,
            owner=owner,
        )
        await self.commit(stream, created, *(added(user, owner, "created") for user in members))

    async def pair(self, stream: str, one: str, other: str) -> None:
        """An opened pair."""
        await self.commit(stream, DirectOpened(actor=one, at=0, users=(one, other)))

    async def say(
        self,
        stream: str,
        actor: str,
        text: str,
        *,
        mentions: tuple[str, ...] = (),
        reply_to: int | None = None,
        origin: Origin | None = None,
    ) -> int:
        """A text message; its seq."""
        return await self.commit(
            stream, self.message(stream, actor, text, mentions=mentions, reply_to=reply_to, origin=origin)
        )

    def message(
        self,
        stream: str,
        actor: str,
        text: str,
        *,
        mentions: tuple[str, ...] = (),
        reply_to: int | None = None,
        origin: Origin | None = None,
    ) -> MessagePosted:
        """The next message of a stream."""
        ordinal = self._ordinals[stream] = self._ordinals.get(stream, 0) + 1
        return MessagePosted(
            actor=actor,
            at=0,
            message_id=f"m-{stream}-{ordinal}",
            ordinal=ordinal,
            client_msg_id=f"c{ordinal}",
            content=content(text),
            mentions=mentions,
            reply_to=reply_to,
            origin=origin,
        )

    def _next_seq(self, stream: str) -> int:
        seq = self._seqs[stream] = self._seqs.get(stream, 0) + 1
        return seq


def content(text: str) -> msgspec.Raw:
    """A text content."""
    return msgspec.Raw(msgspec.json.encode({"kind": "text", "text": text}))


def added(user_id: str, actor: str, via: str = "added") -> MemberAdded:
    """A joining."""
    return MemberAdded(actor=actor, at=0, user_id=user_id, role="member", via=via)  # type: ignore[arg-type]


@asynccontextmanager
async def views_of(
    world: World, place: Path | ViewShelf, settings: RunnerSettings | None = None, *, shared: bool = False
) -> AsyncIterator[Views]:
    """Views that follow the world, in a folder or on a shelf, where others may read them; closed at the end."""
    runner = settings or RunnerSettings(linger_ms=1)
    shelf = SqliteShelf(place) if isinstance(place, Path) else place
    views = await Views.open(shelf, world.log, world.bus, CODEC, ViewsSettings(runner=runner, shared=shared))
    try:
        yield views
    finally:
        await views.close()


def rows(page: object) -> list[dict[str, object]]:
    """The rows of a page, decoded."""
    return [msgspec.json.decode(row) for row in page.data]  # type: ignore[attr-defined]
