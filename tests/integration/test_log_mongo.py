"""The MongoDB log beyond the contract: what it opens and refuses, and what goes over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from typing_extensions import override

from eventlog.mongo import MongoLog, MongoTimeouts
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_schema import document_id, renew_log_id
from eventlog.mongo_secrets import MongoSecrets
from eventlog.mongo_snapshots import MongoSnapshots
from eventlog.mongo_writes import COMMIT_BYTES_MAX, CommitTooLargeError
from eventlog.port import LogMismatchError, LogUnavailableError, ShardOutcome
from eventlog.secrets import SecretsUnavailableError
from tests.contract.log_samples import (
    LOG_ID,
    SHARD_COUNT,
    ShardMaker,
    append_one,
    key_of,
    whole_log,
    whole_shard,
)

pytestmark = pytest.mark.services

Place = tuple[str, str]
Bare = Database[dict[str, Any]]


@pytest.fixture
def place(mongodb_uri: str, mongodb_database: str) -> Place:
    """(URI, database)"""
    return mongodb_uri, mongodb_database


@pytest.fixture
def bare(place: Place) -> Iterator[Bare]:
    """The database itself."""
    with MongoClient[dict[str, Any]](place[0]) as client:
        yield client[place[1]]


@pytest.fixture
async def log(place: Place) -> AsyncIterator[MongoLog]:
    """A new log."""
    opened = await MongoLog.open(*place, SHARD_COUNT, cluster_id="ours", log_id=LOG_ID)
    yield opened
    await opened.close()


async def refusal(place: Place, shard_count: int | None = SHARD_COUNT, **options: Any) -> str:
    """What opening says."""
    with pytest.raises(LogMismatchError) as caught:
        await MongoLog.open(*place, shard_count, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is opened -----------------------------------------------------------------------------------


async def test_a_log_keeps_what_it_was_made_with(log: MongoLog, place: Place) -> None:
    again = await MongoLog.open(*place)
    assert (again.log_id, again.shard_count, again.cluster_id) == (LOG_ID, SHARD_COUNT, "ours")
    await again.close()
    assert "4 shards" in await refusal(place, 8)
    assert "belongs to the cluster ours" in await refusal(place, cluster_id="theirs")


async def test_of_many_that_make_a_log_at_once_one_does(place: Place) -> None:
    logs = await asyncio.gather(*[MongoLog.open(*place, SHARD_COUNT) for _ in range(6)])
    assert len({(log.log_id, log.cluster_id) for log in logs}) == 1
    for log in logs:
        await log.close()


async def test_nothing_is_made_where_nothing_was_asked_for(place: Place, bare: Bare) -> None:
    assert "holds no log" in await refusal(place, None)
    with pytest.raises(LogMismatchError, match="holds no log"):
        await MongoLog.open_read_only(*place)
    assert bare.list_collection_names() == []


async def test_who_only_reads_cannot_write(log: MongoLog, place: Place) -> None:
    await append_one(log, *ShardMaker(1).batch(3))
    reader = await MongoLog.open_read_only(*place)
    assert await whole_log(reader) == await whole_log(log)
    with pytest.raises(LogUnavailableError):
        await append_one(reader, *ShardMaker(2).batch(1))
    with pytest.raises(LogUnavailableError):
        await reader.probe()
    await reader.close()


Damage = Callable[[Bare], object]


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda db: db.commits.drop_index("commits_key"), "commits_key of commits is missing"),
        (lambda db: db.commits.create_index("at", name="by_time"), "not ours: by_time"),
        (
            lambda db: (
                db.commits.drop_index("commits_stream"),
                db.commits.create_index([("shard", 1), ("stream", 1)], name="commits_stream", unique=True),
            ),
            "commits_stream of commits differs",
        ),
        (
            lambda db: (
                db.commits.drop_index("commits_key"),
                db.commits.create_index(
                    [("shard", 1), ("key", 1)],
                    name="commits_key",
                    unique=True,
                    partialFilterExpression={"at": {"$gt": 5}},
                ),
            ),
            "commits_key of commits differs",
        ),
        (
            lambda db: db.log.update_one({"_id": "log"}, {"$set": {"schema_version": 2}}),
            "has schema version 2, this program knows 1",
        ),
        (lambda db: db.log.update_one({"_id": "log"}, {"$unset": {"shard_count": 1}}), "damaged"),
    ],
)
async def test_a_database_that_differs_is_refused(
    log: MongoLog, place: Place, bare: Bare, damage: Damage, words: str
) -> None:
    damage(bare)
    assert words in await refusal(place)


async def test_commits_of_nobody_knows_which_log_are_left_alone(place: Place, bare: Bare) -> None:
    bare.commits.insert_one({"_id": 1})
    assert "nothing says of which log" in await refusal(place)
    assert bare.list_collection_names() == ["commits"]


async def test_a_foreign_index_of_the_same_name_is_told(place: Place, bare: Bare) -> None:
    bare.commits.create_index("at", name="commits_key")
    assert "index of the same name" in await refusal(place)


async def test_a_wrong_password_is_told_and_not_repeated(place: Place) -> None:
    host = place[0].split("//")[1]
    words = await refusal((f"mongodb://somebody:hunter2@{host}", place[1]))
    assert words == "MongoDB refuses the user name or the password of the URI"
    with pytest.raises(SecretsUnavailableError, match="user name or the password"):
        await MongoSecrets.open(f"mongodb://somebody:hunter2@{host}", place[1])


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    timeouts = MongoTimeouts(select_ms=200)
    with pytest.raises(LogUnavailableError, match="no MongoDB primary can be reached"):
        await MongoLog.open("mongodb://127.0.0.1:1/?replicaSet=rs0", "nothing", 4, timeouts=timeouts)


async def test_a_restored_log_is_another_one(log: MongoLog, place: Place) -> None:
    driver = MongoDriver.connect(*place)
    assert (await renew_log_id(driver))[0] == LOG_ID
    await driver.close()
    restored = await MongoLog.open(*place)
    assert (restored.log_id != LOG_ID, restored.former_log_ids) == (True, (LOG_ID,))
    assert restored.cluster_id == "ours"
    await restored.close()
    # Whoever still has the old one open notices before the first write.
    with pytest.raises(LogUnavailableError, match="start again"):
        await append_one(log, *ShardMaker(1).batch(1))


# --- what is written ----------------------------------------------------------------------------------


async def test_a_commit_that_no_document_can_hold_is_refused_before_anything_is_written(
    log: MongoLog,
) -> None:
    small, maker = ShardMaker(0).make(), ShardMaker(1)
    with pytest.raises(CommitTooLargeError):
        await log.append({0: [small], 1: [maker.make(text="x" * COMMIT_BYTES_MAX)]})
    assert await log.heads() == {}


@pytest.mark.slow
async def test_a_flush_larger_than_a_command_takes_several(log: MongoLog) -> None:
    maker = ShardMaker(1)
    commits = [maker.make(text="x" * (6 * 1024 * 1024)) for _ in range(4)]
    assert await append_one(log, *commits) == ShardOutcome(4)
    assert await append_one(log, *commits, maker.make()) == ShardOutcome(5)
    assert [c.frame for c in (await whole_shard(log, 1))[:4]] == [c.frame for c in commits]


async def test_keys_are_found_by_the_thousand(log: MongoLog) -> None:
    makers = [ShardMaker(shard) for shard in range(3)]
    batches = {maker.shard: maker.batch(800) for maker in makers}
    await log.append(batches)
    keys = [(shard, commit.key) for shard, batch in batches.items() for commit in batch]
    found = await log.find_keys([*keys, (3, key_of("absent"))])
    assert found.keys() == set(keys)


async def test_a_database_that_lost_what_it_had_acknowledged_takes_nothing_more(
    log: MongoLog, place: Place, bare: Bare
) -> None:
    maker = ShardMaker(1)
    await append_one(log, *maker.batch(3))
    bare.commits.delete_one({"_id": document_id(1, 3)})
    # As a server that comes back with an older state: every connection is a new one.
    assert log._writer is not None
    log._writer._trusted_connections -= 1
    with pytest.raises(LogUnavailableError, match="has lost commits"):
        await append_one(log, maker.make())
    # Who was told of position 3 by somebody else has a hole before him.
    other = await MongoLog.open(*place)
    with pytest.raises(ValueError, match="would leave a hole"):
        await append_one(other, maker.fork().make())
    await other.close()
    assert bare.commits.count_documents({}) == 2


# --- what goes over the wire --------------------------------------------------------------------------


class Wire(CommandListener):
    """Remembers every command that was sent."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    @override
    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(dict(event.command))

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Of no interest."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Of no interest."""

    def named(self, *names: str) -> list[dict[str, Any]]:
        """The commands of these names."""
        return [command for command in self.commands if next(iter(command)) in names]


