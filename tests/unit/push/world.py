"""A log, a pusher and a gateway in one process, with a wire of messages between that a test moves by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from typing_extensions import override

from domain.aggregates import EVENT_CLASSES
from domain.event import Event
from domain.group_roster import MemberAdded, MemberLeft
from domain.inbox import ReadMarked
from domain.streams import inbox_stream, shard_of, user_stream
from domain.talk import MessageRecalled
from domain.user import UserSessionClosed
from eventlog.codec import EventCodec, frame_of
from eventlog.memory import MemoryLog
from eventlog.port import LogUnavailableError
from eventlog.record import Commit, Committed, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from gateways.push.concern import ROUTING_TYPES
from gateways.push.exchange import Exchange
from gateways.push.outbox import Outbox
from gateways.push.receiver import Receiver
from gateways.push.settings import PushSettings
from gateways.push.upstream import Upstream
from gateways.rpc.generated import push_pb2 as pb

SHARDS = 3
CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
Place = tuple[int, int]


def routed(commit: Commit) -> Committed:
    """As a pusher reads it."""
    return CODEC.decode(commit, ROUTING_TYPES)


class FickleLog(MemoryLog):
    """A log that a test takes away. `reads` counts pages."""

    def __init__(self) -> None:
        super().__init__("log-1", SHARDS)
        self.away = False
        self.is_short = False
        """Whether it shows no commits, as under a primary that does not know yet what its predecessor promised."""
        self.reads = 0

    @override
    async def heads(self) -> Mapping[int, Head]:
        self._check()
        return await super().heads()

    @override
    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        self._check()
        self.reads += 1
        if self.is_short:
            return ()
        return await super().read_shard(shard, after_position, limit)

    def _check(self) -> None:
        if self.away:
            raise LogUnavailableError("taken away")


class Record:
    """Writes commits."""

    def __init__(self) -> None:
        self.log = FickleLog()
        self.commits: list[Commit] = []
        self.heads = [Head() for _ in range(SHARDS)]
        self._versions: dict[str, int] = {}

    async def write(self, stream: str, event: Event) -> Place:
        """One event, durable."""
        shard = shard_of(stream, SHARDS)
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        key = len(self.commits).to_bytes(16)
        seqs = [version]
        draft = Draft(stream, version, key, key, 1, (event,), seqs, CODEC.encode_events((event,), seqs))
        commit = frame_of(draft, self.log.log_id, shard, 1, self.heads[shard])
        self.heads[shard] = commit.head
        await self.log.append({shard: [commit]})
        self.commits.append(commit)
        return shard, commit.position

    async def say(self, stream: str) -> Place:
        """Something in a conversation, of which only the stream matters."""
        return await self.write(stream, MessageRecalled(actor="ann", at=1, target=1))

    async def join(self, stream: str, user_id: str) -> Place:
        """Somebody becomes a member."""
        event = MemberAdded(actor="ann", at=1, user_id=user_id, role="member", via="added")
        return await self.write(stream, event)

    async def leave(self, stream: str, user_id: str) -> Place:
        """Somebody is one no more."""
        return await self.write(stream, MemberLeft(actor=user_id, at=1, user_id=user_id))

    async def read(self, user_id: str, conversation_id: str) -> Place:
        """A read mark."""
        event = ReadMarked(actor=user_id, at=1, conversation_id=conversation_id, read_seq=1)
        return await self.write(inbox_stream("default", user_id), event)

    async def end(self, user_id: str) -> Place:
        """A session ends."""
        event = UserSessionClosed(actor=user_id, at=1, session_id="s", reason="ended")
        return await self.write(user_stream("default", user_id), event)

    def after(self, shard: int, position: int) -> list[Commit]:
        """What the shard holds behind."""
        return [commit for commit in self.commits if commit.shard == shard and commit.position > position]


class PusherHere:
    """One incarnation of a pusher, as far behind the record as the test leaves it."""

    def __init__(self, record: Record, settings: PushSettings) -> None:
        self.record = record
        self.settings = settings
        self.exchange = Exchange({shard: head.position for shard, head in enumerate(record.heads)})
        self.age_s = 0.0

    def advance(self, shard: int, most: int) -> None:
        """Route some of what is there."""
        waiting = self.record.after(shard, self.exchange.positions.get(shard, 0))[:most]
        if waiting:
            self.exchange.follow([routed(commit) for commit in waiting])

    def catch_up(self) -> None:
        """Route all of it."""
        for shard in range(SHARDS):
            self.advance(shard, len(self.record.commits))


class Wire:
    """One stream: messages on their way, both ways."""

    def __init__(self, pusher: PusherHere, receiver: Receiver) -> None:
        self.pusher = pusher
        self.receiver = receiver
        self.outbox = Outbox("gateway-1", pusher.settings, pusher.exchange.counters)
        pusher.exchange.enter(self.outbox)
        self.upstream: Upstream = receiver.opened()
        self._up: deque[pb.ToPusher] = deque()
        self._down: deque[pb.ToGateway] = deque()

    async def up(self) -> bool:
        """Bring one message to the pusher; False: there was none."""
        message = self._up.popleft() if self._up else self.upstream.message()
        if message is None:
            return False
        exchange = self.pusher.exchange
        exchange.want(self.outbox, message.want)
        exchange.unwant(self.outbox, message.unwant, message.seen)
        if message.number:
            exchange.confirm(self.outbox, message.number)
        if message.probe:
            self.outbox.echo(message.probe, int(self.pusher.age_s * 1_000))
        return True

    async def down(self) -> bool:
        """Bring one message to the gateway; False: there was none."""
        message = self.outbox.message()
        if message is None:
            return False
        await self.receiver.take(self.upstream, pb.ToGateway.FromString(message.SerializeToString()))
        return True

    async def settle(self) -> None:
        """Bring everything there and back."""
        while await self.up() or await self.down():
            pass

    def cut(self) -> None:
        """What is on its way is lost."""
        self.pusher.exchange.leave(self.outbox)
        self.outbox.end("cut")
        self.receiver.broken(self.upstream)


class Gateway:
    """A receiver, and who listens behind it: whoever joins a conversation here listens to it from then on."""

    def __init__(self, record: Record, settings: PushSettings) -> None:
        self.now_s = 1_000.0
        self.delivered: list[Committed] = []
        self.listening: set[str] = set()
        self.heads: dict[int, int] = {}
        self.receiver = Receiver(
            log=record.log,
            codec=CODEC,
            heads={shard: head.position for shard, head in enumerate(record.heads)},
            publish=self._publish,
            take_heads=self.heads.update,
            lines=None,
            settings=settings,
            now_s=lambda: self.now_s,
        )
        self.receiver.lost = self._lost
        self.lost = 0
        self.joined: dict[str, tuple[str, Place]] = {}
        """Who joined here what nobody listened to, and where."""

    def _lost(self) -> None:
        self.lost += 1

    def listen(self, stream: str) -> None:
        """As `Interest` does."""
        if stream not in self.listening:
            self.listening.add(stream)
            self.receiver.want(stream)

    def unlisten(self, stream: str) -> None:
        """As `Interest` does."""
        if stream in self.listening:
            self.listening.remove(stream)
            self.receiver.unwant(stream)

    def _publish(self, batch: Sequence[Committed]) -> None:
        for committed in batch:
            self.delivered.append(committed)
            for row in committed.events:
                event = row.event
                user = user_stream("default", event.user_id) if isinstance(event, MemberAdded) else ""
                if user in self.listening:
                    if row.stream not in self.listening:
                        self.joined[row.stream] = user, (row.shard, row.position)
                    self.listen(row.stream)

    @property
    def places(self) -> list[Place]:
        """(shard, position) of what was delivered, in order."""
        return [(committed.commit.shard, committed.commit.position) for committed in self.delivered]
