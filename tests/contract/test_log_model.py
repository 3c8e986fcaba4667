"""Interleaved writers against a simple model: whatever they do, the log is the model and verifies."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo import MongoClient
from typing_extensions import override

from domain.streams import shard_of
from eventlog.integrity import FindingKind, verify_shard
from eventlog.memory import MemoryLog
from eventlog.mongo import MongoLog
from eventlog.port import Log, RefusalReason, ShardOutcome
from eventlog.record import Commit
from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, key_of, whole_shard

T = TypeVar("T")

SHARDS = (0, 1)
STREAMS = {
    shard: [name for name in (f"g_{n}" for n in range(60)) if shard_of(name, SHARD_COUNT) == shard][:3]
    for shard in SHARDS
}
WRITERS = 3
RIVALRY = {
    FindingKind.CHANGED,
    FindingKind.VERSION,
    FindingKind.NUMBER,
    FindingKind.EPOCH,
    FindingKind.TIME,
}
PHASES = (Phase.generate,)


class Model:
    """What the log must be: one list per shard, looked through from start to end."""

    def __init__(self) -> None:
        self.shards: dict[int, list[Commit]] = {shard: [] for shard in SHARDS}

    def reason(self, commit: Commit) -> RefusalReason | None:
        """Why a commit cannot be appended; None if it can, or is there already."""
        present = self.shards[commit.shard]
        if commit.position <= len(present):
            same = present[commit.position - 1] == commit
            return None if same else RefusalReason.POSITION
        if any(other.key == commit.key for other in present):
            return RefusalReason.KEY
        place = (commit.stream, commit.first_version)
        if any((other.stream, other.first_version) == place for other in present):
            return RefusalReason.STREAM
        return None

    def append(self, commits: list[Commit]) -> tuple[int, RefusalReason | None]:
        """(appended, reason of the refusal)"""
        for index, commit in enumerate(commits):
            reason = self.reason(commit)
            if reason is not None:
                return index, reason
            if commit.position > len(self.shards[commit.shard]):
                self.shards[commit.shard].append(commit)
        return len(commits), None


class LogMachine(RuleBasedStateMachine):
    """Several writers with views of their own, fresh or stale, send batches, send them again, and restart the
    log.
    """

    adapter = "memory"
    ordered = False
    """Whether a refused document keeps those of other shards behind it from being tried."""

    @initialize()
    def start(self) -> None:
        """An empty log."""
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.log = self.run(self.opened())
        self.model = Model()
        self.makers = {
            (writer, shard): ShardMaker(shard, epoch=writer + 1)
            for writer in range(WRITERS)
            for shard in SHARDS
        }
        self.last_flush: dict[int, list[Commit]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the machine's own loop."""
        return self.runner.run(work)

    async def opened(self) -> Log:
        """The adapter under test."""
        if self.adapter == "memory":
            return MemoryLog(LOG_ID, SHARD_COUNT, ordered=False)
        return await SqliteLog.open(Path(self.folder.name) / "log.db", SHARD_COUNT, log_id=LOG_ID)

    writers = st.integers(0, WRITERS - 1)
    plans = st.lists(
        st.tuples(
            st.integers(0, 2),  # which stream
            st.integers(1, 3),  # how many events
            st.integers(0, 12),  # key: few, so that they collide; 0 is a fresh one
            st.booleans(),  # a version that was taken
        ),
        max_size=5,
    )

    @rule(writer=writers, zero=plans, one=plans)
    def flush(self, writer: int, zero: list[Any], one: list[Any]) -> None:
        """A writer sends what it decided on its own view of both shards."""
        batches = {shard: self.decided(writer, shard, plan) for shard, plan in ((0, zero), (1, one))}
        self.send({shard: batch for shard, batch in batches.items() if self.fits(shard, batch)})
        for shard in SHARDS:
            self.refresh_view(writer, shard)

    @rule(writer=writers, shard=st.sampled_from(SHARDS), plan=plans)
    def stale_flush(self, writer: int, shard: int, plan: list[Any]) -> None:
        """A writer sends without looking afterwards: the next time it is stale, or has a hole and holds back."""
        batch = self.decided(writer, shard, plan)
        if self.fits(shard, batch):
            self.send({shard: batch})

    @rule(writer=writers, shard=st.sampled_from(SHARDS))
    def refresh_view(self, writer: int, shard: int) -> None:
        """A writer reads the head."""
        maker = self.makers[writer, shard]
        present = self.model.shards[shard]
        fresh = ShardMaker(shard, epoch=maker.epoch, head=present[-1].head if present else None)
        for commit in present:
            fresh.versions[commit.stream] = commit.first_version + commit.events_count - 1
        self.makers[writer, shard] = fresh

    @precondition(lambda self: bool(self.last_flush))
    @rule()
    def send_again(self) -> None:
        """The last flush again, as after an unknown outcome."""
        self.send(self.last_flush)

    @rule()
    def restart(self) -> None:
        """Close the log and open it again."""
        if self.adapter != "memory":
            self.run(self.log.close())
            self.log = self.run(self.opened())

    @rule(
        shard=st.sampled_from(SHARDS),
        stream=st.integers(0, 2),
        after=st.integers(0, 9),
        limit=st.integers(0, 4),
    )
    def read(self, shard: int, stream: int, after: int, limit: int) -> None:
        """Pages are slices of the model."""
        present = self.model.shards[shard]
        name = STREAMS[shard][stream]
        mine = sorted((c for c in present if c.stream == name), key=lambda c: c.first_version)
        beyond = [c for c in mine if c.first_version + c.events_count - 1 > after]
        assert self.run(self.read_page(shard, after, limit)) == present[after : after + limit]
        lasts = [c.first_version + c.events_count - 1 for c in mine]
        if all(commit.first_version > last for commit, last in zip(mine[1:], lasts, strict=False)):
            # Rivals can make versions overlap; what a read of such a stream returns is not promised.
            assert list(self.run(self.log_call("read_stream", shard, name, after, limit))) == beyond[:limit]
        assert list(self.run(self.log_call("read_stream_tail", shard, name, limit))) == (
            mine[-limit:] if limit else []
        )

    async def read_page(self, shard: int, after: int, limit: int) -> list[Commit]:
        """One page of a shard."""
        return list(await self.log.read_shard(shard, after, limit))

    async def log_call(self, name: str, *arguments: Any) -> Any:
        """Any method of the log."""
        return await getattr(self.log, name)(*arguments)

    @invariant()
    def log_is_model(self) -> None:
        """Heads and keys agree after every step."""
        heads = {shard: present[-1].head for shard, present in self.model.shards.items() if present}
        assert self.run(self.log_call("heads")) == heads
        keys = [(shard, key_of(n)) for shard in SHARDS for n in range(1, 13)]
        expected = {(c.shard, c.key): c for present in self.model.shards.values() for c in present}
        found = self.run(self.log_call("find_keys", keys))
        assert found == {place: expected[place] for place in keys if place in expected}

    @override
    def teardown(self) -> None:
        """The whole log equals the model; its positions are dense and every copy says what its frame says."""
        try:
            for shard in SHARDS:
                assert self.run(whole_shard(self.log, shard)) == self.model.shards[shard]
                assert self.run(self.faults(shard)) == set()
        finally:
            self.run(self.log.close())
            self.folder.cleanup()
            self.runner.close()

    async def faults(self, shard: int) -> set[FindingKind]:
        """What verification finds, besides what a writer that is no owner can do by writing at the right
        position by luck.
        """
        found = {finding.kind async for finding in verify_shard(self.log, shard, log_ids={LOG_ID})}
        return found - RIVALRY

    def decided(self, writer: int, shard: int, plan: list[Any]) -> list[Commit]:
        """Commits by a writer's view of a shard."""
        maker = self.makers[writer, shard]
        commits = []
        for stream, count, key, is_taken in plan:
            commits.append(
                maker.make(
                    STREAMS[shard][stream],
                    count=count,
                    key=key_of(key) if key else None,
                    first_version=1 if is_taken else None,
                )
            )
        return commits

    def fits(self, shard: int, batch: list[Commit]) -> bool:
        """Whether it leaves no hole: a writer's bug that the port answers with ValueError."""
        return not batch or batch[0].position <= len(self.model.shards[shard]) + 1

    def send(self, batches: dict[int, list[Commit]]) -> None:
        """Append to log and model; the outcomes must agree."""
        self.last_flush = batches
        outcomes: dict[int, ShardOutcome] = self.run(self.log_call("append", batches))
        assert set(outcomes) == set(batches)
        stopped = False
        for shard, commits in batches.items():
            outcome = outcomes[shard]
            if stopped:
                assert outcome == ShardOutcome(0)
                continue
            appended, reason = self.model.append(commits)
            stopped = self.ordered and reason is not None
            assert outcome.appended == appended
            if reason is None:
                assert outcome.refusal is None
                continue
            assert outcome.refusal is not None
            assert (outcome.refusal.index, outcome.refusal.reason) == (appended, reason)
            self.check_present(commits[appended], outcome)

    def check_present(self, refused: Commit, outcome: ShardOutcome) -> None:
        """The refusal shows what stands there."""
        assert outcome.refusal is not None
        present = self.model.shards[refused.shard]
        if outcome.refusal.reason is RefusalReason.POSITION:
            assert outcome.refusal.present == present[refused.position - 1]
        if outcome.refusal.reason is RefusalReason.KEY:
            assert outcome.refusal.present == next(c for c in present if c.key == refused.key)


class SqliteLogMachine(LogMachine):
    """The same on a file."""

    adapter = "sqlite"


@pytest.mark.slow
@pytest.mark.parametrize("machine", [LogMachine, SqliteLogMachine])
def test_interleaved_writers_and_the_model_agree(machine: type[LogMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.services
def test_interleaved_writers_and_the_model_agree_on_mongodb(mongodb_uri: str, mongodb_database: str) -> None:
    class MongoLogMachine(LogMachine):
        """The same on a server; each example in a database of its own."""

        adapter = "mongodb"
        ordered = True
        examples = itertools.count()

        def __init__(self) -> None:
            self.database = f"{mongodb_database}_{next(self.examples)}"
            super().__init__()

        @override
        async def opened(self) -> Log:
            return await MongoLog.open(mongodb_uri, self.database, SHARD_COUNT, log_id=LOG_ID)

        @override
        def teardown(self) -> None:
            super().teardown()
            with MongoClient[dict[str, Any]](mongodb_uri) as client:
                client.drop_database(self.database)

    run_state_machine_as_test(
        MongoLogMachine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )
