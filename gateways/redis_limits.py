"""Token buckets that all gateways share, in Redis.

While Redis is away each gateway counts for itself: guessing passwords gets at most as many times faster as there are gateways, and
nobody is locked out by a dead cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import structlog

from gateways.limits import Limiter, Rate
from gateways.redis_driver import FastStore, FastStoreUnavailableError

_log = structlog.get_logger(__name__)

_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local per_s, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens, at = burst, now
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
if known[1] then
  at = math.max(now, tonumber(known[2]))
  tokens = math.min(burst, tonumber(known[1]) + (at - tonumber(known[2])) * per_s)
end
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / per_s end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', at))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return string.format('%.6f', wait)
"""
"""KEYS the bucket; ARGV tokens a second, burst, seconds until a bucket is full again. The seconds to wait, "0.000000" if a token was
taken."""


class RedisLimiter:
    """`gateways.limits.SharedLimiter` over Redis."""

    def __init__(self, store: FastStore, name: str, rate: Rate, monotonic_s: Callable[[], float]) -> None:
        self._store = store
        self._name = name
        self._rate = rate
        self._here = Limiter(rate, monotonic_s)
        self._away = False

    async def take(self, key: str) -> float:
        """See the port."""
        rate = self._rate
        full_s = max(1, math.ceil(rate.burst / rate.per_s))
        bucket = self._store.key(self._name, key)
        try:
            (wait,) = await self._store.run(_TAKE, [((bucket,), (rate.per_s, rate.burst, full_s))])
        except FastStoreUnavailableError as error:
            if not self._away:
                self._away = True
                _log.warning("limits count for this gateway only: Redis is away", error=str(error))
            return self._here.take(key)
        self._away = False
        return float(wait)
