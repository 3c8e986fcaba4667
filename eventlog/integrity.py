"""Verification of the record: each shard's chain, numbers and copies, commit by commit. Pure; memory grows
with the streams only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from enum import StrEnum

import msgspec

from domain.streams import shard_of
from eventlog.codec import StoredFrame, decode_frame
from eventlog.port import READ_COMMITS_MAX, Log
from eventlog.record import Commit, Head
from eventlog.registry import UnknownEventError


class FindingKind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    """The frame is not the one that its successor (or the expected head) was chained to."""
    MISSING = "missing"
    """Positions are absent."""
    SWAPPED = "swapped"
    """The frame belongs to another place."""
    DUPLICATE = "duplicate"
    """A position comes twice, or out of order."""
    CUT_SHORT = "cut_short"
    """The shard ends before the expected head."""
    UNREADABLE = "unreadable"
    """The bytes are no frame."""
    COPY = "copy"
    """A column beside the frame says something else than the frame."""
    VERSION = "version"
    """The stream's versions have a gap or overlap here."""
    NUMBER = "number"
    """The running number of events is off."""
    EPOCH = "epoch"
    """The epoch fell."""
    TIME = "time"
    """The time fell."""
    LOG = "log"
    """The frame is of an unknown log, or of one that the shard had left already."""
    MISPLACED = "misplaced"
    """The stream belongs on another shard."""


class Finding(msgspec.Struct, frozen=True):
    """One fault and where it is. `detail` names no content of events."""

    kind: FindingKind
    shard: int
    position: int
    stream: str | None
    detail: str


class ShardVerifier:
    """Takes a shard's commits in the order they are read and finds what is wrong.

    `log_ids`: ids the frames may carry (None: any). Feed every commit to `check`, then call `finish`. One
    fault is not reported again by every later commit: the expectations follow what is there.
    """

    def __init__(self, shard: int, shard_count: int, log_ids: AbstractSet[str] | None = None) -> None:
        self.shard = shard
        self.head = Head()
        """The head of what was checked so far."""
        self.commits = 0
        self._shard_count = shard_count
        self._log_ids = log_ids
        self._logs_seen: list[str] = []
        self._versions: dict[str, int] = {}
        self._last_stream: str | None = None
        self._is_chained = True

    def check(self, commit: Commit) -> Iterator[Finding]:
        """What is wrong with the next commit."""
        self.commits += 1
        if commit.position <= self.head.position:
            yield self._finding(FindingKind.DUPLICATE, commit, f"comes after position {self.head.position}")
            return
        if commit.position > self.head.position + 1:
            yield self._missing(self.head.position + 1, commit.position - 1)
            self._is_chained = False
        try:
            frame = decode_frame(commit.frame)
        except UnknownEventError:
            yield self._finding(FindingKind.UNREADABLE, commit, "the bytes are no frame")
            self._follow(commit, None)
            return
        yield from self._check_place(commit, frame)
        yield from self._check_chain(commit, frame)
        yield from self._check_order(commit, frame)
        self._follow(commit, frame)

    def finish(self, expected: Head | None = None) -> Iterator[Finding]:
        """What is wrong with the end, given a head that is known from elsewhere (a seal, a relay, a backup).

        An expected head in the middle of the shard is compared when it is passed; here only what lies at or
        behind the end is.
        """
        if expected is None or expected.position < self.head.position:
            return
        if expected.position > self.head.position:
            detail = f"ends at {self.head.position}, was at {expected.position} before"
            yield Finding(FindingKind.CUT_SHORT, self.shard, self.head.position, self._last_stream, detail)
        elif expected.digest != self.head.digest:
            detail = "the last frame is not the expected one"
            yield Finding(FindingKind.CHANGED, self.shard, self.head.position, self._last_stream, detail)

    def _check_place(self, commit: Commit, frame: StoredFrame) -> Iterator[Finding]:
        if (frame.shard, frame.position) != (commit.shard, commit.position) or commit.shard != self.shard:
            detail = f"holds the frame of {frame.shard}:{frame.position}"
            yield self._finding(FindingKind.SWAPPED, commit, detail)
        if not _is_copied(commit, frame):
            wrong = [name for name, told, copied in _copies(commit, frame) if told != copied]
            yield self._finding(
                FindingKind.COPY, commit, f"columns differ from the frame: {', '.join(wrong)}"
            )
        if frame.stream not in self._versions:
            home = _home(frame.stream, self._shard_count)
            if home != self.shard:
                yield self._finding(FindingKind.MISPLACED, commit, f"its stream belongs on shard {home}")
        if self._log_ids is not None and frame.log_id not in self._log_ids:
            yield self._finding(FindingKind.LOG, commit, f"is of log {frame.log_id!r}")
        elif frame.log_id in self._logs_seen[:-1]:
            yield self._finding(FindingKind.LOG, commit, f"returns to log {frame.log_id!r}")

    def _check_chain(self, commit: Commit, frame: StoredFrame) -> Iterator[Finding]:
        if not self._is_chained or frame.previous == self.head.digest.hex():
            return
        if self.head.position == 0:
            yield self._finding(FindingKind.CHANGED, commit, "the first frame names a predecessor")
            return
        detail = f"is not the frame that {commit.shard}:{commit.position} was chained to"
        yield Finding(FindingKind.CHANGED, self.shard, self.head.position, self._last_stream, detail)

    def _check_order(self, commit: Commit, frame: StoredFrame) -> Iterator[Finding]:
        if self._is_chained and frame.first_number != self.head.number + 1:
            detail = f"starts with number {frame.first_number}, not {self.head.number + 1}"
            yield self._finding(FindingKind.NUMBER, commit, detail)
        version = self._versions.get(frame.stream, 0)
        if frame.first_version != version + 1:
            detail = f"starts with version {frame.first_version}, the stream was at {version}"
            yield self._finding(FindingKind.VERSION, commit, detail)
        if not frame.events:
            yield self._finding(FindingKind.VERSION, commit, "holds no event")
        if frame.epoch < self.head.epoch:
            detail = f"epoch {frame.epoch} after epoch {self.head.epoch}"
            yield self._finding(FindingKind.EPOCH, commit, detail)
        if frame.at < self.head.at:
            yield self._finding(FindingKind.TIME, commit, f"{frame.at} after {self.head.at}")

    def _follow(self, commit: Commit, frame: StoredFrame | None) -> None:
        self._is_chained = True
        if frame is None:
            # What the columns say is the best guess of what the frame said.
            stream, last_version, log_id = commit.stream, commit.first_version + commit.events_count - 1, None
            self.head = commit.head
        else:
            stream, last_version = frame.stream, frame.first_version + len(frame.events) - 1
            log_id = frame.log_id
            number = frame.first_number + len(frame.events) - 1
            head = self.head
            epoch = max(head.epoch, frame.epoch)
            at = max(head.at, frame.at)
            self.head = Head(commit.position, epoch, number, at, commit.digest)
        self._versions[stream] = last_version
        self._last_stream = stream
        if log_id is not None and (not self._logs_seen or self._logs_seen[-1] != log_id):
            self._logs_seen.append(log_id)

    def _missing(self, first: int, last: int) -> Finding:
        positions = f"position {first}" if first == last else f"positions {first} to {last}"
        return Finding(FindingKind.MISSING, self.shard, first, None, f"{positions} missing")

    def _finding(self, kind: FindingKind, commit: Commit, detail: str) -> Finding:
        return Finding(kind, self.shard, commit.position, commit.stream, detail)


