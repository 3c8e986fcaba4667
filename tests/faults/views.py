"""The views that projectors wrote, compared with views made from the log alone: row by row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest

from docker.local.processes import wait_until
from eventlog.record import Committed
from projections.memory import MemoryShelf
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.projection import Projection
from projections.rebuild import digest_of
from projections.shelf import FIRST_VERSION
from projections.store import PARKED, ViewStore
from projections.views import READ_MODELS

VIEWS_SUFFIX = "_views"
CATCH_UP_S_MAX = 60.0
LOG = "reference"


class ViewsCheck:
    """Keeps every view in memory, made of the commits it is given, and compares when it is asked. All methods block."""

    def __init__(self, uri: str, database: str, log_id: str) -> None:
        self._views = ViewDatabase.connect(uri, database + VIEWS_SUFFIX)
        self._shelf = MongoShelf(self._views)
        self._log_id = log_id
        shelf = MemoryShelf()
        self._references: dict[str, Projection] = {
            name: model.over(shelf.open(model.schema, FIRST_VERSION, LOG), parks=False)
            for name, model in READ_MODELS.items()
        }

    def close(self) -> None:
        """Let go."""
        self._views.close()

    def take(self, commits: Sequence[Committed]) -> None:
        """The log went on."""
        for reference in self._references.values():
            reference.take(commits)

    async def differences(self, heads: Mapping[int, int]) -> list[str]:
        """Where a view, once it holds these positions, is not what the log makes of it; a sentence for each view."""
        return await asyncio.to_thread(self._differences, heads)

    def _differences(self, heads: Mapping[int, int]) -> list[str]:
        found: list[str] = []
        current = self._shelf.current()
        for name, model in READ_MODELS.items():
            store = self._shelf.open(model.schema, current.get(name, FIRST_VERSION), self._log_id)
            try:
                self._await(name, store, heads)
                found += self._compare(name, store)
            finally:
                store.close()
        return found

    def _await(self, name: str, store: ViewStore, heads: Mapping[int, int]) -> None:
        held: dict[int, int] = {}

        def caught_up() -> bool:
            held.update(store.positions())
            return all(held.get(shard, 0) >= head for shard, head in heads.items())

        wait_until(
            caught_up,
            timeout_s=CATCH_UP_S_MAX,
            failure=lambda: (
                f"{name} lacks "
                + ", ".join(
                    f"{shard}:{held.get(shard, 0)}..{head}"
                    for shard, head in heads.items()
                    if held.get(shard, 0) < head
                )
            ),
        )

    def _compare(self, name: str, store: ViewStore) -> list[str]:
        with ExitStack() as stack:
            live = stack.enter_context(store.snapshot())
            made = stack.enter_context(self._references[name].store.snapshot())
            if digest_of(live) == digest_of(made):
                return []
            for row, wanted in zip_longest(live.dump(), made.dump()):
                if row != wanted:
                    # Keys only: a body is nobody's business.
                    table, values = row or wanted or ("", ())
                    what = "is too much" if wanted is None else "is missing" if row is None else "differs"
                    if table == PARKED.name:
                        what = "was parked"
                    return [f"{name}: {table} {values[:2]} {what}"]
        return [f"{name} differs in its order only"]