async def test_every_write_asks_for_majority_and_journal_and_every_read_for_majority(place: Place) -> None:
    wire = Wire()
    timeouts = MongoTimeouts(write_ms=7_000, read_ms=6_000)
    log = await MongoLog.open(*place, SHARD_COUNT, timeouts=timeouts, listeners=[wire])
    secrets = await MongoSecrets.open(*place, timeouts=timeouts, listeners=[wire])
    snapshots = await MongoSnapshots.open(*place, log, timeouts=timeouts, listeners=[wire])
    makers = [ShardMaker(0), ShardMaker(1)]
    batches = {maker.shard: maker.batch(3, "g_one") for maker in makers}
    await log.append(batches)
    await log.append(batches)
    rival = ShardMaker(1, epoch=2).make("other")
    assert (await append_one(log, rival)).refusal is not None
    await log.read_shard(0, 0, 5)
    await log.read_stream(0, "g_one", 1, 5)
    await log.read_stream_tail(0, "g_one", 5)
    await log.find_keys([(0, key_of("a"))])
    await log.heads()
    await log.probe()
    await secrets.put("password", "u_1", "main", b"one")
    await secrets.compare_and_swap("password", "u_1", "main", b"one", None)
    await snapshots.save("g_one", 1, 1, 1, {"head": b"x"})
    await snapshots.load("g_one")
    for store in (log, secrets, snapshots):
        await store.close()

    writes = wire.named("insert", "update", "delete", "findAndModify", "createIndexes")
    assert {next(iter(command)) for command in writes} == {"insert", "update", "delete", "createIndexes"}
    for command in writes:
        assert command["writeConcern"] == {"w": "majority", "j": True, "wtimeout": 7_000}, command
        assert "txnNumber" not in command
    inserts = wire.named("insert")
    assert [len(command["documents"]) for command in inserts] == [6, 6, 1]
    assert all(command["ordered"] is True for command in inserts)
    # The heads of all shards are one command.
    assert len(wire.named("aggregate")) == 1
    reads = wire.named("find", "aggregate")
    assert len(reads) > 10
    for command in reads:
        assert command["readConcern"]["level"] == "majority"
        assert command["maxTimeMS"] == 6_000
    # A flush costs one command once its writer knows the shard.
    assert wire.named("getMore", "startTransaction") == []


