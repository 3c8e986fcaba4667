"""The read side: views that this process writes, or those that projectors write elsewhere; and the bells between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from commands.tasks import TaskOwner
from ops.metrics.reading import watch_read_side
from ops.roles.projecting import open_projector
from ops.roles.role import Role
from ops.roles.site import Site
from projections.elsewhere import ViewsElsewhere
from projections.views import ReadSide, Views

HURRY_CHANNEL = "hurry"
_LAZY, _PROMPT = "lazy", "prompt"
HURRY_PAUSE_S = 0.01
"""Bells of one process to the projectors, at most."""


async def open_views(site: Site, heads: Callable[[], Mapping[int, int]]) -> ReadSide:
    """The views. `heads` tells what this process knows of the record."""
    stores = site.stores
    if Role.PROJECTOR in site.roles:
        written = await open_projector(site)
        _hear(site, written)
        if site.roles <= {Role.PROJECTOR, Role.RELAY}:
            watch_read_side(site.registry, written)
            return written
    # Of what it writes itself, others write other shards.
    views = await ViewsElsewhere.open(stores.shelf, stores.log, heads, _hurrying(site), fast=stores.fast)
    site.stack.push_async_callback(views.close)
    watch_read_side(site.registry, views)
    return views


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
