"""Presence: leases of live sockets, kept in memory, never events. Who may know is asked of the read side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

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


class Presence:
    """Counts live sockets per user and device kind. `changed` hears of every user that comes or goes."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._online: dict[User, dict[str, int]] = {}
        self._last_seen: OrderedDict[User, int] = OrderedDict()
        self.changed: Callable[[str, str], None] = _nobody_hears

    def came(self, tenant: str, user_id: str, device: str) -> None:
        """A socket of the user went live."""
        devices = self._online.setdefault((tenant, user_id), {})
        devices[device] = devices.get(device, 0) + 1
        if devices[device] == 1:
            self.changed(tenant, user_id)

    def went(self, tenant: str, user_id: str, device: str) -> None:
        """A live socket of the user is gone."""
        user = (tenant, user_id)
        devices = self._online.get(user)
        if devices is None or device not in devices:
            return
        devices[device] -= 1
        if devices[device]:
            return
        del devices[device]
        if not devices:
            del self._online[user]
            self._last_seen[user] = self._now_ms()
            self._last_seen.move_to_end(user)
            if len(self._last_seen) > LAST_SEEN_MAX:
                self._last_seen.popitem(last=False)
        self.changed(tenant, user_id)

    def row(self, tenant: str, user_id: str) -> PresenceRow:
        """The user's presence now."""
        user = (tenant, user_id)
        devices = self._online.get(user)
        if devices:
            return PresenceRow(
                user_id=user_id, online=True, devices=sorted(devices), last_seen=wire_time(self._now_ms())
            )
        seen = self._last_seen.get(user)
        return PresenceRow(
            user_id=user_id, online=False, devices=[], last_seen=None if seen is None else wire_time(seen)
        )

    def of(self, tenant: str, user_ids: Sequence[str]) -> list[PresenceRow]:
        """One row for each user, in the order asked."""
        return [self.row(tenant, user_id) for user_id in user_ids]


def _nobody_hears(_tenant: str, _user_id: str) -> None:
    """Until the socket side listens."""
