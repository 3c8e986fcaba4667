"""What every adapter of the log port must do, to the letter. An adapter joins by a factory in `adapters`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from eventlog.memory import MemoryLog
from eventlog.mongo import MongoLog
from eventlog.port import (
    APPEND_COMMITS_MAX,
    READ_COMMITS_MAX,
    Log,
    LogUnavailableError,
    RefusalReason,
    ShardOutcome,
)
from eventlog.record import Head
from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import (
    LOG_ID,
    SHARD_COUNT,
    ShardMaker,
    append_one,
    key_of,
    whole_log,
    whole_shard,
)

Opener = Callable[[], Awaitable[Log]]


@pytest.fixture(
    params=["memory", "memory-ordered", "sqlite", pytest.param("mongodb", marks=pytest.mark.services)]
)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the log of the test; called again, it opens the same one (memory: there is only one)."""
    name: str = request.param
    memory = MemoryLog(LOG_ID, SHARD_COUNT, ordered=name == "memory-ordered")

    async def open_log() -> Log:
        if name == "sqlite":
            return await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT, log_id=LOG_ID)
        return memory

    async def open_mongo() -> Log:
        return await MongoLog.open(uri, database, SHARD_COUNT, log_id=LOG_ID)

    if name == "mongodb":
        uri: str = request.getfixturevalue("mongodb_uri")
        database: str = request.getfixturevalue("mongodb_database")
        return open_mongo

    return open_log


@pytest.fixture
async def log(opener: Opener) -> AsyncIterator[Log]:
    """An open log."""
    opened = await opener()
    yield opened
    await opened.close()


async def test_a_new_log_is_empty_and_knows_itself(log: Log) -> None:
    assert (log.log_id, log.shard_count) == (LOG_ID, SHARD_COUNT)
    assert await log.heads() == {}
    assert await log.read_shard(0, 0, 10) == []
    assert await log.read_stream(0, "notes", 0, 10) == []
    assert await log.read_stream_tail(0, "notes", 10) == []
    assert await log.find_keys([(0, key_of("a"))]) == {}
    assert await log.append({}) == {}


async def test_what_was_appended_reads_back_identical(log: Log) -> None:
    maker = ShardMaker(2)
    commits = [
        maker.make("notes", count=3),
        maker.make("other"),
        maker.make("notes", text="héllo \u2028 \x00"),
    ]
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await log.read_shard(2, 0, 10) == commits
    assert await log.heads() == {2: maker.head}
    assert maker.head.number == 5


async def test_one_flush_carries_several_shards(log: Log) -> None:
    makers = [ShardMaker(shard) for shard in (3, 0, SHARD_COUNT)]
    batches = {maker.shard: maker.batch(3) for maker in makers}
    outcomes = await log.append(batches)
    assert outcomes == {3: ShardOutcome(3), 0: ShardOutcome(3), SHARD_COUNT: ShardOutcome(3)}
    for shard, commits in batches.items():
        assert await log.read_shard(shard, 0, 10) == commits
    assert await log.heads() == {maker.shard: maker.head for maker in makers}


async def test_a_trial_write_leaves_nothing(opener: Opener) -> None:
    log = await opener()
    maker = ShardMaker(1)
    await append_one(log, *maker.batch(2))
    before = await whole_log(log)
    for _ in range(2):
        await log.probe()
    assert (await whole_log(log), await log.heads()) == (before, {1: maker.head})
    assert await append_one(log, maker.make()) == ShardOutcome(1)
    await log.close()
    with pytest.raises(LogUnavailableError):
        await log.probe()


async def test_an_empty_batch_is_an_outcome_of_zero(log: Log) -> None:
    assert await log.append({1: []}) == {1: ShardOutcome(0)}


