"""Verification finds every kind of tampering, names the place, and reports it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.streams import shard_of
from eventlog.integrity import Finding, FindingKind, ShardVerifier, verify_shard
from eventlog.memory import MemoryLog
from eventlog.record import Commit, Head
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, append_one

SHARD = 1
STREAMS = [name for name in (f"g_{n}" for n in range(40)) if shard_of(name, SHARD_COUNT) == SHARD][:3]


def good_shard(size: int = 9) -> list[Commit]:
    """Commits of three streams, one to three events each."""
    maker = ShardMaker(SHARD)
    return [maker.make(STREAMS[n % 3], count=n % 3 + 1) for n in range(size)]


def findings(commits: Sequence[Commit], expected: Head | None = None) -> list[Finding]:
    """What a verifier says."""
    verifier = ShardVerifier(SHARD, SHARD_COUNT, {LOG_ID})
    found = [finding for commit in commits for finding in verifier.check(commit)]
    return [*found, *verifier.finish(expected)]


def places(found: Sequence[Finding]) -> list[tuple[str, int]]:
    """Kind and position of each."""
    return [(finding.kind.value, finding.position) for finding in found]


def edited(commit: Commit, old: bytes, new: bytes) -> Commit:
    """The commit with its frame altered and nothing else."""
    assert old in commit.frame
    return msgspec.structs.replace(commit, frame=commit.frame.replace(old, new, 1))


def test_a_good_shard_has_no_findings() -> None:
    commits = good_shard()
    assert findings(commits, commits[-1].head) == []
    assert findings([]) == []


def test_a_changed_text_is_found_by_the_successor() -> None:
    commits = good_shard()
    commits[4] = edited(commits[4], b"hello", b"hullo")
    found = findings(commits)
    assert places(found) == [("changed", 5)]
    assert found[0].stream == commits[4].stream
    assert "hullo" not in found[0].detail


def test_a_changed_last_frame_needs_the_expected_head() -> None:
    commits = good_shard()
    head = commits[-1].head
    commits[-1] = edited(commits[-1], b"hello", b"hullo")
    assert findings(commits) == []
    assert places(findings(commits, head)) == [("changed", 9)]


def test_a_shard_cut_short_needs_the_expected_head() -> None:
    commits = good_shard()
    assert findings(commits[:7]) == []
    assert places(findings(commits[:7], commits[-1].head)) == [("cut_short", 7)]


def test_a_missing_commit_is_named_with_its_stream() -> None:
    commits = good_shard()
    found = findings(commits[:3] + commits[4:])
    assert places(found) == [("missing", 4), ("version", 7)]
    assert found[1].stream == commits[3].stream


def test_missing_from_the_start() -> None:
    assert places(findings(good_shard()[2:]))[0] == ("missing", 1)


def test_swapped_frames_name_both_places() -> None:
    commits = good_shard()
    one, two = commits[3], commits[6]
    commits[3] = msgspec.structs.replace(one, frame=two.frame)
    commits[6] = msgspec.structs.replace(two, frame=one.frame)
    swapped = [finding for finding in findings(commits) if finding.kind is FindingKind.SWAPPED]
    assert [(f.position, f.detail) for f in swapped] == [
        (4, "holds the frame of 1:7"),
        (7, "holds the frame of 1:4"),
    ]


def test_a_position_that_comes_twice() -> None:
    commits = good_shard()
    assert places(findings([*commits[:5], commits[4], *commits[5:]])) == [("duplicate", 5)]


def test_bytes_that_are_no_frame() -> None:
    commits = good_shard()
    commits[4] = msgspec.structs.replace(commits[4], frame=b"{}")
    assert places(findings(commits)) == [("unreadable", 5), ("changed", 5)]


COLUMNS: Sequence[tuple[str, Callable[[Commit], object]]] = [
    ("epoch", lambda c: c.epoch + 1),
    ("stream", lambda _: "g_other"),
    ("first_version", lambda c: c.first_version + 1),
    ("first_number", lambda c: c.first_number + 1),
    ("events_count", lambda c: c.events_count + 1),
    ("key", lambda _: bytes(16)),
    ("payload_digest", lambda _: b"\x01" * 16),
    ("at", lambda c: c.at + 1),
]


@pytest.mark.parametrize("column, change", COLUMNS, ids=[name for name, _ in COLUMNS])
def test_a_changed_column(column: str, change: Callable[[Commit], object]) -> None:
    commits = good_shard()
    commits[4] = msgspec.structs.replace(commits[4], **{column: change(commits[4])})
    found = findings(commits)
    assert places(found) == [("copy", 5)]
    assert column in found[0].detail


def test_a_falling_epoch_and_time() -> None:
    maker = ShardMaker(SHARD, epoch=3)
    first = maker.make(STREAMS[0])
    stale = ShardMaker(SHARD, epoch=2, head=msgspec.structs.replace(maker.head, at=-5))
    second = stale.make(STREAMS[1])
    assert places(findings([first, second])) == [("epoch", 2), ("time", 2)]


def test_numbers_and_versions_out_of_step() -> None:
    maker = ShardMaker(SHARD)
    first = maker.make(STREAMS[0])
    maker.head = msgspec.structs.replace(maker.head, number=7)
    second = maker.make(STREAMS[0], first_version=4)
    assert places(findings([first, second])) == [("number", 2), ("version", 2)]


def test_a_stream_on_the_wrong_shard() -> None:
    stray = next(name for name in (f"g_{n}" for n in range(40)) if shard_of(name, SHARD_COUNT) != SHARD)
    maker = ShardMaker(SHARD)
    assert places(findings([maker.make(STREAMS[0]), maker.make(stray)])) == [("misplaced", 2)]


def test_logs_follow_each_other_but_never_return() -> None:
    maker = ShardMaker(SHARD, "first")
    commits = [maker.make(STREAMS[0])]
    for log_id in ("second", "first"):
        maker.log_id = log_id
        commits.append(maker.make(STREAMS[0]))
    verifier = ShardVerifier(SHARD, SHARD_COUNT)
    assert places([f for c in commits for f in verifier.check(c)]) == [("log", 3)]
    known = ShardVerifier(SHARD, SHARD_COUNT, {"first"})
    assert places([f for c in commits for f in known.check(c)]) == [("log", 2), ("log", 3)]


@settings(max_examples=30)
@given(position=st.integers(0, 7), offset=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_flipped_byte_before_the_last_frame_is_found(position: int, offset: int, flip: int) -> None:
    commits = good_shard()
    frame = bytearray(commits[position].frame)
    frame[offset % len(frame)] ^= flip
    commits[position] = msgspec.structs.replace(commits[position], frame=bytes(frame))
    assert position + 1 in {finding.position for finding in findings(commits)}


async def test_a_log_is_verified_page_by_page_with_a_head_in_the_middle() -> None:
    log = MemoryLog(LOG_ID, SHARD_COUNT)
    commits = good_shard()
    await append_one(log, *commits)
    for expected in (None, commits[3].head, commits[-1].head):
        assert [f async for f in verify_shard(log, SHARD, expected=expected, page_commits=4)] == []
    wrong = msgspec.structs.replace(commits[3].head, digest=bytes(32))
    assert places([f async for f in verify_shard(log, SHARD, expected=wrong, page_commits=2)]) == [
        ("changed", 4)
    ]
    later = msgspec.structs.replace(commits[-1].head, position=12)
    assert places([f async for f in verify_shard(log, SHARD, expected=later)]) == [("cut_short", 9)]
