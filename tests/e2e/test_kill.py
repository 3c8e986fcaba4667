"""A server under load, killed in the middle of its sends again and again: what was acknowledged is there once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from client.problem import ConnectionLostError
from client.rest import RestClient
from domain.aggregates import EVENT_CLASSES
from domain.streams import kind_of
from domain.talk import MessagePosted
from eventlog.codec import EventCodec
from eventlog.integrity import verify_shard
from eventlog.mongo import MongoLog
from eventlog.port import Log
from eventlog.record import Recorded
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.sqlite import SqliteLog
from tests.e2e.process import ServerProcess
from tests.integration.house import Line, content

pytestmark = [pytest.mark.crash, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

USERS = ("ann", "bob", "carl", "dora")
PASSWORD = "a quiet afternoon"
ROUNDS = 10
CLUSTER_ROUNDS = 4
IN_FLIGHT = 25
CATCH_UP_S = 30.0


class Sent(msgspec.Struct):
    """A message on its way: `ack` None as long as nobody said that it is durable."""

    conversation_id: str
    client_msg_id: str
    ack: tuple[int, str] | None = None
    """(seq, position)."""


class Member:
    """A user who reconnects after every kill, sends what was not acknowledged again, and writes down what he sees."""

    def __init__(self, user_id: str, conversations: list[str]) -> None:
        self.user_id = user_id
        self.conversations = conversations
        self.seen: dict[str, list[int]] = {name: [] for name in conversations}
        self.sent: list[Sent] = []
        self.line = Line(None)
        self.token = ""

    async def connect(self, server: ServerProcess) -> None:
        """Log in, say hello with everything that was seen."""
        async with RestClient(server.url) as rest:
            self.token = (await rest.log_in(self.user_id, PASSWORD, "d1")).access_token
        self.line = Line(None)
        await self.line.connect(server.socket_url)
        have = {name: seqs[-1] if seqs else 0 for name, seqs in self.seen.items()}
        self.line.say("hello", token=self.token, have=have)
        await self.line.next("events", complete=True)
        assert not self.line.of("behind")

    def write(self, chance: random.Random, count: int) -> None:
        """More messages to send."""
        for _ in range(count):
            key = f"{self.user_id}-{len(self.sent)}"
            self.sent.append(Sent(chance.choice(self.conversations), key))

    async def send(self) -> None:
        """Send what is not acknowledged, a window at a time, until all is or the server is gone."""
        open_ = [sent for sent in self.sent if sent.ack is None]
        for start in range(0, len(open_), IN_FLIGHT):
            window = open_[start : start + IN_FLIGHT]
            for sent in window:
                if self.line.close_code is not None:
                    return
                with contextlib.suppress(ConnectionLostError):
                    self.line.say(
                        "send",
                        ref=sent.client_msg_id,
                        conversation_id=sent.conversation_id,
                        client_msg_id=sent.client_msg_id,
                        content=content(f"{sent.client_msg_id} {'x' * 200}"),
                    )
            wanted = {sent.client_msg_id for sent in window}
            await self.line.until(
                lambda wanted=wanted: (  # type: ignore[misc]
                    self.line.close_code is not None or wanted <= self.line.answered
                )
            )
            self.note_acks()

    def note_acks(self) -> None:
        """What the server said is durable."""
        by_key = {sent.client_msg_id: sent for sent in self.sent}
        for frame in self.line.of("ack"):
            sent = by_key[frame["ref"]]
            assert sent.conversation_id == frame["conversation_id"]
            assert sent.ack in (None, (frame["seq"], frame["position"])), "two answers for one key"
            sent.ack = (frame["seq"], frame["position"])

    def note_events(self) -> None:
        """What came over this socket, in the order it came."""
        for name in self.seen:
            self.seen[name] += self.line.seqs(name)


class Place(msgspec.Struct, frozen=True):
    """Where a server keeps its record: files, or the servers of a cluster that `environment` names."""

    data: Path
    rounds: int
    environment: dict[str, str] = {}

    async def log(self) -> Log:
        """The record, to look into."""
        if not self.environment:
            return await SqliteLog.open_read_only(self.data / "log.db")
        uri, database = (
            self.environment[f"MINUTEBOOK_CLUSTER__MONGODB_{name}"] for name in ("URI", "DATABASE")
        )
        return await MongoLog.open_read_only(uri, database)


@pytest.fixture(params=["embedded", pytest.param("cluster", marks=pytest.mark.services)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new one of each kind."""
    if request.param == "embedded":
        return Place(tmp_path / "data", ROUNDS)
    database = request.getfixturevalue("mongodb_database")
    found = {
        "MONGODB_URI": request.getfixturevalue("mongodb_uri"),
        "MONGODB_DATABASE": database,
        "KAFKA_BOOTSTRAP": request.getfixturevalue("kafka_bootstrap"),
        "REDIS_URL": request.getfixturevalue("redis_url"),
        "CLUSTER_ID": database,
        "NODE": "node-1",
    }
    return Place(
        tmp_path / "data",
        CLUSTER_ROUNDS,
        {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in found.items()},
    )


