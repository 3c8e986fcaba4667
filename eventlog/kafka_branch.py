"""Whether the topic carries what the log no longer has: then the database was put back to an older backup, and nobody said so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventlog.carrier import CarriedRecord, TopicMismatchError
from eventlog.kafka_record import Carried, ForgedRecordError, carried_of
from eventlog.port import Log

LOOKS = 10
LOOK_PAUSE_S = 0.2
"""A primary that was just elected may show what a majority had a moment ago: the log is asked again before it is accused."""


async def check_branch(name: str, newest: Sequence[CarriedRecord], log: Log) -> None:
    """Raises TopicMismatchError if one of the topic's newest records is of the log, by its present id, and does not stand in it.

    They were taken from the topic before: whatever had been sent by then was written. Also raises LogUnavailableError.
    """
    lost = await lost_branch(log, newest)
    for _ in range(LOOKS):
        if lost is None:
            return
        await asyncio.sleep(LOOK_PAUSE_S)
        lost = await lost_branch(log, newest)
    raise TopicMismatchError(
        f"the topic {name} carries {lost} of this log, which the log does not hold: if its database was put back to an older"
        " backup, stop all roles and run `minutebook restore --in-place` before anything is written"
    )


async def lost_branch(log: Log, newest: Sequence[CarriedRecord]) -> str | None:
    """`shard:position` of a record that carries the log's present id and that it does not hold. Raises LogUnavailableError."""
    for record in newest:
        carried = _own(log, record)
        if carried is None:
            continue
        commit = carried.commit
        found = await log.read_shard(commit.shard, commit.position - 1, 1)
        if not found or (found[0].position, found[0].frame) != (commit.position, commit.frame):
            return f"{commit.shard}:{commit.position}"
    return None


def _own(log: Log, record: CarriedRecord) -> Carried | None:
    """What it carries, if it can be believed and names the log's present id."""
    try:
        carried = carried_of(record)
    except ForgedRecordError:
        return None  # No reader applies it; `audit compare` tells of it.
    return carried if carried.log_id == log.log_id else None
