"""Presence shared by several gateways: leases in Redis, one sorted set per user, and a bell that rings when somebody comes or goes.

A lease that nobody renews runs out, so a killed gateway takes its users offline after LEASE_S; a Redis that was emptied is right
again after RENEW_S. While Redis is away, everybody sees who is online at his own gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from commands.tasks import TaskOwner
from gateways.presence import LiveSockets, PresenceRow, User, nobody_hears, presence_row
from gateways.redis_driver import FastStore, FastStoreUnavailableError, Value

_log = structlog.get_logger(__name__)

LEASE_S = 30.0
RENEW_S = 10.0
LAST_SEEN_S = 30 * 86_400
PAUSE_S = 1.0
"""Between two tries while Redis is away."""
PENDING_MAX = 100_000
"""Users whose coming or going is not told yet; beyond, the renewal tells it."""
CHANNEL = "presence"

_SET = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local before = redis.call('ZCARD', KEYS[1])
local lease = tonumber(ARGV[2])
local mine = redis.call('ZRANGE', KEYS[1], 0, -1)
local kept = {}
for i = 4, #ARGV do
  kept[ARGV[i] .. '@' .. ARGV[1]] = true
  redis.call('ZADD', KEYS[1], now + lease, ARGV[i] .. '@' .. ARGV[1])
end
local changed = 0
for _, member in ipairs(mine) do
  if string.sub(member, -#ARGV[1] - 1) == '@' .. ARGV[1] then
    if kept[member] then kept[member] = nil else
      redis.call('ZREM', KEYS[1], member)
      changed = 1
    end
  end
end
if next(kept) then changed = 1 end
if redis.call('ZCARD', KEYS[1]) > 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
elseif before > 0 then
  redis.call('SET', KEYS[2], now, 'EX', ARGV[3])
end
return changed
"""
"""KEYS leases, last sight; ARGV gateway, lease ms, seconds to remember, device kinds with a live socket at this gateway. Whether a
device came or went."""

