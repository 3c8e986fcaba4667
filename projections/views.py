"""All read models of one server: their stores, the runner that feeds them, and their readers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping

import msgspec
from typing_extensions import override

from domain.errors import Problem
from domain.streams import StreamKind
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.port import Log
from projections import audit_trail, directory, personal, search, timeline
from projections.audit_trail import AuditTrail
from projections.directory import Directory
from projections.fast import FastRows
from projections.fast_documents import place_of
from projections.fast_filling import FastFills
from projections.fast_reading import FastReads
from projections.fast_shelf import ToldStore
from projections.inbox import Inbox
from projections.projection import POSITIONS_IDLE_COMMITS, Apply, ParkedStream, Projection
from projections.reading import READER_THREADS, READS_WAITING_MAX, Freshen, Reads, Source
from projections.runner import Runner, RunnerSettings
from projections.runner_metrics import RunnerMetrics
from projections.search import Search
from projections.shelf import FIRST_VERSION, ViewShelf
from projections.sight import Sight
from projections.store import Schema, ViewStore
from projections.timeline import Timeline


class ReadModel(msgspec.Struct, frozen=True):
    """A projection's schema and function; `kinds` and `types` None: events of all streams and types.

    `contents` False: it looks at no event's content.

    `lazy`: rarely asked and dear in small batches, so the runner gathers for seconds and its reader waits until it is fresh
    (full text at batches of 2,000 costs half of what it costs at batches of 20).
    """

    schema: Schema
    apply: Apply
    kinds: frozenset[StreamKind] | None = None
    types: frozenset[str] | None = None
    contents: bool = True
    lazy: bool = False

    def over(self, store: ViewStore, *, parks: bool = True, shared: bool = False) -> Projection:
        """This projection over a store. `shared`: other processes read where it stands. Blocks."""
        return Projection(
            store,
            self.apply,
            self.kinds,
            types=self.types,
            contents=self.contents,
            parks=parks,
            lazy=self.lazy,
            idle_commits=1 if shared else POSITIONS_IDLE_COMMITS,
        )


READ_MODELS: Mapping[str, ReadModel] = {
    model.schema.name: model
    for model in (
        ReadModel(timeline.SCHEMA, timeline.apply, timeline.KINDS),
        ReadModel(personal.SCHEMA, personal.apply, personal.KINDS),
        ReadModel(directory.SCHEMA, directory.apply, directory.KINDS, directory.TYPES),
        ReadModel(search.SCHEMA, search.apply, search.KINDS, search.TYPES, lazy=True),
        ReadModel(audit_trail.SCHEMA, audit_trail.apply, contents=False, lazy=True),
    )
}


class ViewsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the read side. `shared`: other processes read these views, and wait for their positions.

    `shares`: other processes write them too, each its own shards; none at first (see `projections.sharing`).
    """

    runner: RunnerSettings = RunnerSettings()
    shared: bool = False
    shares: bool = False
    reader_threads: int = READER_THREADS
    reads_waiting_max: int = READS_WAITING_MAX