@pytest.mark.parametrize("refused", range(5))
async def test_document_k_of_n_is_refused_by_its_position(log: Log, refused: int) -> None:
    first = ShardMaker(1)
    ours = first.batch(5)
    rival = ShardMaker(1)
    theirs = [*rival.batch(refused), rival.make("taken")]
    # The rival shares our first commits and then took the next position.
    assert [c.frame for c in theirs[:refused]] == [c.frame for c in ours[:refused]]
    await append_one(log, *theirs)

    outcome = await append_one(log, *ours)

    assert outcome.appended == refused
    assert outcome.refusal is not None
    assert outcome.refusal.index == refused
    assert outcome.refusal.reason is RefusalReason.POSITION
    assert outcome.refusal.present == theirs[refused]
    assert await whole_shard(log, 1) == theirs


@pytest.mark.parametrize("refused", range(5))
async def test_document_k_of_n_is_refused_by_its_key(log: Log, refused: int) -> None:
    maker = ShardMaker(1)
    first = maker.make("elsewhere", key=key_of("again"))
    await append_one(log, first)
    batch = [maker.make(key=key_of("again") if index == refused else None) for index in range(5)]

    outcome = await append_one(log, *batch)

    assert outcome.appended == refused
    assert outcome.refusal is not None
    assert (outcome.refusal.index, outcome.refusal.reason) == (refused, RefusalReason.KEY)
    assert outcome.refusal.present == first
    assert await whole_shard(log, 1) == [first, *batch[:refused]]


@pytest.mark.parametrize("refused", range(1, 5))
async def test_document_k_of_n_is_refused_by_its_stream(log: Log, refused: int) -> None:
    maker = ShardMaker(1)
    batch = [maker.make(first_version=1 if index == refused else index + 1) for index in range(5)]

    outcome = await append_one(log, *batch)

    assert outcome.appended == refused
    assert outcome.refusal is not None
    assert (outcome.refusal.index, outcome.refusal.reason) == (refused, RefusalReason.STREAM)
    assert outcome.refusal.present is None
    assert await whole_shard(log, 1) == batch[:refused]


async def test_position_speaks_before_key_and_key_before_stream(log: Log) -> None:
    maker = ShardMaker(1)
    first = maker.make(key=key_of("a"))
    await append_one(log, first)
    same_place = ShardMaker(1, epoch=2).make(key=key_of("a"))
    refusal = (await append_one(log, same_place)).refusal
    assert refusal is not None
    assert refusal.reason is RefusalReason.POSITION
    same_key_and_version = maker.make(key=key_of("a"), first_version=1)
    refusal = (await append_one(log, same_key_and_version)).refusal
    assert refusal is not None
    assert refusal.reason is RefusalReason.KEY


async def test_a_refused_position_can_be_taken_by_the_next_decision(log: Log) -> None:
    maker = ShardMaker(1)
    first = maker.make(key=key_of("a"))
    await append_one(log, first)
    before = maker.fork()
    refused = maker.make(key=key_of("a"))
    assert (await append_one(log, refused)).appended == 0
    decided_again = before.make(key=key_of("b"))
    assert await append_one(log, decided_again) == ShardOutcome(1)
    assert await whole_shard(log, 1) == [first, decided_again]


async def test_other_shards_behind_a_refused_document_are_written_or_not_tried(log: Log) -> None:
    maker = ShardMaker(1)
    taken = maker.make("taken")
    await append_one(log, taken)
    rival = ShardMaker(1).batch(2)
    before, behind = ShardMaker(0).batch(2), ShardMaker(2).batch(2)

    outcomes = await log.append({0: before, 1: rival, 2: behind})

    assert outcomes[0] == ShardOutcome(2)
    assert outcomes[1].appended == 0
    assert outcomes[1].refusal is not None
    assert outcomes[2] in (ShardOutcome(2), ShardOutcome(0))
    assert await whole_shard(log, 2) == behind[: outcomes[2].appended]
    # Sent again unchanged, they are there exactly once.
    assert await log.append({2: behind}) == {2: ShardOutcome(2)}
    assert await whole_shard(log, 2) == behind


