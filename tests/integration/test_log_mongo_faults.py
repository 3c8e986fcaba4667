"""Whatever MongoDB and the wire to it do, the log never says `appended` or `refused` where that is not so."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from docker.local.mongodb import MongoReplicaSet
from eventlog.integrity import FindingKind, verify_shard
from eventlog.mongo import MongoLog, MongoTimeouts
from eventlog.mongo_secrets import MongoSecrets
from eventlog.port import (
    LogMismatchError,
    LogUnavailableError,
    OutcomeUnknownError,
    RefusalReason,
    ShardOutcome,
)
from eventlog.record import Commit
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
from tests.integration.mongo_faults import CutWire, failing

pytestmark = [pytest.mark.services, pytest.mark.slow]

TIMEOUTS = MongoTimeouts(select_ms=3_000, write_ms=300, socket_ms=1_000, read_ms=900)
ROUNDS = 60
CUTS = 5
RESENDS_MAX = 20
WRITE_CONCERN_FAILED = {
    "code": 64,
    "errmsg": "waiting for replication timed out",
    "errInfo": {"wtimeout": True},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoReplicaSet]:
    """A MongoDB of our own, with fail points."""
    options = ("--setParameter", "enableTestCommands=1")
    with MongoReplicaSet(tmp_path_factory.mktemp("mongo"), options=options) as started:
        yield started


@pytest.fixture
def uri(server: MongoReplicaSet) -> str:
    """Of the server, whose databases are gone."""
    with MongoClient[dict[str, Any]](server.uri) as client:
        client.drop_database("faults")
    return server.uri


@pytest.fixture
async def log(uri: str) -> AsyncIterator[MongoLog]:
    """A new log."""
    opened = await MongoLog.open(uri, "faults", SHARD_COUNT, log_id=LOG_ID, timeouts=TIMEOUTS)
    yield opened
    await opened.close()


def concern_fails(uri: str) -> AbstractContextManager[None]:
    """The next insert is done, and its reply carries a writeConcernError."""
    return failing(uri, failCommands=["insert"], writeConcernError=WRITE_CONCERN_FAILED)


async def test_a_write_concern_error_is_no_acknowledgement(log: MongoLog, uri: str) -> None:
    commits = ShardMaker(1).batch(3)
    with concern_fails(uri), pytest.raises(OutcomeUnknownError, match="write concern"):
        await append_one(log, *commits)
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await whole_shard(log, 1) == commits


async def test_a_write_concern_error_beside_a_taken_position_is_no_refusal(log: MongoLog, uri: str) -> None:
    rival = ShardMaker(1, epoch=2).make("taken")
    await append_one(log, rival)
    ours = ShardMaker(1).batch(2)
    with concern_fails(uri), pytest.raises(OutcomeUnknownError, match="write concern"):
        await append_one(log, *ours)
    outcome = await append_one(log, *ours)
    assert outcome.refusal is not None
    assert (outcome.refusal.reason, outcome.refusal.present) == (RefusalReason.POSITION, rival)


async def test_a_write_concern_error_beside_our_own_document_is_no_acknowledgement(
    log: MongoLog, uri: str
) -> None:
    ours = ShardMaker(1).batch(2)
    await append_one(log, *ours)
    with concern_fails(uri), pytest.raises(OutcomeUnknownError, match="write concern"):
        await append_one(log, *ours)
    assert await append_one(log, *ours) == ShardOutcome(2)


@pytest.mark.parametrize("reason", [RefusalReason.KEY, RefusalReason.STREAM])
async def test_a_write_concern_error_beside_any_other_duplicate_key_is_no_refusal(
    log: MongoLog, uri: str, reason: RefusalReason
) -> None:
    maker = ShardMaker(1)
    await append_one(log, maker.make(key=key_of("a")))
    again = maker.make(key=key_of("a")) if reason is RefusalReason.KEY else maker.make(first_version=1)
    with concern_fails(uri), pytest.raises(OutcomeUnknownError):
        await append_one(log, again)
    outcome = await append_one(log, again)
    assert outcome.refusal is not None
    assert outcome.refusal.reason is reason


@pytest.mark.parametrize(
    "code",
    [
        10107,  # NotWritablePrimary
        13435,  # NotPrimaryNoSecondaryOk
        189,  # PrimarySteppedDown
        11602,  # InterruptedDueToReplStateChange
        11600,  # InterruptedAtShutdown
        91,  # ShutdownInProgress
        50,  # MaxTimeMSExpired
        112,  # WriteConflict
    ],
)
async def test_a_primary_that_ceases_to_be_one_leaves_the_outcome_unknown(
    log: MongoLog, uri: str, code: int
) -> None:
    commits = ShardMaker(1).batch(3)
    with failing(uri, failCommands=["insert"], errorCode=code), pytest.raises(OutcomeUnknownError):
        await append_one(log, *commits)
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await whole_shard(log, 1) == commits


async def test_a_connection_that_closes_leaves_the_outcome_unknown(log: MongoLog, uri: str) -> None:
    commits = ShardMaker(1).batch(3)
    with failing(uri, failCommands=["insert"], closeConnection=True), pytest.raises(OutcomeUnknownError):
        await append_one(log, *commits)
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await whole_shard(log, 1) == commits


async def test_a_right_that_was_taken_away_is_a_sure_no(log: MongoLog, uri: str) -> None:
    commits = ShardMaker(1).batch(3)
    with failing(uri, failCommands=["insert"], errorCode=13), pytest.raises(LogUnavailableError):
        await append_one(log, *commits)
    assert await log.heads() == {}


async def test_a_write_that_arrives_late_meets_its_own_repetition(log: MongoLog, uri: str) -> None:
    """The server holds the first try back until the client has given it up."""
    maker = ShardMaker(1)
    commits = maker.batch(3)
    blocked: dict[str, Any] = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 1_500}
    with failing(uri, **blocked), pytest.raises(OutcomeUnknownError):
        await append_one(log, *commits)
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await append_one(log, maker.make()) == ShardOutcome(1)
    assert (await whole_shard(log, 1))[:3] == commits
    assert (await log.heads()).keys() == {1}


async def test_an_acknowledgement_cut_off_after_the_commit(server: MongoReplicaSet, uri: str) -> None:
    async with CutWire(server.nodes[0].host, server.nodes[0].port) as wire:
        log = await MongoLog.open(wire.uri, "faults", SHARD_COUNT, log_id=LOG_ID, timeouts=TIMEOUTS)
        maker = ShardMaker(1)
        acked: list[Commit] = []
        for _ in range(CUTS):
            commits = maker.batch(3)
            wire.cut_replies = 1
            with pytest.raises(OutcomeUnknownError):
                await append_one(log, *commits)
            with MongoClient[dict[str, Any]](uri) as client:
                assert client["faults"].commits.count_documents({}) == len(acked) + 3
            assert await append_one(log, *commits) == ShardOutcome(3)
            acked += commits
        assert wire.cuts == CUTS
        assert await whole_shard(log, 1) == acked
        await log.close()


async def test_an_acknowledgement_cut_off_before_a_rival_took_over(server: MongoReplicaSet, uri: str) -> None:
    """What was written stands, and the rest is refused by the higher epoch: nothing of it is guessed."""
    async with CutWire(server.nodes[0].host, server.nodes[0].port) as wire:
        ours = await MongoLog.open(wire.uri, "faults", SHARD_COUNT, log_id=LOG_ID, timeouts=TIMEOUTS)
        theirs = await MongoLog.open(uri, "faults", SHARD_COUNT)
        maker = ShardMaker(1, epoch=1)
        first = maker.batch(2)
        wire.cut_replies = 1
        with pytest.raises(OutcomeUnknownError):
            await append_one(ours, *first)
        successor = maker.fork(epoch=2)
        opened = successor.make("shard-1")
        assert await append_one(theirs, opened) == ShardOutcome(1)
        outcome = await append_one(ours, *first, maker.make())
        assert outcome.appended == 2
        assert outcome.refusal is not None
        assert outcome.refusal.present == opened
        await ours.close()
        await theirs.close()


@pytest.mark.parametrize("fault", [{"errorCode": 10107}, {"closeConnection": True}])
async def test_a_refusal_that_cannot_be_looked_at_is_unknown(
    log: MongoLog, uri: str, fault: dict[str, Any]
) -> None:
    maker = ShardMaker(1)
    await append_one(log, maker.make())
    rival = ShardMaker(1, epoch=2).make("rival")
    with failing(uri, failCommands=["find"], **fault), pytest.raises(OutcomeUnknownError):
        await append_one(log, rival)
    assert (await append_one(log, rival)).refusal is not None


async def test_what_no_majority_has_is_no_evidence(log: MongoLog, uri: str) -> None:
    """A rival's document stands, but its server has not yet confirmed that a majority has it."""
    rival = ShardMaker(1, epoch=2).make("rival")
    ours = ShardMaker(1).batch(2)
    await append_one(log, *ShardMaker(0).batch(1))
    hidden = await MongoLog.open(uri, "faults", timeouts=TIMEOUTS)
    with failing(uri, "disableSnapshotting", "alwaysOn"):
        with pytest.raises(OutcomeUnknownError):
            await append_one(hidden, rival)
        with pytest.raises(OutcomeUnknownError):
            await append_one(log, *ours)
        assert await log.read_shard(1, 0, 10) == []
    await log.probe()
    outcome = await append_one(log, *ours)
    assert outcome.refusal is not None
    assert outcome.refusal.present == rival
    assert await append_one(hidden, rival) == ShardOutcome(1)
    await hidden.close()


