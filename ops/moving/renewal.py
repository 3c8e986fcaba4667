"""A cluster's log after its databases were put back to an older backup: it gets a new id, as after every restore."""

from __future__ import annotations

from contextlib import AsyncExitStack

import msgspec

from eventlog.mongo_moving import open_for_writing
from eventlog.mongo_schema import prepare, renew_log_id
from ops.moving.cluster import entered, told
from ops.settings import ClusterModel


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """Which log it is now, and which it was. What others hold of the former one behind the backup is void."""

    place: str
    log_id: str
    former_log_id: str


async def renew_log(cluster: ClusterModel) -> Renewed:
    """Give the log of the settings' database a new id; no process may serve it meanwhile. Frames stay as they are. One that was moved
    away may be served again under its new id.

    Raises MoveRefusedError, SettingsError, LogMismatchError, LogUnavailableError. Done twice it costs no more than once: views are made
    anew, and clients begin again.
    """
    async with AsyncExitStack() as stack:
        place, driver = await entered(cluster, stack)
        found = await told(prepare(driver, None, cluster.cluster_id, None))
        former, log_id = await told(renew_log_id(driver))
        if found.moved_to is not None:
            # Only now: it is another log than the one that was moved away, and may be written beside that one.
            await told(open_for_writing(driver))
        return Renewed(place=place, log_id=log_id, former_log_id=former)
