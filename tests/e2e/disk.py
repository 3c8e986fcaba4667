"""A disk of a few megabytes that a test can fill, for real: a tmpfs in a mount namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

_ROOT = os.geteuid() == 0
_UNSHARE = ("unshare", "--mount") if _ROOT else ("unshare", "--mount", "--user", "--map-root-user")
_ENTER = ("nsenter", "--mount") if _ROOT else ("nsenter", "--mount", "--user", "--preserve-credentials")
FILLER = "filler"


class SmallDisk:
    """Mounted at `folder` for those who run behind `prefix`; others see an empty folder there.

    The mount goes with the process that holds it, which ends when its stdin does: also after a kill -9 of the tests.
    """

    def __init__(self, folder: Path, holder: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self._holder = holder

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command, it runs where the disk is mounted."""
        return (*_ENTER, "--target", str(self._holder.pid), "--")

    async def run(self, script: str) -> None:
        """A shell script where the disk is mounted; it must succeed."""
        process = await asyncio.create_subprocess_exec(*self.prefix, "sh", "-ec", script)
        assert await process.wait() == 0, script

    async def fill(self, below: str = ".") -> None:
        """Leave not a byte of room."""
        filler = shlex.quote(str(self.folder / below / FILLER))
        await self.run(f"! dd if=/dev/zero of={filler} bs=4k status=none 2>/dev/null && test -s {filler}")

    async def empty(self, below: str = ".") -> None:
        """Give the room back."""
        await self.run(f"rm {shlex.quote(str(self.folder / below / FILLER))}")

    async def mount(self, below: str, size: str = "8m") -> None:
        """Another such disk in a folder on this one."""
        folder = shlex.quote(str(self.folder / below))
        await self.run(f"mkdir -p {folder} && mount -t tmpfs -o size={size} tmpfs {folder}")

    async def remount(self, options: str) -> None:
        """`ro` or `rw`; nobody may have a file open for writing."""
        await self.run(f"mount -o remount,{options} {shlex.quote(str(self.folder))}")


@contextlib.asynccontextmanager
async def small_disk(folder: Path, size: str = "8m") -> AsyncIterator[SmallDisk]:
    """Mount it; unmounted at the end, with everything on it gone."""
    script = f"mkdir -p {shlex.quote(str(folder))} && mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(folder))} && echo mounted && cat"
    holder = await asyncio.create_subprocess_exec(
        *_UNSHARE, "sh", "-ec", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"mounted\n", "unshare and mount are needed"
        yield SmallDisk(folder, holder)
    finally:
        holder.stdin.close()
        await holder.communicate()