@contextlib.asynccontextmanager
async def running(place: Place) -> AsyncIterator[ServerProcess]:
    """A server process that does not outlive the test."""
    server = ServerProcess(place.data, environment=place.environment)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def populate(server: ServerProcess) -> list[Member]:
    """Four people, two groups of all and a pair."""
    async with RestClient(server.url) as rest:
        for user_id in USERS:
            await rest.create_user(user_id, PASSWORD)
        tokens = await rest.log_in("ann", PASSWORD, "d0")
        ann = rest.as_user(tokens.access_token)
        groups = [str((await ann.create_group("room", USERS[1:])).conversation_id) for _ in range(2)]
        pair = await ann.open_direct("bob")
    return [Member(user_id, groups + [pair] * (user_id in {"ann", "bob"})) for user_id in USERS]


async def one_round(server: ServerProcess, members: list[Member], chance: random.Random) -> None:
    """Everybody connects and sends; the server dies after some of the acknowledgements."""
    for member in members:
        await member.connect(server)
        member.write(chance, 120)
    enough = chance.randrange(40, 300)

    def acked() -> int:
        return sum(len(member.line.answered) for member in members)

    async def kill_in_time() -> None:
        for member in members:
            await member.line.until(
                lambda member=member: (  # type: ignore[misc]
                    member.line.close_code is not None
                    or len(member.line.answered) * len(members) >= enough
                    or acked() >= enough
                )
            )
        await server.kill()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill_in_time())
        for member in members:
            tasks.create_task(member.send())
    for member in members:
        await member.line.ended()
        member.note_acks()
        member.note_events()


async def finish(server: ServerProcess, members: list[Member]) -> None:
    """Everything is sent to its end, and everybody sees all of it."""
    for member in members:
        await member.connect(server)
    async with asyncio.TaskGroup() as tasks:
        for member in members:
            tasks.create_task(member.send())
    heads: dict[str, int] = {}
    for member in members:
        for sent in member.sent:
            assert sent.ack is not None
            heads[sent.conversation_id] = max(sent.ack[0], heads.get(sent.conversation_id, 0))
    for member in members:
        for name in set(member.conversations):
            await member.line.until(
                lambda member=member, name=name: (  # type: ignore[misc]
                    member.line.newest.get(name, (member.seen[name] or [0])[-1]) == heads[name]
                )
            )
        member.note_events()
        member.line.close()


async def recorded(place: Place) -> list[Recorded]:
    """Every event of the log, after its chains are found whole."""
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    log = await place.log()
    rows: list[Recorded] = []
    try:
        for shard in range(log.shard_count):
            assert [finding async for finding in verify_shard(log, shard)] == []
            position = 0
            while commits := await log.read_shard(shard, position, 500):
                for commit in commits:
                    rows += codec.decode(commit).events
                position = commits[-1].position
    finally:
        await log.close()
    return rows


async def carried(place: Place) -> str:
    """What `minutebook audit compare` says of the log and Kafka."""
    command = str(Path(sys.executable).with_name("minutebook"))
    process = await asyncio.create_subprocess_exec(
        *(command, "audit", "compare", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **place.environment},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()


async def test_what_was_acknowledged_survives_kill_9_exactly_once(place: Place) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with running(place) as server:
        members = await populate(server)
        for _ in range(place.rounds):
            await one_round(server, members, chance)
            await server.start()
        lost_answers = sum(sent.ack is None for member in members for sent in member.sent)
        await finish(server, members)
        assert await server.stop() == 0

    rows = await recorded(place)
    if place.environment:
        assert f'"positions":{len({(row.shard, row.position) for row in rows})}' in await carried(place)
    posted = [row for row in rows if isinstance(row.event, MessagePosted)]
    by_key = {(row.stream, row.event.actor, row.event.client_msg_id): row for row in posted}  # type: ignore[attr-defined]
    assert len(by_key) == len(posted) == sum(len(member.sent) for member in members), f"seed {seed}"
    for member in members:
        for sent in member.sent:
            row = by_key[sent.conversation_id, member.user_id, sent.client_msg_id]
            assert sent.ack == (row.seq, f"{row.shard}:{row.position}"), f"seed {seed}"
    assert lost_answers > 0, "no send was cut off: the test proves nothing"

    heads: dict[str, list[int]] = {}
    for row in rows:
        if row.seq is not None and kind_of(row.stream) is not None:
            heads.setdefault(row.stream, []).append(row.seq)
    for stream, seqs in heads.items():
        assert seqs == list(range(1, len(seqs) + 1)), f"{stream}, seed {seed}"
    for member in members:
        for name in set(member.conversations):
            assert member.seen[name] == heads[name], f"{member.user_id} in {name}, seed {seed}"
