"""The projector: writes the views of the shards that the group of projectors gives it, and stands in for those that nobody has."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from functools import partial

from eventlog.bus import Bus
from eventlog.feed import Feed, FeedSettings
from eventlog.received import Received, received_of
from ops import readiness
from ops.control import ControlServer
from ops.fast_views import told_shelf
from ops.folder import DataFolder
from ops.metrics.carrying import watch_feed
from ops.metrics.reading import watch_runner, watch_share
from ops.roles.site import Site
from ops.view_operations import ViewOperations
from projections.runner import RunnerSettings
from projections.sharing import ShardShare
from projections.views import Views, ViewsSettings

GROUP = "projectors"
FEED = "views"
_SETTINGS = FeedSettings()
"""What lies between a view and where a feed begins the runner reads itself."""


async def open_projector(site: Site) -> Views:
    """Views that this process writes with others. Its control socket takes `rebuild`, `parked` and `status`."""
    stores, runner = site.stores, RunnerSettings(linger_ms=int(site.settings.linger_ms))
    settings = ViewsSettings(runner=runner, shared=True, shares=True)
    shelf = await told_shelf(stores, site.stack)
    views = await Views.open(shelf, stores.log, Bus(), site.codec, settings)
    site.stack.push_async_callback(views.close)
    watch_runner(site.registry, views.runner)
    site.tracer.views(views.runner)
    share = ShardShare(
        views,
        stores.log,
        monotonic_s=time.monotonic,
        chance=random.Random(),  # noqa: S311 - spreads who stands in
    )
    watch_share(site.registry, share)
    site.readiness.add(lambda: readiness.of_views(views))
    _follow(site, views, share)
    control = ControlServer(DataFolder(site.settings.data).control, ViewOperations(views))
    await site.stack.enter_async_context(control)
    return views


def _follow(site: Site, views: Views, share: ShardShare) -> None:
    async def looked(heads: Mapping[int, int]) -> None:
        await views.follow_switches()
        await share.looked(heads)

    carrier = site.carrier
    feed: Feed[Received] = Feed(
        site.stores.log,
        carrier.shared_source(GROUP),
        carrier.partitions,
        positions=share.positions,
        decode=partial(received_of, site.codec),
        handler=views.runner.follow,
        lost=share.lost,
        looked=looked,
        settings=_SETTINGS,
    )
    watch_feed(site.registry, FEED, feed)
    site.readiness.add(lambda: readiness.of_feed(FEED, feed))
    site.readiness.add_remark(lambda: readiness.of_carrier(FEED, feed))
    feed.start()
    site.stack.push_async_callback(feed.close)