class ReadSide(ABC):
    """The readers of all read models: `timeline`, `inbox`, `directory`, `sight`, `search`, `audit_trail`; and how fresh they are.

    `source(name)` gives the store that is current. Who writes the views: this process (`Views`), or another one. `fast` holds copies of
    what is asked most, as far as they are there.
    """

    fast: FastReads | None = None

    def __init__(
        self,
        log: Log,
        settings: ViewsSettings,
        source: Callable[[str], Source],
        fast: FastRows | None = None,
    ) -> None:
        if fast is not None:
            fills = FastFills(fast, self._current, log.shard_count)
            self.fast = FastReads(fast, self._standing, fills, log.shard_count)
        self._reads = reads = Reads(settings.reader_threads, settings.reads_waiting_max)
        self.directory = Directory(reads, source("directory"))
        names, prompt = self.directory.names_now, self._freshened(None)
        self.timeline = Timeline(reads, source("timeline"), names, prompt, log.shard_count, self.fast)
        self.inbox = Inbox(reads, source("timeline"), source("inbox"), names, prompt, log.log_id, self.fast)
        self.sight = Sight(reads, source("timeline"), source("directory"))
        self.search = Search(
            reads, source("search"), source("timeline"), self._freshened(("search", "timeline"))
        )
        self.audit_trail = AuditTrail(reads, source("audit_trail"), self._freshened(("audit_trail",)))

    @property
    @abstractmethod
    def failing(self) -> bool:
        """Whether the views could not be reached when that was last tried; it is tried again by itself."""

    @property
    @abstractmethod
    def lag_commits(self) -> int:
        """How many known commits are not in all views yet."""

    @abstractmethod
    async def caught_up(
        self, positions: Mapping[int, int], timeout_s: float = 2.0, names: Collection[str] | None = None
    ) -> None:
        """Wait until the named views (None: all that are not lazy) hold these positions.

        Raises Problem("unavailable") after `timeout_s`. Cancellation leaves nothing.
        """

    @abstractmethod
    async def freshen(self, names: Collection[str] | None = None) -> None:
        """Wait until everything that this process was told of before is in the named views (None: in all that are not lazy)."""

    @abstractmethod
    def _current(self, name: str) -> tuple[ViewStore, int]:
        """The store and the version that are current."""

    @abstractmethod
    def _held(self, name: str) -> Mapping[int, int]:
        """The positions that the view is known to hold."""

    def _standing(self, name: str) -> tuple[str, Mapping[int, int]]:
        # The positions first: a version that becomes current meanwhile holds them too.
        positions = self._held(name)
        return place_of(*self._current(name)), positions

    async def _end_reads(self) -> None:
        """Wait for the reads that run, and fill no fast views any more."""
        await self._reads.close()
        if self.fast is not None:
            await asyncio.to_thread(self.fast.close)

    def _freshened(self, names: Collection[str] | None) -> Freshen:
        return lambda: self.freshen(names)


