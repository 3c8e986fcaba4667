"""The read side: views that this process writes, or those that projectors write elsewhere; and the bells between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from commands.tasks import TaskOwner
from eventlog.bus import Bus
from ops import readiness
from ops.metrics.reading import watch_read_side, watch_runner
from ops.roles.carrying import open_feed
from ops.roles.role import Role
from ops.roles.site import Site
from projections.elsewhere import ViewsElsewhere
from projections.runner import RunnerSettings
from projections.views import ReadSide, Views, ViewsSettings

HURRY_CHANNEL = "hurry"
_LAZY, _PROMPT = "lazy", "prompt"
HURRY_PAUSE_S = 0.01
"""Bells of one process to the projectors, at most."""


async def open_views(site: Site, heads: Callable[[], Mapping[int, int]]) -> ReadSide:
    """The views. `heads` tells what this process knows of the record."""
    stores = site.stores
    if Role.PROJECTOR not in site.roles:
        views = await ViewsElsewhere.open(stores.shelf, stores.log, heads, _hurrying(site))
        site.stack.push_async_callback(views.close)
        watch_read_side(site.registry, views)
        return views
    bus = Bus()
    settings = ViewsSettings(runner=RunnerSettings(linger_ms=int(site.settings.linger_ms)), shared=True)
    written = await Views.open(stores.shelf, stores.log, bus, site.codec, settings)
    site.stack.push_async_callback(written.close)
    watch_runner(site.registry, written.runner)
    site.tracer.views(written.runner)
    watch_read_side(site.registry, written)
    site.readiness.add(lambda: readiness.of_views(written))

    async def positions(shards: Collection[int]) -> Mapping[int, int]:
        held = written.positions()
        return {shard: held.get(shard, 0) for shard in shards}

    open_feed(site, "views", bus.publish, positions)
    _hear(site, written)
    return written


def _hurrying(site: Site) -> Callable[[bool], None]:
    """What tells the projectors that somebody waits here."""
    shared = site.shared
    tasks = TaskOwner("hurry", 1)
    site.stack.push_async_callback(tasks.close)
    lazy_too = asyncio.Event()

    async def ring() -> None:
        await asyncio.sleep(HURRY_PAUSE_S)
        text = _LAZY if lazy_too.is_set() else _PROMPT
        lazy_too.clear()
        await shared.ring(HURRY_CHANNEL, text)

    def hurry(lazy: bool) -> None:
        if lazy:
            lazy_too.set()
        if not tasks.full:
            tasks.start(ring())

    return hurry


def _hear(site: Site, views: Views) -> None:
    tasks = TaskOwner("hurry", 1)
    site.stack.push_async_callback(tasks.close)
    tasks.start(site.shared.hear(HURRY_CHANNEL, lambda text: views.runner.hurry(lazy=text == _LAZY)))
