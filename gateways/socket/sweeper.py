"""One timer for all sockets: a wheel whose slots are the sets of sockets due in the same tick.

Time is counted in ticks that really ran: a process that stood still for a minute cuts nobody for silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

WHEEL_SLOTS: Final = 128
NOT_IN_WHEEL: Final = -1
TICK_S: Final = 1.0


class Swept(Protocol):
    """A member of the wheel. `wheel_slot` belongs to the sweeper and begins as NOT_IN_WHEEL."""

    wheel_slot: int

    def on_due(self) -> None:
        """Called when due, outside the wheel: schedules itself again or is forgotten. May come early."""


MemberT = TypeVar("MemberT", bound=Swept)


class SocketSweeper(Generic[MemberT]):
    """Owns one loop timer, which runs only while there are members.

    `tick_s` is the length of a tick; tests pass no loop and call `tick` themselves.
    """

    def __init__(self, tick_s: float = TICK_S, *, ticks_itself: bool = True) -> None:
        self.now = 0
        self.tick_s = tick_s
        self._ticks_itself = ticks_itself
        self._slots: list[set[MemberT]] = [set() for _ in range(WHEEL_SLOTS)]
        self._timer: asyncio.TimerHandle | None = None
        self._member_count = 0

    def __len__(self) -> int:
        return self._member_count

    def __iter__(self) -> Iterator[MemberT]:
        """The members as they are now; the caller may change the wheel while iterating."""
        return iter([member for slot in self._slots for member in slot])

    @property
    def is_running(self) -> bool:
        """Whether the timer is set."""
        return self._timer is not None

    def schedule(self, member: MemberT, ticks: int) -> None:
        """Make the member due in so many ticks, instead of whenever it was; at most WHEEL_SLOTS - 1."""
        self.discard(member)
        slot = (self.now + max(1, min(ticks, WHEEL_SLOTS - 1))) % WHEEL_SLOTS
        self._slots[slot].add(member)
        member.wheel_slot = slot
        self._member_count += 1
        if self._timer is None and self._ticks_itself:
            self._timer = asyncio.get_running_loop().call_later(self.tick_s, self._on_timer)

    def discard(self, member: MemberT) -> None:
        """Forget the member; nothing happens if it is unknown."""
        if member.wheel_slot != NOT_IN_WHEEL:
            self._slots[member.wheel_slot].discard(member)
            member.wheel_slot = NOT_IN_WHEEL
            self._member_count -= 1

    def tick(self) -> None:
        """Let one tick pass: call every member that is due."""
        self.now += 1
        slot = self.now % WHEEL_SLOTS
        due, self._slots[slot] = self._slots[slot], set()
        self._member_count -= len(due)
        for member in due:
            member.wheel_slot = NOT_IN_WHEEL
        for member in due:
            member.on_due()

    def close(self) -> None:
        """Stop the timer; members stay listed but are never due again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticks_itself = False

    def _on_timer(self) -> None:
        self._timer = None
        self.tick()
        if self._member_count and self._ticks_itself and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.tick_s, self._on_timer)
