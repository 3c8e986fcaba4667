"""Presence: leases of live sockets, never events. Who may know is asked of the read side.

One process keeps them in memory, several share them in Redis (`gateways.redis_presence`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from projections.wire import wire_time

LAST_SEEN_MAX = 200_000
"""Users whose last sight is remembered; the oldest are forgotten."""

User = tuple[str, str]


class PresenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One user's presence; `last_seen` is RFC 3339, None when never seen since the server started."""

    user_id: str
    online: bool
    devices: list[str]
    last_seen: str | None = None


class Presence(Protocol):
    """Who is online, by what kinds of devices. `changed` hears of every user that comes or goes, at least once."""

    changed: Callable[[str, str], None]

    def start(self, watched: Callable[[], Iterable[User]]) -> None:
        """Begin to tell. `watched` names users whose rows somebody here follows."""
        ...

    async def close(self) -> None:
        """Take everybody offline whose sockets are here, where others can see it. Idempotent."""
        ...

    def came(self, tenant: str, user_id: str, device: str) -> None:
        """A socket of the user went live here."""
        ...

    def went(self, tenant: str, user_id: str, device: str) -> None:
        """A live socket of the user is gone from here."""
        ...

    async def of(self, tenant: str, user_ids: Sequence[str]) -> list[PresenceRow]:
        """One row for each user, in the order asked. A hint: never raises because a store is away."""
        ...


class LiveSockets:
    """Counts the live sockets of this process per user and device kind."""

    def __init__(self) -> None:
        self._devices: dict[User, dict[str, int]] = {}

    def add(self, user: User, device: str) -> bool:
        """One more; whether it is the first of its device kind."""
        devices = self._devices.setdefault(user, {})
        devices[device] = devices.get(device, 0) + 1
        return devices[device] == 1

    def remove(self, user: User, device: str) -> bool:
        """One less; whether it was the last of its device kind. One that was never added changes nothing."""
        devices = self._devices.get(user)
        if devices is None or device not in devices:
            return False
        devices[device] -= 1
        if devices[device]:
            return False
        del devices[device]
        if not devices:
            del self._devices[user]
        return True

    def devices_of(self, user: User) -> list[str]:
        """The kinds of devices with a live socket, sorted."""
        return sorted(self._devices.get(user, ()))

    def users(self) -> list[User]:
        """Everybody with a live socket."""
        return list(self._devices)


class MemoryPresence:
    """Presence of one process."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._live = LiveSockets()
        self._last_seen: OrderedDict[User, int] = OrderedDict()
        self.changed: Callable[[str, str], None] = nobody_hears

    def start(self, watched: Callable[[], Iterable[User]]) -> None:
        """See the port: everything that happens is told at once."""

    async def close(self) -> None:
        """See the port: nobody else can see it."""

    def came(self, tenant: str, user_id: str, device: str) -> None:
        """See the port."""
        if self._live.add((tenant, user_id), device):
            self.changed(tenant, user_id)

    def went(self, tenant: str, user_id: str, device: str) -> None:
        """See the port."""
        user = (tenant, user_id)
        if not self._live.remove(user, device):
            return
        if not self._live.devices_of(user):
            self._last_seen[user] = self._now_ms()
            self._last_seen.move_to_end(user)
            if len(self._last_seen) > LAST_SEEN_MAX:
                self._last_seen.popitem(last=False)
        self.changed(tenant, user_id)

    async def of(self, tenant: str, user_ids: Sequence[str]) -> list[PresenceRow]:
        """See the port."""
        return [self._row((tenant, user_id)) for user_id in user_ids]

    def _row(self, user: User) -> PresenceRow:
        devices = self._live.devices_of(user)
        return presence_row(user[1], devices, self._now_ms() if devices else self._last_seen.get(user))


def presence_row(user_id: str, devices: list[str], last_seen_ms: int | None) -> PresenceRow:
    """The row of a user with live sockets of these kinds of devices."""
    last_seen = None if last_seen_ms is None else wire_time(last_seen_ms)
    return PresenceRow(user_id=user_id, online=bool(devices), devices=devices, last_seen=last_seen)


def nobody_hears(_tenant: str, _user_id: str) -> None:
    """`changed`, until the socket side listens."""
