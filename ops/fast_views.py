"""The fast views of a cluster beside the views: which shelf a writer opens."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from ops.stores import Stores
from projections.fast_shelf import FastShelf
from projections.shelf import ViewShelf


async def told_shelf(stores: Stores, stack: AsyncExitStack) -> ViewShelf:
    """The shelf for who writes views: where there are fast views, they are told of each batch. Close what is opened on it first.

    Raises ViewUnavailableError.
    """
    if stores.fast is None:
        return stores.shelf
    shelf = await asyncio.to_thread(FastShelf, stores.shelf, stores.fast, stores.log.shard_count)
    stack.push_async_callback(asyncio.to_thread, shelf.close)
    return shelf