@pytest.mark.parametrize("known", range(6))
async def test_identical_documents_may_be_sent_again(log: Log, known: int) -> None:
    """After an unknown outcome: nothing, a prefix or the whole flush had happened."""
    first, second = ShardMaker(0).batch(5), ShardMaker(3).batch(5)
    await log.append({0: first[:known], 3: second[: known // 2]})
    assert await log.append({0: first, 3: second}) == {0: ShardOutcome(5), 3: ShardOutcome(5)}
    assert await log.append({0: first, 3: second}) == {0: ShardOutcome(5), 3: ShardOutcome(5)}
    assert await whole_shard(log, 0) == first
    assert await whole_shard(log, 3) == second


async def test_a_known_prefix_before_a_refused_document(log: Log) -> None:
    maker = ShardMaker(0)
    ours = maker.batch(2)
    await append_one(log, *ours)
    duplicate = maker.make(key=ours[0].key)
    behind = maker.make()
    outcome = await append_one(log, *ours, duplicate, behind)
    assert outcome.appended == 2
    assert outcome.refusal is not None
    assert (outcome.refusal.index, outcome.refusal.reason) == (2, RefusalReason.KEY)
    assert await whole_shard(log, 0) == ours


async def test_a_stale_owner_meets_the_higher_epoch(log: Log) -> None:
    owner = ShardMaker(1, epoch=1)
    await append_one(log, owner.make())
    successor = owner.fork(epoch=2)
    opened = successor.make("shard-1")
    await append_one(log, opened)
    stale = owner.batch(3)
    outcome = await append_one(log, *stale)
    assert outcome.appended == 0
    assert outcome.refusal is not None
    assert outcome.refusal.present is not None
    assert outcome.refusal.present.epoch == 2
    assert (await log.heads())[1].epoch == 2


async def test_the_same_content_under_another_epoch_is_another_document(log: Log) -> None:
    commit = ShardMaker(1, epoch=1).make()
    await append_one(log, commit)
    other = ShardMaker(1, epoch=2).make(key=commit.key)
    outcome = await append_one(log, other)
    assert outcome.refusal is not None
    assert outcome.refusal.present == commit


async def test_versions_overlap_inside_a_commit_is_fenced_by_the_position(log: Log) -> None:
    maker = ShardMaker(1)
    stale = maker.fork()
    await append_one(log, maker.make(count=3))
    outcome = await append_one(log, stale.make(first_version=2))
    assert outcome.refusal is not None
    assert outcome.refusal.reason is RefusalReason.POSITION


async def test_keys_and_streams_are_unique_per_shard_only(log: Log) -> None:
    one, two = ShardMaker(0).make(key=key_of("k")), ShardMaker(1).make(key=key_of("k"))
    assert await log.append({0: [one], 1: [two]}) == {0: ShardOutcome(1), 1: ShardOutcome(1)}
    found = await log.find_keys([(0, key_of("k")), (1, key_of("k")), (2, key_of("k")), (0, key_of("x"))])
    assert found == {(0, key_of("k")): one, (1, key_of("k")): two}


async def test_pages_of_a_shard(log: Log) -> None:
    commits = ShardMaker(1).batch(7)
    await append_one(log, *commits)
    assert await log.read_shard(1, 0, 3) == commits[:3]
    assert await log.read_shard(1, 3, 3) == commits[3:6]
    assert await log.read_shard(1, 6, 3) == commits[6:]
    assert await log.read_shard(1, 7, 3) == []
    assert await log.read_shard(1, 99, 3) == []
    assert await log.read_shard(1, 0, 0) == []
    assert await whole_shard(log, 1, page=2) == commits
    assert await log.read_shard(0, 0, 3) == []
    assert await log.read_shard(2, 0, 3) == []


async def test_pages_of_a_stream_by_version(log: Log) -> None:
    maker = ShardMaker(1)
    commits = [maker.make("notes", count=count) for count in (1, 3, 2, 1)]
    others = [maker.make("notes2"), maker.make("note", count=9)]
    await append_one(log, *commits, *others)
    assert await log.read_stream(1, "notes", 0, 10) == commits
    assert await log.read_stream(1, "notes", 1, 10) == commits[1:]
    # Version 3 lies in the middle of the second commit: the commit is wanted for version 4.
    assert await log.read_stream(1, "notes", 3, 10) == commits[1:]
    assert await log.read_stream(1, "notes", 4, 10) == commits[2:]
    assert await log.read_stream(1, "notes", 6, 10) == commits[3:]
    assert await log.read_stream(1, "notes", 7, 10) == []
    assert await log.read_stream(1, "notes", 70, 10) == []
    assert await log.read_stream(1, "notes", 0, 2) == commits[:2]
    assert await log.read_stream(0, "notes", 0, 2) == []


async def test_the_tail_of_a_stream(log: Log) -> None:
    maker = ShardMaker(1)
    commits = [maker.make("notes", count=2) for _ in range(4)]
    await append_one(log, *commits, maker.make("other"))
    assert await log.read_stream_tail(1, "notes", 1) == commits[3:]
    assert await log.read_stream_tail(1, "notes", 3) == commits[1:]
    assert await log.read_stream_tail(1, "notes", 9) == commits
    assert await log.read_stream_tail(1, "notes", 0) == []


@pytest.mark.parametrize(
    "mistake", ["hole inside", "hole at the end", "other shard", "no such shard", "position 0", "too many"]
)
async def test_a_callers_bug_is_refused_before_anything_is_written(log: Log, mistake: str) -> None:
    maker = ShardMaker(1)
    commits = maker.batch(3)
    batches = {
        "hole inside": {0: ShardMaker(0).batch(1), 1: [commits[0], commits[2]]},
        "hole at the end": {0: ShardMaker(0).batch(1), 1: commits[1:]},
        "other shard": {0: commits},
        "no such shard": {SHARD_COUNT + 1: ShardMaker(SHARD_COUNT + 1).batch(1)},
        "position 0": {1: [ShardMaker(1, head=Head(position=-1)).make()]},
        "too many": {1: [commits[0]] * (APPEND_COMMITS_MAX + 1)},
    }[mistake]
    with pytest.raises(ValueError, match=r"."):
        await log.append(batches)
    assert await log.heads() == {}


async def test_a_closed_log_says_so(log: Log) -> None:
    await log.close()
    await log.close()
    with pytest.raises(LogUnavailableError):
        await log.append({1: ShardMaker(1).batch(1)})
    with pytest.raises(LogUnavailableError):
        await log.read_shard(0, 0, 1)


async def test_everything_is_there_after_a_restart(opener: Opener, tmp_path: Path) -> None:
    first = await opener()
    if isinstance(first, MemoryLog):
        assert await first.heads() == {}  # Memory has no restart; its content is its life.
        return
    makers = [ShardMaker(shard) for shard in range(3)]
    for _ in range(3):
        await first.append({maker.shard: maker.batch(4) for maker in makers})
    before = await whole_log(first)
    await first.close()
    second = await opener()
    assert await whole_log(second) == before
    assert await second.heads() == {maker.shard: maker.head for maker in makers}
    assert await append_one(second, makers[0].make()) == ShardOutcome(1)
    await second.close()


@pytest.mark.slow
async def test_a_stream_of_ten_thousand_events(log: Log) -> None:
    maker = ShardMaker(1)
    commits = [maker.make("long", count=2) for _ in range(READ_COMMITS_MAX)]
    commits += [maker.make("long") for _ in range(10)]
    for start in range(0, len(commits), 512):
        batch = commits[start : start + 512]
        assert await append_one(log, *batch) == ShardOutcome(len(batch))
    # One page never exceeds the bound, whatever is asked for.
    assert len(await log.read_stream(1, "long", 0, 10**9)) == READ_COMMITS_MAX
    assert len(await log.read_shard(1, 0, 10**9)) == READ_COMMITS_MAX
    assert await log.read_stream(1, "long", 10_000, 100) == commits[READ_COMMITS_MAX:]
    assert await log.read_stream(1, "long", 5_001, 1) == [commits[2_500]]
    assert await log.read_stream_tail(1, "long", 3) == commits[-3:]
    assert await whole_shard(log, 1) == commits