async def verify_shard(
    log: Log,
    shard: int,
    *,
    log_ids: AbstractSet[str] | None = None,
    expected: Head | None = None,
    page_commits: int = READ_COMMITS_MAX,
) -> AsyncIterator[Finding]:
    """Verify one shard of an open log, page by page; the findings in order of position.

    `expected` is a head known from elsewhere; it may lie anywhere. Raises LogUnavailableError.
    """
    verifier = ShardVerifier(shard, log.shard_count, log_ids)
    position = 0
    while True:
        page = await log.read_shard(shard, position, page_commits)
        for commit in page:
            for finding in verifier.check(commit):
                yield finding
            if expected is not None and commit.position == expected.position:
                for finding in verifier.finish(expected):
                    yield finding
        if len(page) < page_commits:
            break
        position = page[-1].position
    if expected is not None and expected.position > verifier.head.position:
        for finding in verifier.finish(expected):
            yield finding


def _is_copied(commit: Commit, frame: StoredFrame) -> bool:
    """Whether all columns say what the frame says: the answer of `_copies` for nearly every commit, and
    three times as fast.
    """
    return (
        frame.epoch == commit.epoch
        and frame.stream == commit.stream
        and frame.first_version == commit.first_version
        and frame.first_number == commit.first_number
        and len(frame.events) == commit.events_count
        and frame.key == commit.key.hex()
        and frame.payload_digest == commit.payload_digest.hex()
        and frame.at == commit.at
    )


def _copies(commit: Commit, frame: StoredFrame) -> Iterator[tuple[str, object, object]]:
    yield "epoch", frame.epoch, commit.epoch
    yield "stream", frame.stream, commit.stream
    yield "first_version", frame.first_version, commit.first_version
    yield "first_number", frame.first_number, commit.first_number
    yield "events_count", len(frame.events), commit.events_count
    yield "key", frame.key, commit.key.hex()
    yield "payload_digest", frame.payload_digest, commit.payload_digest.hex()
    yield "at", frame.at, commit.at


def _home(stream: str, shard_count: int) -> int | None:
    try:
        return shard_of(stream, shard_count)
    except ValueError:
        return None
