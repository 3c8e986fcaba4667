"""The server as a process of its own, that tests stop, kill and start again over the same folder."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

START_S = 120.0
STOP_S = 31.0
"""A stop takes 30 at most."""
_ADDRESS = re.compile(rb"http://[\w.\[\]:]+")


class ServerProcess:
    """`minutebook serve` over a folder, at any free port unless one is given; `url` is where it listens now.

    Its log stands beside the folder. `prefix`: a command that runs the server's.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        roles: Sequence[str] = (),
    ) -> None:
        self.data = data
        self._prefix = prefix
        self._roles = ("--roles", ",".join(roles)) if roles else ()
        self.port = port
        self.url = ""
        self._environment = {**os.environ, "MINUTEBOOK_RATE_LIMIT": "off", **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def socket_url(self) -> str:
        """Where sockets connect."""
        return self.url.replace("http", "ws", 1) + "/v1/ws"

    @property
    def process_id(self) -> int:
        """Of the server that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        """What it said on stderr so far."""
        return self.data.with_suffix(".log").read_text()

    async def start(self) -> None:
        """Start it, and return when it answers."""
        command = str(Path(sys.executable).with_name("minutebook"))
        with self.data.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._prefix, command),
                *("serve", "--port", str(self.port), "--data", str(self.data), *self._roles),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        async with asyncio.timeout(START_S):
            self.url = await self._address()

    async def _address(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if found := _ADDRESS.search(line):
                return found[0].decode()
            if line.startswith(b"Minutebook runs as"):  # No gateway: it has no address.
                return ""
        raise AssertionError(f"the server did not start: {self.log[-2_000:]}")

    async def said(self) -> str:
        """The next line on stdout, after the address."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            return (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        """kill -9: nothing is flushed, nobody is told."""
        await self._end(SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and the exit code after the drain."""
        return await self._end(SIGTERM)

    def signal(self, number: Signals) -> None:
        """A signal without waiting for what comes of it."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """The exit code."""
        if self._process is None:
            return 0
        async with asyncio.timeout(STOP_S):
            # The pipe is read to its end, since an unread one would keep its transport open.
            await self._process.communicate()
        code = self._process.returncode
        self._process = None
        return -1 if code is None else code

    async def _end(self, number: Signals) -> int:
        self.signal(number)
        return await self.wait()