async def test_a_server_that_is_away_comes_back(server: MongoReplicaSet, uri: str) -> None:
    impatient = MongoTimeouts(select_ms=1_000)
    log = await MongoLog.open(uri, "faults", SHARD_COUNT, log_id=LOG_ID, timeouts=impatient)
    maker = ShardMaker(1)
    await append_one(log, *maker.batch(2))
    commits = maker.batch(2)
    server.kill()
    with pytest.raises((OutcomeUnknownError, LogUnavailableError)):
        await append_one(log, *commits)
    # Now the driver knows that nobody is there, so nothing was sent.
    with pytest.raises(LogUnavailableError, match="no MongoDB primary can be reached"):
        await append_one(log, *commits)
    with pytest.raises(LogUnavailableError):
        await log.heads()
    server.start()
    assert (await _surely(log, {1: commits}))[0] == {1: ShardOutcome(2)}
    assert (await whole_shard(log, 1))[2:] == commits
    await log.close()


async def test_a_mongod_outside_a_replica_set_is_refused(tmp_path: Path) -> None:
    with MongoReplicaSet(tmp_path, replica_set=None) as alone:
        with pytest.raises(LogMismatchError, match="stands alone"):
            await MongoLog.open(alone.uri, "faults", SHARD_COUNT)
        with MongoClient[dict[str, Any]](alone.uri) as client:
            assert "faults" not in client.list_database_names()


