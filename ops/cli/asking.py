"""Asking the server, or doing it oneself where none runs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ops.cli.failing import tell
from ops.cli.options import settings_of
from ops.control import NoServerError, ask, perform
from ops.folder import DataFolder
from ops.operations import Report, Request

T = TypeVar("T")
CATCH_UP_S = 3_600.0
"""How long a folder that no server has open may take to bring its views up."""


async def operate(
    folder: DataFolder, config: Path | None, request: Request, answer: type[T], report: Report | None = None
) -> T:
    """Let the server of the folder do it; if none runs, open the folder and do it here. In a cluster only a running process does it.

    Raises what `ask` and `open_server` raise.
    """
    try:
        return await ask(folder.control, request, answer, report)
    except NoServerError:
        if settings_of(config, data=folder.root).in_cluster:
            raise NoServerError(
                f"nothing runs on {folder.root} that could do it: in a cluster, give --data of a running process that writes views"
                " (the role projector, or all roles in one)"
            ) from None
        tell(f"no server runs on {folder.root}; opening it")
    from eventlog.sqlite import SqliteLog
    from ops.operating import ServerOperations
    from ops.wiring import open_server

    log = await SqliteLog.open_read_only(folder.log, readers=1)
    shards = log.shard_count
    await log.close()
    settings = settings_of(config, data=folder.root, shards=shards)
    async with open_server(settings) as server:
        await server.views.caught_up(server.node.head_positions(), CATCH_UP_S)
        result = await perform(ServerOperations(server), request, report or _unheard)
    return msgspec.convert(result, answer)


def _unheard(_progress: object) -> None:
    """Nobody watches."""