class Views(ReadSide):
    """The views that this process writes. Open with `Views.open`."""

    def __init__(
        self,
        shelf: ViewShelf,
        log: Log,
        bus: Bus,
        codec: EventCodec,
        settings: ViewsSettings,
        opened: Mapping[str, tuple[int, Projection]],
        fast: FastRows | None = None,
    ) -> None:
        super().__init__(log, settings, self._source, fast)
        self._shelf = shelf
        self.log = log
        self.codec = codec
        self._versions = {name: version for name, (version, _) in opened.items()}
        self._projections = {name: projection for name, (_, projection) in opened.items()}
        self._retired: list[ViewStore] = []
        self._shared = settings.shared
        self.shares = settings.shares
        """Whether other processes write these views too."""
        shards = () if settings.shares else None
        self.runner = Runner(log, bus, codec, list(self._projections.values()), settings.runner, shards)

    @classmethod
    async def open(
        cls,
        shelf: ViewShelf,
        log: Log,
        bus: Bus,
        codec: EventCodec,
        settings: ViewsSettings | None = None,
        fast: FastRows | None = None,
    ) -> Views:
        """Open the views of the shelf (made if absent) and start to follow; `caught_up` waits for what the log already holds.

        Views of another log are thrown away and made anew. The shelf is the caller's; with `fast` it is a `FastShelf` over the same.
        """
        settings = settings or ViewsSettings()
        opened = await asyncio.to_thread(_opened, shelf, log.log_id, settings.shared)
        views = cls(shelf, log, bus, codec, settings, opened, fast)
        await views.runner.start()
        return views

    @property
    def metrics(self) -> RunnerMetrics:
        """Counters of the runner."""
        return self.runner.metrics

    @property
    @override
    def failing(self) -> bool:
        return self.runner.health.failing

    @property
    @override
    def lag_commits(self) -> int:
        return self.runner.lag_commits

    def positions(self) -> Mapping[int, int]:
        """What all views hold, by shard."""
        return self.runner.positions()

    def kick(self) -> None:
        """Apply what waits at once."""
        self.runner.kick()

    @override
    async def caught_up(
        self, positions: Mapping[int, int], timeout_s: float = 2.0, names: Collection[str] | None = None
    ) -> None:
        await self.runner.caught_up(positions, timeout_s, names)

    @override
    async def freshen(self, names: Collection[str] | None = None) -> None:
        await self.runner.freshen(names)

    async def standing(self, names: Collection[str]) -> Mapping[str, Mapping[int, int]]:
        """Where these views stand by now, whoever moved them on."""

        def look() -> Mapping[str, Mapping[int, int]]:
            return {name: _stands(self._projections[name].store) for name in names}

        return await self._reads.run(look)

    async def parked(self) -> list[ParkedStream]:
        """All parked streams."""
        return await self.runner.parked()

    async def retry(self, projection: str, stream: str, *, skip_because: str | None = None) -> bool:
        """Read a parked stream on; see Runner.retry."""
        return await self.runner.retry(projection, stream, skip_because=skip_because)

    async def close(self) -> None:
        """Drain the runner, wait for reads, close the stores."""
        await self.runner.close()
        await self._end_reads()
        for store in (*self._retired, *(projection.store for projection in self._projections.values())):
            store.close()

    # Versions of views; see projections/rebuild.py

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the views."""
        return tuple(READ_MODELS)

    def projection(self, name: str) -> Projection:
        """The projection that is current."""
        return self._projections[name]

    def version_of(self, name: str) -> int:
        """The version that is current: 1, then one more for each rebuild."""
        return self._versions[name]

    def projection_beside(self, name: str, version: int) -> Projection:
        """Open a version that is not current, or go on with it. It stops at poison. Blocks."""
        model = READ_MODELS[name]
        store = self._shelf.open(model.schema, version, self.log.log_id)
        return model.over(store, parks=False, shared=self._shared)

    def kept_version(self, name: str) -> int:
        """The version that a roll-back leads to. Raises `conflict` without one, and when it was made by other code. Blocks."""
        current = self.version_of(name)
        kept = (version for version in self._shelf.versions(name) if version < current)
        version = max(kept, default=None)
        if version is None:
            raise Problem("conflict", f"no earlier version of {name} is kept")
        if not self._shelf.holds(READ_MODELS[name].schema, version, self.log.log_id):
            raise Problem(
                "conflict", f"version {version} of {name} was made by another release; rebuild instead"
            )
        return version

    def switch(self, name: str, new: Projection, version: int) -> None:
        """Make `new` current, durably and at once; an older version is kept for a roll-back, all others go. Blocks; call while paused.

        Raises SwitchRefusedError when another process switched meanwhile.
        """
        previous = self.version_of(name)
        self._shelf.switch(name, previous, version)
        new.parks = True
        self._take_into_use(name, new, version)
        for other in self._shelf.versions(name) - {version, min(previous, version)}:
            self._shelf.remove(name, other)

    async def follow_switches(self) -> None:
        """Take those versions into use that another process made current; what this one writes of them is read from the log.

        One that another release made is left alone.
        """
        for name, version in (await self._reads.run(self._switched)).items():
            model = READ_MODELS[name]
            new = await self.runner.in_writer(
                lambda model=model, version=version: model.over(  # type: ignore[misc]
                    self._shelf.open(model.schema, version, self.log.log_id), shared=self._shared
                )
            )
            async with self.runner.paused():
                self._take_into_use(name, new, version)

    def _switched(self) -> Mapping[str, int]:
        return {
            name: version
            for name, version in self._shelf.current().items()
            if version != self._versions.get(name, version)
            and self._shelf.holds(READ_MODELS[name].schema, version, self.log.log_id)
        }

    def _take_into_use(self, name: str, new: Projection, version: int) -> None:
        old = self._projections[name]
        self._versions[name] = version
        self._projections[name] = new
        self.runner.replace(old, new)
        self._retired.append(old.store)

    def _source(self, name: str) -> Source:
        return lambda: self._projections[name].store

    @override
    def _current(self, name: str) -> tuple[ViewStore, int]:
        store = self._projections[name].store
        assert isinstance(store, ToldStore)
        return store, store.version

    @override
    def _held(self, name: str) -> Mapping[int, int]:
        return dict(self._projections[name].positions)


def _stands(store: ViewStore) -> Mapping[int, int]:
    with store.snapshot() as snapshot:
        return snapshot.positions()


def _opened(shelf: ViewShelf, log_id: str, shared: bool) -> dict[str, tuple[int, Projection]]:
    """The current version of each view. Blocks."""
    current = shelf.current()
    versions = {name: current.get(name, FIRST_VERSION) for name in READ_MODELS}
    return {
        name: (versions[name], model.over(shelf.open(model.schema, versions[name], log_id), shared=shared))
        for name, model in READ_MODELS.items()
    }
