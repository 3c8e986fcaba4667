"""One projection over one view store: the position rule, folding a batch, parking what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import msgspec
import structlog

from domain.streams import StreamKind
from domain.streams import kind_of as _kind_of
from eventlog.codec import EventCodec
from eventlog.received import Received, Unreadable, received_of
from eventlog.record import Commit, Committed, Recorded
from projections.store import (
    PARKED,
    SCAN_ROWS_MAX,
    SKIPPED,
    BatchTooLargeError,
    Row,
    UnitOfWork,
    ViewStore,
    ViewUnavailableError,
)

_log = structlog.get_logger(__name__)

POSITIONS_IDLE_COMMITS = 2_000
"""A batch that changes nothing writes no position until this many commits have passed: what is applied twice changes nothing either."""

TRIALS_MAX = 4
"""A batch asks for rows whose keys it knows from its events or from other rows, hardly ever three deep; then they are fetched one by one."""

kind_of = lru_cache(maxsize=50_000)(_kind_of)

Apply = Callable[[UnitOfWork, Recorded], None]


class _Undecoded(msgspec.Struct, frozen=True, gc=False):
    commit: Commit


T = TypeVar("T", bound=Committed | Unreadable | _Undecoded)


class Poison(Exception):
    """Raised by a rebuild, which stops where continuous running parks."""


class HoleError(RuntimeError):
    """A batch whose positions do not follow what was applied."""


class ParkedStream(msgspec.Struct, frozen=True, array_like=True):
    """A stream that a projection could not read on."""

    projection: str
    stream: str
    from_version: int
    shard: int
    position: int
    at: int
    error: str


class Projection:
    """Applies commits to a store. All methods block and belong to the store's writer thread.

    `kinds`: only streams of these kinds are handed to `apply`, and of them only events of these `types` (None: all).
    `contents` False: it looks at no event's content. `parks` False: an event that cannot be applied raises Poison.
    `lazy`: the runner gathers longer for it, and its readers wait until it is fresh. `idle_commits`: how many may pass without a
    change before the positions are written all the same.
    """

    def __init__(
        self,
        store: ViewStore,
        apply: Apply,
        kinds: frozenset[StreamKind] | None = None,
        *,
        types: frozenset[str] | None = None,
        contents: bool = True,
        parks: bool = True,
        lazy: bool = False,
        idle_commits: int = POSITIONS_IDLE_COMMITS,
    ) -> None:
        self.store = store
        self.name = store.schema.name
        self._apply = apply
        self._kinds = kinds
        self._types = types
        self.contents = types if contents else frozenset()
        """The types of events whose content `apply` needs, None for all."""
        self.parks = parks
        self.lazy = lazy
        self.positions: dict[int, int] = store.positions()
        """Applied; the durable ones may lag behind by commits that changed nothing."""
        self._unwritten: dict[int, int] = {}
        self._unwritten_commits = 0
        self._idle_commits = idle_commits
        self.moved: set[int] = set()
        """Shards that were found further on than this projection left them; whoever asks empties it."""
        self._astray = False
        """Whether a write failed, or a hole was met, and the store was not yet asked where it stands."""
        self._parked = {parked.stream for parked in self.parked()}
        self.applied_events = 0
        self.parked_events = 0

    def take(self, batch: Sequence[Received]) -> None:
        """Apply a batch; each shard's commits in position order without a hole. What was applied before is dropped.

        Raises HoleError.
        """
        self._take(batch, iter)

    def take_commits(self, commits: Sequence[Commit], codec: EventCodec) -> None:
        """`take` of what is not decoded yet: of the events only what `apply` looks at is decoded, one commit at a time.

        A span of decoded events would not fit into the processor's caches, and the garbage collector would go through it.
        """
        contents = self.contents
        self._take(
            [_Undecoded(commit) for commit in commits],
            lambda fresh: (received_of(codec, one.commit, contents) for one in fresh),
        )

    def _take(self, batch: Sequence[T], received: Callable[[Iterator[T]], Iterator[Received]]) -> None:
        try:
            self._take_at_once(batch, received)
        except BatchTooLargeError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            self._take(batch[:half], received)
            self._take(batch[half:], received)

    def _take_at_once(
        self, batch: Sequence[T], received: Callable[[Iterator[T]], Iterator[Received]]
    ) -> None:
        self._find_back()
        positions: dict[int, int] = {}
        try:
            work, events = self._tried(batch, received, positions)
        except ViewUnavailableError:
            self.store.release()
            raise
        except HoleError:
            self.store.release()
            self._go_astray()
            raise
        except Exception:  # noqa: BLE001 - whatever an event does, it costs only its own stream
            self.store.release()
            # Which one it was is found by applying them one by one, each upon its own unit of work.
            positions.clear()
            work = UnitOfWork(self.store)
            events = sum(self._take_one(work, one) for one in received(self._fresh(batch, positions)))
        if positions:
            self._write(work, positions)
            self.applied_events += events

    def _tried(
        self,
        batch: Sequence[T],
        received: Callable[[Iterator[T]], Iterator[Received]],
        positions: dict[int, int],
    ) -> tuple[UnitOfWork, int]:
        """Apply a batch, after trying until all that it asks for is at hand, where asking is a journey."""
        for _ in range(TRIALS_MAX):
            trial = self.store.trial()
            if trial is None:
                break
            positions.clear()
            work = UnitOfWork(trial)
            try:
                events = self._take_all(work, received(self._fresh(batch, positions)))
            except HoleError:
                raise
            except Exception:
                if not trial.fetch():
                    raise
            else:
                if not trial.fetch():
                    return work, events
        positions.clear()
        work = UnitOfWork(self.store)
        return work, self._take_all(work, received(self._fresh(batch, positions)))

    def find_again(self) -> None:
        """Go on from where the view stands by now: somebody else wrote to it."""
        self._astray = True
        self._find_back()

    def flush_positions(self) -> None:
        """Make the positions durable, also after batches that changed nothing."""
        self._find_back()
        if self._unwritten:
            self._store(UnitOfWork(self.store), self._unwritten)

    def skipped(self) -> list[Row]:
        """What an operator ordered to leave out."""
        with self.store.snapshot() as snapshot:
            return snapshot.scan(SKIPPED, (), limit=SCAN_ROWS_MAX)

    def leave_out(self, skipped: Iterable[Row]) -> None:
        """Leave out what another version of this view leaves out."""
        self._find_back()
        work = UnitOfWork(self.store)
        for row in skipped:
            work.put(SKIPPED, row)
        self._store(work, self._unwritten)

    @property
    def parked_count(self) -> int:
        """How many streams are parked, as far as this process knows."""
        return len(self._parked)

    def parked(self) -> list[ParkedStream]:
        """The parked streams."""
        with self.store.snapshot() as snapshot:
            rows = snapshot.scan(PARKED, (), limit=SCAN_ROWS_MAX)
        return [msgspec.convert((self.name, *row), ParkedStream) for row in rows]

    def retry(self, stream: str, commits: Iterable[Received], skip: tuple[int, str] | None = None) -> bool:
        """Apply the events of a parked stream up to the view's position; whether it is parked no longer.

        `commits` are the stream's from the parked version on, to the end. `skip`: a version to leave out, and why.
        """
        self._find_back()
        work = UnitOfWork(self.store)
        parked = work.get(PARKED, (stream,))
        if parked is None:
            return True
        work.delete(PARKED, (stream,))
        if skip is not None:
            work.put(SKIPPED, (stream, *skip))
        self._parked.discard(stream)
        for received in commits:
            if received.commit.position <= self.positions.get(received.commit.shard, 0):
                self._take_one(work, received, from_version=int(parked[1] or 0))
        # Guarded by where its own shard stands; others may be other writers' by now.
        shard = int(parked[2] or 0)
        self._store(work, {**self._unwritten, shard: self.positions.get(shard, 0)})
        return stream not in self._parked

    def _fresh(self, batch: Sequence[T], positions: dict[int, int]) -> Iterator[T]:
        """What is new and concerns this view; `positions` becomes where the view stands after it."""
        applied, parked, kinds = self.positions, self._parked, self._kinds
        for one in batch:
            commit = one.commit
            shard, position = commit.shard, commit.position
            last = positions.get(shard) or applied.get(shard, 0)
            if position <= last:
                continue
            if position != last + 1:
                raise HoleError(f"{self.name}: position {position} of shard {shard} follows {last}")
            positions[shard] = position
            stream = commit.stream
            if (kinds is None or kind_of(stream) in kinds) and stream not in parked:
                yield one

    def _take_all(self, work: UnitOfWork, batch: Iterable[Received]) -> int:
        apply, types = self._apply, self._types
        events = 0
        for received in batch:
            if type(received) is not Committed:
                raise _Unapplied
            for row in received.events:
                if types is None or row.event.TYPE in types:
                    apply(work, row)
            events += len(received.events)
        return events

    def _take_one(self, work: UnitOfWork, received: Received, from_version: int = 0) -> int:
        """Apply one commit, or park its stream; the number of events applied."""
        commit = received.commit
        if commit.stream in self._parked:
            return 0
        if isinstance(received, Unreadable):
            version = max(commit.first_version, from_version)
            if work.get(SKIPPED, (commit.stream, version)) is not None:
                return 0
            self._park(work, commit, version, received.error)
            return 0
        applied = 0
        for row in received.events:
            if row.version < from_version or work.get(SKIPPED, (row.stream, row.version)) is not None:
                continue
            applied += 1
            if self._types is not None and row.event.TYPE not in self._types:
                continue
            inner = work.nested()
            try:
                self._apply(inner, row)
            except ViewUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest goes on
                self._park(work, commit, row.version, type(error).__name__, error)
                return applied - 1
            work.merge(inner)
        return applied

    def _park(
        self, work: UnitOfWork, commit: Commit, version: int, reason: str, error: Exception | None = None
    ) -> None:
        if not self.parks:
            raise Poison(f"{self.name}: {commit.stream} version {version}: {reason}") from error
        row = (commit.stream, version, commit.shard, commit.position, commit.at, reason)
        work.put(PARKED, row)
        self._parked.add(commit.stream)
        self.parked_events += 1
        _log.error("stream parked", projection=self.name, stream=commit.stream, version=version, error=reason)

    def _write(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        unwritten = {**self._unwritten, **positions}
        self._unwritten_commits += sum(positions.values()) - sum(
            self.positions.get(shard, 0) for shard in positions
        )
        if not work.empty or self._unwritten_commits >= self._idle_commits:
            self._store(work, unwritten)
        else:
            self._unwritten = unwritten
            self.store.release()
        self.positions.update(positions)

    def _store(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        try:
            self.store.apply(work, positions)
        except ViewUnavailableError:
            self._go_astray()
            raise
        self._unwritten, self._unwritten_commits = {}, 0

    def _go_astray(self) -> None:
        """The view may stand elsewhere than this projection believes."""
        self._astray = True
        with suppress(ViewUnavailableError):  # The next call tries again.
            self._find_back()

    def _find_back(self) -> None:
        """Go on from where the view stands: what a failed batch parked or read on may not be in it, and another writer's work may be."""
        if not self._astray:
            return
        found = self.store.positions()
        self.moved.update(
            shard for shard, position in found.items() if position > self.positions.get(shard, 0)
        )
        self.positions = found
        self._parked = {parked.stream for parked in self.parked()}
        self._unwritten, self._unwritten_commits = {}, 0
        self._astray = False


class _Unapplied(Exception):
    """A batch holds something unreadable."""
