"""Whether the log takes writes: told by the flushes, and found out while nobody flushes."""

from __future__ import annotations

import asyncio

import structlog

from commands.tasks import TaskOwner
from eventlog.port import Log, LogUnavailableError, OutcomeUnknownError

_log = structlog.get_logger(__name__)


class LogHealth:
    """Remembers the last failure of a write, and tries the log every `probe_s` until it takes writes again.

    Without trials readiness would wait for a write that nobody sends to a server that is not ready. Used between `start` and `close`.
    """

    def __init__(self, log: Log, probe_s: float) -> None:
        self._log = log
        self._probe_s = probe_s
        self._refusing = asyncio.Event()
        self._tasks = TaskOwner("log-health", 1)

    @property
    def writable(self) -> bool:
        """Whether the newest write or trial went through."""
        return not self._refusing.is_set()

    def start(self) -> None:
        """Begin to watch."""
        self._tasks.start(self._watch())

    async def close(self) -> None:
        """Stop. Idempotent."""
        await self._tasks.close()

    def failed(self, error: LogUnavailableError | OutcomeUnknownError) -> None:
        """A write was refused, or nobody knows."""
        if self._refusing.is_set():
            return
        self._refusing.set()
        _log.error(
            "the event log refuses writes",
            error=str(error),
            advice="make room on its disk, or make it writable again; writes resume by themselves",
        )

    def worked(self) -> None:
        """A write went through."""
        if self._refusing.is_set():
            self._refusing.clear()
            _log.info("the event log takes writes again")

    async def _watch(self) -> None:
        while True:
            await self._refusing.wait()
            await asyncio.sleep(self._probe_s)
            try:
                await self._log.probe()
            except (LogUnavailableError, OutcomeUnknownError) as error:
                self.failed(error)
            else:
                self.worked()