async def test_every_read_shows_what_was_answered_before_it(place: Place) -> None:
    """Also on a primary that was just elected, whose majority reads lie behind otherwise."""
    wire = Wire()
    log = await MongoLog.open(*place, SHARD_COUNT, listeners=[wire])
    secrets = await MongoSecrets.open(*place, listeners=[wire])
    wire.commands.clear()
    await log.heads()
    await log.find_keys([(0, key_of("a"))])
    await secrets.get("password", "u_1", "main")
    before = wire.named("find", "aggregate")[0]["readConcern"]["afterClusterTime"]
    assert all(
        command["readConcern"]["afterClusterTime"] >= before for command in wire.named("find", "aggregate")
    )
    await append_one(log, *ShardMaker(1).batch(1))
    await log.heads()
    assert wire.named("find", "aggregate")[-1]["readConcern"]["afterClusterTime"] > before
    await log.close()
    await secrets.close()


async def test_a_flush_of_a_known_shard_is_one_command(place: Place) -> None:
    wire = Wire()
    log = await MongoLog.open(*place, SHARD_COUNT, listeners=[wire])
    maker = ShardMaker(1)
    await append_one(log, *maker.batch(2))
    wire.commands.clear()
    await append_one(log, *maker.batch(2))
    await append_one(log, *maker.batch(2))
    assert [next(iter(command)) for command in wire.commands] == ["insert", "insert"]
    await log.close()


async def test_pymongos_own_client_takes_the_place_of_motor(place: Place) -> None:
    log = await MongoLog.open(*place, SHARD_COUNT, client_class=AsyncMongoClient)
    maker = ShardMaker(1)
    commits = maker.batch(5)
    assert await append_one(log, *commits) == ShardOutcome(5)
    assert await append_one(log, *commits) == ShardOutcome(5)
    rival = ShardMaker(1, epoch=2).make("other")
    assert (await append_one(log, rival)).refusal is not None
    assert await whole_shard(log, 1) == commits
    assert await log.heads() == {1: maker.head}
    await log.close()
    with pytest.raises(LogUnavailableError):
        await log.heads()


async def test_closing_waits_for_what_is_in_flight(log: MongoLog, place: Place) -> None:
    commits = ShardMaker(1).batch(200)
    async with asyncio.TaskGroup() as tasks:
        appending = tasks.create_task(append_one(log, *commits))
        await asyncio.sleep(0)
        tasks.create_task(log.close())
    assert appending.result() == ShardOutcome(200)


async def test_secrets_are_there_for_another_process(place: Place) -> None:
    one, two = await MongoSecrets.open(*place), await MongoSecrets.open(*place)
    await one.put("password", "u_1", "main", b"kept")
    await one.close()
    await one.close()
    with pytest.raises(SecretsUnavailableError):
        await one.get("password", "u_1", "main")
    assert await two.get("password", "u_1", "main") == b"kept"
    assert await two.compare_and_swap("password", "u_1", "main", b"kept", b"new")
    await two.close()