async def test_secrets_say_when_nobody_knows(uri: str) -> None:
    store = await MongoSecrets.open(uri, "faults", timeouts=TIMEOUTS)
    place = ("password", "u_1", "main")
    concern: dict[str, Any] = {"failCommands": ["update"], "writeConcernError": WRITE_CONCERN_FAILED}
    with failing(uri, **concern), pytest.raises(SecretsUnavailableError):
        await store.put(*place, b"one")
    await store.put(*place, b"one")
    assert await store.get(*place) == b"one"
    with failing(uri, **concern), pytest.raises(SecretsUnavailableError):
        await store.compare_and_swap(*place, b"one", b"two")
    # It happened, so it does not happen again; that answer waits for a majority, too.
    assert not await store.compare_and_swap(*place, b"one", b"three")
    assert await store.get(*place) == b"two"
    with failing(uri, failCommands=["find"], closeConnection=True), pytest.raises(SecretsUnavailableError):
        await store.get(*place)
    await store.close()


def any_fault(uri: str, chance: random.Random) -> AbstractContextManager[None]:
    """Something that may go wrong with one flush."""
    faults: list[dict[str, Any]] = [
        {"writeConcernError": WRITE_CONCERN_FAILED},
        {"errorCode": chance.choice([10107, 189, 11602, 91])},
        {"closeConnection": True},
    ]
    if chance.random() < 0.3:
        return nullcontext()
    return failing(uri, failCommands=[chance.choice(["insert", "insert", "find"])], **chance.choice(faults))


