"""The process of the move's crash test. Not a test.

`move_child SOURCE TARGET STAGE COUNT`: moves between the places as `minutebook move` does, and kills itself at the COUNTth report of the
stage, or for the stage `renaming` between the two names that a folder's files get.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from ops import backup
from ops.cli.moving import source_of, target_of
from ops.moving import transfer
from ops.settings import load_settings

PAGE_COMMITS = 3


async def move(source: str, target: str, stage: str, count: int) -> None:
    """Until killed."""
    left = count

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def report(now: transfer.Stage, _done: int, _total: int) -> None:
        nonlocal left
        left -= now == stage
        if now == stage and left == 0:
            killed()

    def renamed(path: Path) -> None:
        if path == Path(target):
            killed()

    if stage == "renaming":
        backup.sync = renamed
    transfer.PAGE_COMMITS = PAGE_COMMITS
    settings = load_settings()
    async with source_of(settings, source) as here, target_of(settings, target, here) as there:
        await transfer.Move(here, there, report).run()


if __name__ == "__main__":
    asyncio.run(move(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
