"""A node over a log that can be made to fail, with a hand-driven clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from typing_extensions import override

from commands.caller import Answer, Keyed
from commands.node import Node
from commands.order import Order
from commands.settings import NodeSettings
from domain.aggregates import EVENT_CLASSES
from domain.conversation import PostMessage
from domain.errors import Problem
from domain.event import Command
from domain.streams import direct_conversation_id, shard_of
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.memory import MemoryLog
from eventlog.port import Log, Refusal, RefusalReason, ShardOutcome
from eventlog.record import Commit, Committed
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.snapshots import Snapshots
from tests.faulty_log import FaultyLog

SECRET = bytes(32)
NOW = 1_700_000_000_000
FAST = NodeSettings(flush_pace_ms=0.0, resend_first_ms=0.01, resend_max_ms=0.1)
Result = Answer | Problem


class RefusingLog(FaultyLog):
    """Refuses document `index` of a shard's batch once, as a store does when an index clashes: what lies before it stays."""

    def __init__(self, inner: Log) -> None:
        super().__init__(inner)
        self._refusals: list[tuple[int, int, RefusalReason]] = []

    def refuse(self, shard: int, index: int, reason: RefusalReason) -> None:
        """The next flush with more than `index` documents of the shard meets the refusal."""
        self._refusals.append((shard, index, reason))

    @override
    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        for planned in tuple(self._refusals):
            shard, index, reason = planned
            if len(batches.get(shard, ())) > index:
                self._refusals.remove(planned)
                return await self._refuse(dict(batches), shard, index, reason)
        return await super().append(batches)

    async def _refuse(
        self, batches: dict[int, Sequence[Commit]], shard: int, index: int, reason: RefusalReason
    ) -> Mapping[int, ShardOutcome]:
        before = {number: rows for number, rows in batches.items() if number < shard}
        outcomes = dict(await super().append({**before, shard: batches[shard][:index]}))
        outcomes[shard] = ShardOutcome(index, Refusal(index, reason))
        for number in batches:
            outcomes.setdefault(number, ShardOutcome(0))
        return outcomes


class Scene:
    """One node and what a test needs around it."""

    def __init__(self, log: RefusingLog, settings: NodeSettings, snapshots: Snapshots | None) -> None:
        self.log = log
        self.now = NOW
        self.codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
        self.bus = Bus()
        self.published: list[Committed] = []
        self.bus.follow(self._published)
        self._durable: dict[str, asyncio.Event] = {}
        self.node = Node(log, self.codec, self.bus, lambda: self.now, settings, snapshots=snapshots)
        self._keys = itertools.count()

    def _published(self, batch: Sequence[Committed]) -> None:
        self.published.extend(batch)
        for committed in batch:
            self._durable.setdefault(committed.commit.stream, asyncio.Event()).set()

    async def durable(self, stream: str) -> None:
        """Wait until the stream has a durable commit."""
        await self._durable.setdefault(stream, asyncio.Event()).wait()

    def submit(
        self, actor: str, stream: str, command: Command, client_key: str | None = None, payload: bytes = b"1"
    ) -> asyncio.Future[Result]:
        """Hand in a command; the future has the answer or the problem."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        keyed = Keyed(stream, client_key or f"auto-{next(self._keys)}", payload)
        order = Order(
            tenant="default",
            actor=actor,
            stream=stream,
            command=command,
            key=keyed.key("default", actor),
            client_keyed=True,
            payload_digest=keyed.payload_digest(SECRET),
            done=future.set_result,
        )
        self.node.submit(order)
        return future

    async def done(self, actor: str, stream: str, command: Command, client_key: str | None = None) -> Answer:
        """Hand in a command and wait for its success."""
        result = await self.submit(actor, stream, command, client_key)
        assert isinstance(result, Answer), result
        return result

    async def history(self, stream: str) -> list[Committed]:
        """The stream as the log holds it, checked for dense positions of its shard and gap-free versions."""
        shard = shard_of(stream, self.log.shard_count)
        commits = await self.log.inner.read_shard(shard, 0, 5_000)
        assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
        rows = [self.codec.decode(commit) for commit in commits if commit.stream == stream]
        versions = [row.version for committed in rows for row in committed.events]
        assert versions == list(range(1, len(versions) + 1))
        return rows


@asynccontextmanager
async def scene(
    settings: NodeSettings = FAST, log: RefusingLog | None = None, snapshots: Snapshots | None = None
) -> AsyncIterator[Scene]:
    """An open node; closed at the end."""
    stage = Scene(log or RefusingLog(MemoryLog("log-1", 4)), settings, snapshots)
    await stage.node.open()
    try:
        yield stage
    finally:
        await stage.node.close()


def pair(one: str, other: str) -> str:
    """The stream of two users."""
    return direct_conversation_id("default", one, other)


def text(words: str) -> msgspec.Raw:
    """Text content."""
    return msgspec.Raw(msgspec.json.encode({"kind": "text", "text": words}))


def post(words: str, to: str | None = None, reply_to: int | None = None) -> PostMessage:
    """A send."""
    return PostMessage(client_msg_id=words, content=text(words), to=to, reply_to=reply_to)