async def test_faults_at_random_never_make_the_log_lie(server: MongoReplicaSet, uri: str) -> None:
    """Two owners, of whom one is stale at times; everything that was acknowledged is there once, everything refused is not."""
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    async with CutWire(server.nodes[0].host, server.nodes[0].port) as wire:
        log = await MongoLog.open(wire.uri, "faults", SHARD_COUNT, log_id=LOG_ID, timeouts=TIMEOUTS)
        makers = {shard: ShardMaker(shard) for shard in range(3)}
        acked: dict[int, list[Commit]] = {shard: [] for shard in makers}
        unknown = refused = 0
        for _ in range(ROUNDS):
            batches = {
                shard: [
                    makers[shard].make(f"g_{chance.randrange(9)}", key=key_of(str(chance.random())))
                    for _ in range(chance.randint(1, 4))
                ]
                for shard in chance.sample(sorted(makers), chance.randint(1, 3))
            }
            if chance.random() < 0.2:
                shard = next(iter(batches))
                rival = ShardMaker(shard, epoch=makers[shard].epoch + 1, head=_head(acked[shard]))
                rival.versions = dict(_go_on(shard, acked[shard]).versions)
                takeover = rival.make("takeover")
                assert await append_one(log, takeover) == ShardOutcome(1)
                acked[shard].append(takeover)
            if chance.random() < 0.2:
                wire.cut_replies = 1
            with any_fault(uri, chance):
                outcomes, tries = await _surely(log, batches)
            wire.cut_replies = 0
            unknown += tries - 1
            for shard, outcome in outcomes.items():
                acked[shard] += batches[shard][: outcome.appended]
                refused += outcome.refusal is not None
                makers[shard] = _go_on(shard, acked[shard])
            assert {shard: found for shard, found in (await whole_log(log)).items() if found} == {
                shard: commits for shard, commits in acked.items() if commits
            }
        await log.close()
    reader = await MongoLog.open_read_only(uri, "faults")
    for shard in makers:
        faults = [f async for f in verify_shard(reader, shard, log_ids={LOG_ID})]
        assert [f for f in faults if f.kind is not FindingKind.MISPLACED] == []
    await reader.close()
    assert unknown > ROUNDS // 10
    assert refused > ROUNDS // 20


async def _surely(log: MongoLog, batches: dict[int, list[Commit]]) -> tuple[Any, int]:
    """As an owner does: the identical documents again until the outcome is known; (outcomes, tries)."""
    for tries in range(1, RESENDS_MAX):
        try:
            return await log.append(batches), tries
        except (OutcomeUnknownError, LogUnavailableError):
            continue
    raise AssertionError("the outcome stays unknown")


def _head(commits: list[Commit]) -> Any:
    return commits[-1].head if commits else None


def _go_on(shard: int, acked: list[Commit]) -> ShardMaker:
    """A maker that knows what stands."""
    maker = ShardMaker(shard, epoch=acked[-1].epoch if acked else 1, head=_head(acked))
    for commit in acked:
        maker.versions[commit.stream] = commit.first_version + commit.events_count - 1
    return maker
