"""What the calls of one client have seen of MongoDB's clock, so that none of the later ones sees less."""

# ruff: noqa: SLF001 - The driver tells the time of a snapshot nowhere else.
from __future__ import annotations

import threading

from bson.timestamp import Timestamp
from pymongo.client_session import ClientSession


class SeenTime:
    """The newest time that a majority stood behind. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time: Timestamp | None = None

    def bring(self, session: ClientSession) -> None:
        """What this session reads next shows all that was seen."""
        if self._time is not None:
            session.advance_operation_time(self._time)

    def take(self, session: ClientSession) -> None:
        """A call of this session was answered."""
        self._see(session.operation_time)

    def reached(self, session: ClientSession) -> bool:
        """Whether a snapshot, whose first read was answered, shows all that was seen before; if so, it was seen."""
        moment: Timestamp | None = session._snapshot_time
        if moment is None:
            return True
        if self._time is not None and moment < self._time:
            return False
        self._see(moment)
        return True

    def _see(self, time: Timestamp | None) -> None:
        with self._lock:
            if time is not None and (self._time is None or time > self._time):
                self._time = time
