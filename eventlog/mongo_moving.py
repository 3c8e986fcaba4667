"""What a move of a log asks of a MongoDB database: who uses it, that nobody writes it any more, and that it is whole.

Raises the errors of the driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from eventlog.mongo_driver import APPLICATION, MongoDriver
from eventlog.mongo_errors import UNAUTHORIZED
from eventlog.mongo_schema import COMMITS, FORMER_IDS_MAX, LOG, LOG_DOCUMENT
from eventlog.port import LogMismatchError

CONNECTIONS_TOLD_MAX = 1_000
NOTHING_FITS: Mapping[str, Any] = {"_id": {"$exists": False}}
"""A rule that no document keeps, since each has an `_id`."""


def serving_as(database: str) -> str:
    """What the connections of a server over this database are called."""
    return f"{APPLICATION} {database}"


def moving_as(database: str, token: str) -> str:
    """What the connections of a move from or to this database are called."""
    return f"{serving_as(database)} move {token}"


async def users_of(driver: MongoDriver, own: str) -> Sequence[str]:
    """The addresses of connections that serve or move the driver's database, as far as its user may know; `own` are not told."""
    served = serving_as(driver.database)
    try:
        operations = await _connections(driver, served, all_users=True)
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        operations = await _connections(driver, served, all_users=False)
    return sorted(
        {
            str(operation.get("client", "?"))
            for operation in operations
            if (name := operation.get("appName", "")) != own
            and (name == served or name.startswith(f"{served} move "))
        }
    )


async def _connections(driver: MongoDriver, name: str, *, all_users: bool) -> Sequence[Mapping[str, Any]]:
    """Those whose name begins so. The server chooses them: it may have thousands of others."""
    looking = {"$currentOp": {"allUsers": all_users, "idleConnections": True}}
    ours = {"$match": {"appName": {"$regex": f"^{re.escape(name)}"}}}
    batch = {"batchSize": CONNECTIONS_TOLD_MAX}
    reply = await driver.admin("aggregate", pipeline=[looking, ours], cursor=batch)
    found: Sequence[Mapping[str, Any]] = reply["cursor"]["firstBatch"]
    return found


async def check_may_close(driver: MongoDriver) -> None:
    """Raises LogMismatchError if the user may not do what `close_for_writing` does. Changes nothing."""
    try:
        await driver.command({"collMod": COMMITS})
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        raise LogMismatchError(
            f"the MongoDB user may not close the database {driver.database} for writing: give it the role dbAdmin there for the"
            " time of the move, or move with an administrator's URI"
        ) from error


async def close_for_writing(driver: MongoDriver, place: str) -> None:
    """Nobody opens the log for writing from now on, and the server refuses every commit, also of a process that has it open."""
    await driver.update_one(LOG, LOG_DOCUMENT, {"$set": {"moved_to": place}})
    await driver.command({"collMod": COMMITS, "validator": NOTHING_FITS, "validationAction": "error"})


async def open_for_writing(driver: MongoDriver) -> None:
    """Take back what `close_for_writing` did."""
    await driver.command({"collMod": COMMITS, "validator": {}})
    await driver.update_one(LOG, LOG_DOCUMENT, {"$unset": {"moved_to": ""}})


async def call_whole(driver: MongoDriver, former_log_ids: Sequence[str]) -> None:
    """The log that was moved here may be used from now on. `former_log_ids`: see LogDocument."""
    former = list(former_log_ids)[-FORMER_IDS_MAX:]
    await driver.update_one(LOG, LOG_DOCUMENT, {"$set": {"former_log_ids": former, "is_arriving": False}})