_GET = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local live = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
if #live > 0 then return {now, live} end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local seen = redis.call('GET', KEYS[2])
return {seen or newest[2] and string.format('%.0f', newest[2]) or false, live}
"""
"""KEYS leases, last sight. The time, or the last sight or nil, and the live `device@gateway`."""


class RedisPresence:
    """`gateways.presence.Presence` over Redis. Use `start`, then `close`, which takes this gateway's users offline."""

    def __init__(
        self,
        store: FastStore,
        gateway_id: str,
        *,
        lease_s: float = LEASE_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._store = store
        self._gateway_id = gateway_id
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._live = LiveSockets()
        self._pending: dict[User, None] = {}
        self._work = asyncio.Event()
        self._told: dict[User, bool] = {}
        self._tasks = TaskOwner("presence", 3)
        self._away = False
        self._missed = False
        """Redis was away: bells were not heard, and leases may be gone."""
        self._tell_again = False
        """The next look tells of everybody, changed or not."""
        self.listening = asyncio.Event()
        """Set while the bells of other gateways are heard."""
        self.changed: Callable[[str, str], None] = nobody_hears
        self._watched: Callable[[], Iterable[User]] = tuple

    def start(self, watched: Callable[[], Iterable[User]]) -> None:
        """Begin to tell, to renew and to listen.

        `watched` are looked at every RENEW_S: a lease that runs out rings no bell.
        """
        self._watched = watched
        self._tasks.start(self._tell_for_ever())
        self._tasks.start(self._renew_for_ever())
        self._tasks.start(self._listen_for_ever())

    async def close(self) -> None:
        """Take this gateway's users offline and end the tasks. Idempotent."""
        await self._tasks.close()
        users = dict.fromkeys((*self._live.users(), *self._pending))
        self._live = LiveSockets()
        self._pending.clear()
        try:
            await self._tell(list(users))
        except FastStoreUnavailableError as error:
            self._failed(error)

    def came(self, tenant: str, user_id: str, device: str) -> None:
        """See the port."""
        if self._live.add((tenant, user_id), device):
            self._change((tenant, user_id))

    def went(self, tenant: str, user_id: str, device: str) -> None:
        """See the port."""
        if self._live.remove((tenant, user_id), device):
            self._change((tenant, user_id))

    async def of(self, tenant: str, user_ids: Sequence[str]) -> list[PresenceRow]:
        """See the port. While Redis is away: who is online here."""
        users = [(tenant, user_id) for user_id in user_ids]
        try:
            answers = await self._store.run(_GET, [(self._keys(user), ()) for user in users])
        except FastStoreUnavailableError as error:
            self._failed(error)
            return [presence_row(user[1], self._live.devices_of(user), None) for user in users]
        return [self._row(user, *answer) for user, answer in zip(users, answers, strict=True)]

    def _row(self, user: User, seen: bytes | int | None, live: Sequence[bytes]) -> PresenceRow:
        # What Redis says of this gateway may be older than what it knows itself.
        elsewhere = (member.decode().rpartition("@") for member in live)
        devices = {device for device, _, gateway in elsewhere if gateway != self._gateway_id}
        devices.update(self._live.devices_of(user))
        return presence_row(user[1], sorted(devices), None if seen is None else int(seen))

    def _change(self, user: User) -> None:
        if len(self._pending) < PENDING_MAX:
            self._pending[user] = None
            self._work.set()

    def _keys(self, user: User) -> tuple[str, str]:
        name = "/".join(user)
        return self._store.key("online", name), self._store.key("seen", name)

    async def _set(self, users: Sequence[User]) -> list[User]:
        """Write how these users stand at this gateway; those of whom that was news."""
        lease_ms = int(self._lease_s * 1_000)
        calls: list[tuple[Sequence[str], Sequence[Value]]] = [
            (self._keys(user), (self._gateway_id, lease_ms, LAST_SEEN_S, *self._live.devices_of(user)))
            for user in users
        ]
        answers = await self._store.run(_SET, calls)
        return [user for user, changed in zip(users, answers, strict=True) if changed]

    async def _tell(self, users: Sequence[User]) -> None:
        """Write how they stand, and ring for those of whom that was news."""
        for user in await self._set(users):
            await self._store.ring(CHANNEL, "/".join(user))

    async def _tell_for_ever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            users = list(self._pending)
            self._pending.clear()
            try:
                await self._tell(users)
                self._back()
            except FastStoreUnavailableError as error:
                self._failed(error)
                for user in users:
                    self._pending.setdefault(user)
                    self.changed(*user)  # Who is here sees it at least.
                await asyncio.sleep(PAUSE_S)
                self._work.set()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await self._set(self._live.users())
                await self._look_at(list(self._watched()))
                self._back()
            except FastStoreUnavailableError as error:
                self._failed(error)

    async def _look_at(self, users: Sequence[User]) -> None:
        answers = await self._store.run(_GET, [(self._keys(user), ()) for user in users])
        told, self._told = self._told, {}
        again, self._tell_again = self._tell_again, False
        for user, (_, live) in zip(users, answers, strict=True):
            self._told[user] = bool(live)
            if again or told.get(user, bool(live)) is not bool(live):
                self.changed(*user)

    def _back(self) -> None:
        """Redis answers. If it was away, the leases here are set again, with a bell for those that were gone, and whoever watches is told
        again, now and once the other gateways have had the time to do the same.
        """
        self._away = False
        if not self._missed:
            return
        self._missed = False
        self._tell_again = True
        for user in self._live.users():
            self._change(user)
        for user in list(self._watched()):
            self.changed(*user)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with self._store.bells(CHANNEL) as bells:
                    async for text in bells:
                        self.listening.set()
                        if self._missed:
                            self._back()
                        if text is not None:
                            self._heard(text)
            except FastStoreUnavailableError as error:
                self.listening.clear()
                self._failed(error)
                await asyncio.sleep(PAUSE_S)

    def _heard(self, text: str) -> None:
        tenant, _, user_id = text.partition("/")
        self.changed(tenant, user_id)

    def _failed(self, error: Exception) -> None:
        self._missed = True
        if not self._away:
            self._away = True
            _log.warning("presence is told of this gateway only: Redis is away", error=str(error))
