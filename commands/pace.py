"""When the next batch may leave: soon while little comes, at a slower pace while much comes."""

from __future__ import annotations


class Pace:
    """From start to start of batches `calm_ms` at least, `busy_ms` while at least `busy_per_s` things come a second; at once after an
    idle spell.

    What a batch costs beside its content is the same however much it carries. So it is spread over more where it adds up, and nobody waits
    for it where it does not.
    """

    __slots__ = ("_busy_per_s", "_busy_s", "_calm_s", "_due", "_left_at")

    def __init__(self, calm_ms: float, busy_ms: float, busy_per_s: float) -> None:
        self._calm_s = calm_ms / 1_000
        self._busy_s = busy_ms / 1_000
        self._busy_per_s = busy_per_s
        self._left_at = self._due = 0.0

    def wait_s(self, now: float) -> float:
        """How long the next batch has to wait; 0 or less: not at all. `now` in seconds of any one clock."""
        return self._due - now

    def leaves(self, now: float, count: int) -> None:
        """A batch of so many leaves."""
        is_busy = count >= self._busy_per_s * max(now - self._left_at, self._calm_s)
        self._left_at = now
        self._due = now + (self._busy_s if is_busy else self._calm_s)
