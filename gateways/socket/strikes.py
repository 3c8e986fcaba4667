"""Offences of one socket, counted over the last minute."""

from __future__ import annotations

STRIKE_WINDOW_S = 60.0


class Strikes:
    """Offences within a minute."""

    __slots__ = ("_at_s", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at_s: list[float] = []

    def strike(self, now_s: float) -> bool:
        """Count one; whether that was the last one allowed."""
        self._at_s = [at_s for at_s in self._at_s if at_s > now_s - STRIKE_WINDOW_S]
        self._at_s.append(now_s)
        return len(self._at_s) >= self._limit
