"""How many frames wait in a transport's write buffer, which itself knows only bytes."""

from __future__ import annotations

from collections import deque


class Backlog:
    """The writes that may still be in the buffer, oldest first; exact to one write.

    Exists only while a peer lags, so that a peer that keeps up costs nothing.
    """

    __slots__ = ("_bytes", "_writes", "frames")

    def __init__(self) -> None:
        self._writes: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self.frames = 0

    def add(self, byte_count: int, frame_count: int) -> None:
        """Note one write."""
        self._writes.append((byte_count, frame_count))
        self._bytes += byte_count
        self.frames += frame_count

    def trim(self, unsent_bytes: int) -> None:
        """Forget the writes that have left, given the bytes that have not."""
        writes = self._writes
        while writes and self._bytes - writes[0][0] >= unsent_bytes:
            byte_count, frame_count = writes.popleft()
            self._bytes -= byte_count
            self.frames -= frame_count
