"""The node: order, durability of answers, replays, refused documents, unknown outcomes, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import pytest
from typing_extensions import override

from commands.caller import Answer
from commands.settings import NodeSettings
from domain.conversation import AddReaction, EditMessage, PostMessage, RecallMessage
from domain.errors import Problem
from domain.event import Command
from domain.streams import shard_of
from eventlog.memory import MemoryLog
from eventlog.port import RefusalReason
from eventlog.snapshots import MemorySnapshots
from tests.faulty_log import Fault, Planned
from tests.unit.commands.scene import FAST, RefusingLog, Result, Scene, pair, post, scene, text

STREAM = pair("alice", "bob")


def code_of(result: Result) -> str:
    """The code of a refusal."""
    assert isinstance(result, Problem), result
    return result.code


async def test_an_answer_carries_position_version_and_seq() -> None:
    async with scene() as stage:
        answer = await stage.done("alice", STREAM, post("hi", to="bob"))
        history = await stage.history(STREAM)
        assert [row.event.TYPE for row in history[0].events] == ["direct_opened", "message_posted"]
        assert answer.position == history[0].commit.position
        assert answer.seq == 2
        assert answer.token == f"{shard_of(STREAM, 4)}:{answer.position}"


async def test_commands_of_one_stream_are_decided_in_order_of_arrival() -> None:
    async with scene() as stage:
        words = [f"m{number}" for number in range(50)]
        results = await asyncio.gather(
            *[stage.submit("alice", STREAM, post(word, to="bob")) for word in words]
        )
        assert [result.seq for result in results if isinstance(result, Answer)] == list(range(2, 52))
        assert [committed.events for committed in stage.published if committed.commit.stream == STREAM] == [
            committed.events for committed in await stage.history(STREAM)
        ]


async def test_what_no_store_would_take_is_refused_and_the_stream_goes_on() -> None:
    generous = msgspec.structs.replace(
        FAST, limits=msgspec.structs.replace(FAST.limits, content_bytes=3_000_000)
    )
    async with scene(generous) as stage:
        name = pair("ann", "bob")
        await stage.done("ann", name, post("first", to="bob"))
        huge = PostMessage(client_msg_id="huge", content=text("x" * 1_000_000), to="bob")
        result = await stage.submit("ann", name, huge)
        assert isinstance(result, Problem)
        assert result.code == "too_large"
        last = await stage.done("ann", name, post("last", to="bob"))
        assert (
            [row.seq for committed in await stage.history(name) for row in committed.events][-1]
            == last.seq
            == 3
        )


async def test_no_answer_leaves_before_its_flush() -> None:
    async with scene() as stage:
        await stage.done("alice", STREAM, post("hi", to="bob"))
        stage.log.plan(Fault.SLOW)
        begun = stage.log.appends
        write = stage.submit("alice", STREAM, post("two", to="bob"))
        refusal = stage.submit("alice", STREAM, EditMessage(seq=77, content=text("x")))
        nothing = stage.submit("bob", STREAM, RecallMessage(seq=99))
        await stage.log.begun(begun + 1)
        behind = stage.submit("bob", STREAM, AddReaction(seq=3, emoji="👍"))
        await asyncio.sleep(0)
        assert not any(future.done() for future in (write, refusal, nothing, behind))
        stage.log.release()
        results = await asyncio.gather(write, refusal, nothing, behind)
        assert isinstance(results[0], Answer)
        assert code_of(results[1]) == "not_found"
        assert code_of(results[2]) == "not_found"
        assert isinstance(results[3], Answer)


async def test_a_repeat_gets_the_first_answer_and_another_payload_is_a_conflict() -> None:
    async with scene() as stage:
        first = await stage.submit("alice", STREAM, post("hi", to="bob"), "key-1")
        again = await stage.submit("alice", STREAM, post("hi", to="bob"), "key-1")
        other = await stage.submit("alice", STREAM, post("ho", to="bob"), "key-1", b"2")
        assert isinstance(first, Answer)
        assert isinstance(again, Answer)
        assert (again.position, again.seq, again.events) == (first.position, first.seq, first.events)
        assert again.replayed
        assert not first.replayed
        assert code_of(other) == "idempotency_conflict"
        assert len(await stage.history(STREAM)) == 1


async def test_a_repeat_in_the_same_flush_waits_for_the_first() -> None:
    async with scene() as stage:
        futures = [stage.submit("alice", STREAM, post("hi", to="bob"), "key-1") for _ in range(5)]
        results = await asyncio.gather(*futures)
        assert [isinstance(result, Answer) and result.replayed for result in results] == [
            False,
            True,
            True,
            True,
            True,
        ]
        assert len(await stage.history(STREAM)) == 1


async def test_repeats_are_answered_from_the_log_after_a_restart_and_beyond_the_remembered_keys() -> None:
    settings = NodeSettings(flush_pace_ms=0.0, hot_keys=3)
    log = RefusingLog(MemoryLog("log-1", 4))
    async with scene(settings, log) as stage:
        firsts = [await stage.submit("alice", STREAM, post(f"m{n}", to="bob"), f"key-{n}") for n in range(8)]
        again = await stage.submit("alice", STREAM, post("m0", to="bob"), "key-0")
        assert isinstance(again, Answer)
        assert again.replayed
    async with scene(settings, log) as stage:
        for number, first in enumerate(firsts):
            again = await stage.submit("alice", STREAM, post(f"m{number}", to="bob"), f"key-{number}")
            assert isinstance(first, Answer)
            assert isinstance(again, Answer)
            assert again.replayed
            assert again.position == first.position


def _dependent() -> list[tuple[str, Command]]:
    """Each needs the ones before it."""
    return [
        ("alice", post("one", to="bob")),
        ("bob", post("two", to="alice", reply_to=2)),
        ("alice", EditMessage(seq=2, content=text("uno"))),
        ("bob", AddReaction(seq=2, emoji="👍")),
        ("bob", RecallMessage(seq=3)),
        ("alice", post("three", to="bob")),
        ("bob", AddReaction(seq=7, emoji="🎉")),
        ("alice", post("four", to="bob", reply_to=7)),
    ]


@pytest.mark.parametrize("reason", list(RefusalReason))
@pytest.mark.parametrize("index", range(8))
async def test_document_k_of_n_refused_and_everything_behind_it_decided_again(
    index: int, reason: RefusalReason
) -> None:
    async with scene() as stage:
        other = next(
            s
            for n in range(99)
            if shard_of(s := pair("carol", f"dave{n}"), 4) > shard_of(STREAM, 4) or n == 98
        )
        await stage.node.peek(STREAM)
        await stage.node.peek(other)
        stage.log.refuse(shard_of(STREAM, 4), index, reason)
        futures = [stage.submit(actor, STREAM, command) for actor, command in _dependent()]
        results = await asyncio.gather(*futures)
        assert all(isinstance(result, Answer) and not result.replayed for result in results), results
        seqs = [result.seq for result in results if isinstance(result, Answer)]
        assert seqs == [2, 3, 4, 5, 6, 7, 8, 9]
        history = await stage.history(STREAM)
        assert [row.seq for committed in history for row in committed.events] == list(range(1, 10))
        published = [committed for committed in stage.published if committed.commit.stream == STREAM]
        assert published == history


async def test_documents_of_other_shards_are_sent_again_unchanged() -> None:
    async with scene() as stage:
        streams = {shard_of(s, 4): s for s in (pair("alice", f"bob{n}") for n in range(60))}
        peers = {shard_of(pair("alice", f"bob{n}"), 4): f"bob{n}" for n in range(60)}
        for stream in streams.values():
            await stage.node.peek(stream)
        stage.log.refuse(0, 0, RefusalReason.STREAM)
        futures = [stage.submit("alice", streams[n], post("hi", to=peers[n])) for n in range(4)]
        results = await asyncio.gather(*futures)
        assert all(isinstance(result, Answer) for result in results)
        for number in range(4):
            assert len(await stage.history(streams[number])) == 1


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER, *range(8)])
async def test_unknown_outcomes_are_resolved_by_the_identical_documents(fault: Fault | int) -> None:
    async with scene() as stage:
        await stage.node.peek(STREAM)
        planned = fault if isinstance(fault, Fault) else Planned(Fault.UNKNOWN_PREFIX, documents=fault)
        stage.log.plan(planned, Fault.UNKNOWN_BEFORE)
        begun = stage.log.appends
        results = await asyncio.gather(
            *[stage.submit(actor, STREAM, command) for actor, command in _dependent()]
        )
        assert all(isinstance(result, Answer) and not result.replayed for result in results)
        assert stage.log.flushes[begun] == stage.log.flushes[begun + 1] == stage.log.flushes[begun + 2]
        assert len(await stage.history(STREAM)) == 8


async def test_an_overdue_caller_hears_outcome_unknown_and_the_write_goes_on() -> None:
    settings = NodeSettings(flush_pace_ms=0.0, resend_first_ms=0.01, resend_max_ms=0.1, deadline_s=0.0)
    async with scene(settings) as stage:
        stage.log.plan(Fault.UNKNOWN_BEFORE)
        result = await stage.submit("alice", STREAM, post("hi", to="bob"), "key-1")
        assert code_of(result) == "outcome_unknown"
        await stage.durable(STREAM)
        again = await stage.submit("alice", STREAM, post("hi", to="bob"), "key-1")
        assert isinstance(again, Answer)
        assert again.replayed
        assert len(await stage.history(STREAM)) == 1


async def test_a_log_that_takes_no_writes_refuses_and_recovers() -> None:
    async with scene() as stage:
        await stage.node.peek(STREAM)
        stage.log.plan(Fault.UNAVAILABLE)
        futures = [stage.submit(actor, STREAM, command) for actor, command in _dependent()]
        assert {code_of(result) for result in await asyncio.gather(*futures)} == {"unavailable"}
        assert not stage.node.writable
        assert await stage.history(STREAM) == []
        await stage.done("alice", STREAM, post("hi", to="bob"))
        assert stage.node.writable


async def test_a_log_that_takes_writes_again_is_found_without_a_write() -> None:
    log = RefusingLog(MemoryLog("log-1", 4))
    log.probes_fail = True
    async with scene(msgspec.structs.replace(FAST, probe_s=0.0), log) as stage:
        log.plan(Fault.UNAVAILABLE)
        assert code_of(await stage.submit("alice", STREAM, post("hi", to="bob"))) == "unavailable"
        await log.probed(3)
        before = stage.node.writable
        log.probes_fail = False
        await log.probed(log.probes + 1)
        assert (before, stage.node.writable) == (False, True)
        probes = log.probes
        await stage.done("alice", STREAM, post("hi", to="bob"))
        assert log.probes == probes


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER])
async def test_a_refused_repetition_leaves_the_outcome_unknown(fault: Fault) -> None:
    # Whether the first try was written is as open as before, so its positions may not be used for anything else.
    async with scene() as stage:
        stage.log.plan(fault, Fault.UNAVAILABLE, Fault.UNAVAILABLE)
        answer = await stage.done("alice", STREAM, post("hi", to="bob"))
        assert stage.log.flushes[-4:] == [stage.log.flushes[-1]] * 4
        assert [row.commit.position for row in await stage.history(STREAM)] == [answer.position]
        await stage.done("alice", STREAM, post("two", to="bob"))


async def test_a_stale_owner_steps_down_for_good() -> None:
    log = RefusingLog(MemoryLog("log-1", 4))
    async with scene(FAST, log) as old:
        await old.done("alice", STREAM, post("before", to="bob"))
        async with scene(FAST, log) as new:
            await new.done("bob", STREAM, post("new owner", to="alice"))
            stale = await asyncio.gather(
                *[old.submit("alice", STREAM, post(f"late {n}", to="bob")) for n in range(3)]
            )
            assert {code_of(result) for result in stale} == {"unavailable"}
            assert code_of(await old.submit("alice", STREAM, post("still", to="bob"))) == "unavailable"
            await new.done("bob", STREAM, post("goes on", to="alice"))
            epochs = [committed.commit.epoch for committed in await new.history(STREAM)]
            assert epochs == [1, 2, 2]


async def test_a_full_queue_refuses_with_a_hint() -> None:
    settings = NodeSettings(flush_pace_ms=0.0, queue_orders=3)
    async with scene(settings) as stage:
        stage.log.plan(Fault.SLOW)
        futures = [stage.submit("alice", STREAM, post(f"m{n}", to="bob")) for n in range(5)]
        await stage.log.begun(2)
        stage.log.release()
        results = await asyncio.gather(*futures)
        refused = [result for result in results if isinstance(result, Problem)]
        assert [problem.code for problem in refused] == ["overloaded", "overloaded"]
        assert all(problem.retry_after_ms for problem in refused)
        assert stage.node.queued_orders == 0


async def test_an_unreadable_log_refuses_the_stream_and_recovers() -> None:
    async with scene() as stage:
        stage.log.reads_fail = True
        assert code_of(await stage.submit("alice", STREAM, post("hi", to="bob"))) == "unavailable"
        stage.log.reads_fail = False
        await stage.done("alice", STREAM, post("hi", to="bob"))


async def test_closing_answers_everything() -> None:
    async with scene() as stage:
        futures = [stage.submit("alice", STREAM, post(f"m{n}", to="bob")) for n in range(20)]
    results = await asyncio.gather(*futures)
    written = len(await _stored(stage))
    assert written == sum(isinstance(result, Answer) for result in results)
    assert code_of(await stage.submit("alice", STREAM, post("late", to="bob"))) == "unavailable"


async def _stored(stage: Scene) -> list[object]:
    return list(await stage.history(STREAM))


async def test_times_never_fall_within_a_shard() -> None:
    async with scene() as stage:
        await stage.done("alice", STREAM, post("one", to="bob"))
        stage.now -= 60_000
        answer = await stage.done("alice", STREAM, post("two", to="bob"))
        assert answer.at == stage.now + 60_000


async def test_eviction_keeps_the_bound_and_loses_nothing() -> None:
    settings = NodeSettings(flush_pace_ms=0.0, hot_aggregates=10)
    async with scene(settings) as stage:
        for number in range(40):
            await stage.done("alice", pair("alice", f"u{number}"), post("hi", to=f"u{number}"))
        again = await stage.done("alice", pair("alice", "u0"), post("again", to="u0"))
        assert again.seq == 3


async def test_an_aggregate_that_is_touched_during_eviction_is_kept() -> None:
    settings = NodeSettings(flush_pace_ms=0.0, hot_aggregates=10, snapshot_events=1)
    snapshots = TouchingSnapshots()
    async with scene(settings, snapshots=snapshots) as stage:
        for number in range(10):
            await stage.done("alice", pair("alice", f"u{number}"), post("hi", to=f"u{number}"))
        snapshots.touch = lambda word: stage.submit("alice", pair("alice", "u1"), post(word, to="u1"))
        stage.log.plan(Fault.SLOW)
        begun = stage.log.appends
        eleventh = stage.submit("alice", pair("alice", "u10"), post("hi", to="u10"))
        await stage.log.begun(begun + 1)
        await snapshots.saved.wait()
        snapshots.touched.append(snapshots.touch("behind it"))
        for _ in range(20):
            await asyncio.sleep(0)  # Time to load, if the aggregate was evicted under its pending order.
        stage.log.release()
        results = await asyncio.gather(eleventh, *snapshots.touched)
        assert len(results) == 3
        assert all(isinstance(result, Answer) for result in results)
        assert stage.node.counters.refused_documents == 0


class TouchingSnapshots(MemorySnapshots):
    """An order arrives while the first snapshot is written."""

    def __init__(self) -> None:
        super().__init__()
        self.touch: Callable[[str], asyncio.Future[Result]] | None = None
        self.touched: list[asyncio.Future[Result]] = []
        self.saved = asyncio.Event()

    @override
    async def save(
        self, stream: str, version: int, position: int, schema: int, parts: Mapping[str, bytes]
    ) -> None:
        if self.touch is not None and not self.touched:
            self.touched.append(self.touch("meanwhile"))
        await super().save(stream, version, position, schema, parts)
        self.saved.set()
