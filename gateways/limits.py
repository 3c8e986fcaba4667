"""Rate limits: token buckets by name, with an injected clock and a bound on their number.

What guards passwords and registrations is shared by all gateways (`SharedLimiter`); what guards a gateway's own time is its own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from domain.errors import Problem

BUCKETS_MAX = 100_000
"""Of one limit; the bucket that was unused longest is forgotten, which can only favour its owner."""


class Rate(msgspec.Struct, frozen=True):
    """`per_s` tokens flow in each second, up to `burst`."""

    per_s: float
    burst: float


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's defaults. `enabled` False lets everything pass."""

    enabled: bool = True
    registrations_per_min_address: int = 10
    logins_per_min_user: int = 10
    logins_per_min_address: int = 60
    rest_per_s_user: int = 50
    rest_burst_user: int = 200
    rest_per_s_address: int = 50
    rest_burst_address: int = 400
    socket_frames_per_s: int = 50
    socket_frames_burst: int = 200
    socket_strikes_per_min: int = 10
    sockets_per_session: int = 8
    sessions_per_user: int = 20


class Bucket:
    """One bucket for one owner, such as a socket; no clock of its own."""

    __slots__ = ("_at_s", "_rate", "_tokens")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at_s = now_s

    def take(self, now_s: float) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there is one (nothing is taken)."""
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0:
            self._tokens = min(self._rate.burst, self._tokens + elapsed_s * self._rate.per_s)
            self._at_s = now_s
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate.per_s


class Limiter:
    """Buckets of one rate by key, at most `buckets_max` of them."""

    def __init__(self, rate: Rate, monotonic_s: Callable[[], float], buckets_max: int = BUCKETS_MAX) -> None:
        self._rate = rate
        self._monotonic_s = monotonic_s
        self._buckets_max = buckets_max
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str) -> float:
        """Seconds to wait for a token of `key`, 0.0 if one was taken."""
        now_s = self._monotonic_s()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, now_s)
            if len(self._buckets) > self._buckets_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now_s)

    def __len__(self) -> int:
        return len(self._buckets)


class SharedLimiter(Protocol):
    """Buckets of one rate by key that several processes may share."""

    async def take(self, key: str) -> float:
        """Seconds to wait for a token of `key`, 0.0 if one was taken. Cancellation may have taken one."""
        ...


class LocalLimiter:
    """`SharedLimiter` of one process."""

    def __init__(self, rate: Rate, monotonic_s: Callable[[], float]) -> None:
        self._limiter = Limiter(rate, monotonic_s)

    async def take(self, key: str) -> float:
        """See the port."""
        return self._limiter.take(key)


Share = Callable[[str, Rate], SharedLimiter]
"""Makes the shared buckets of a name and a rate."""


def per_minute(count: int) -> Rate:
    """`count` at once, and as many again over each minute."""
    return Rate(count / 60, count)


class RateLimits:
    """The limits of the REST face. Each call takes a token or raises `rate_limited` with the time to wait."""

    def __init__(
        self, settings: LimitSettings, monotonic_s: Callable[[], float], share: Share | None = None
    ) -> None:
        self.settings = settings
        share = share or (lambda _, rate: LocalLimiter(rate, monotonic_s))
        self._registrations = share("registrations", per_minute(settings.registrations_per_min_address))
        self._logins_user = share("logins_user", per_minute(settings.logins_per_min_user))
        self._logins_address = share("logins_address", per_minute(settings.logins_per_min_address))
        self._rest_user = Limiter(Rate(settings.rest_per_s_user, settings.rest_burst_user), monotonic_s)
        self._rest_address = Limiter(
            Rate(settings.rest_per_s_address, settings.rest_burst_address), monotonic_s
        )

    async def registration(self, address: str) -> None:
        """One registration from an address."""
        await self._take_shared(self._registrations, address)

    async def login(self, tenant: str, user_id: str, address: str) -> None:
        """One try to log in; counted for the address and for the user, known or not."""
        await self._take_shared(self._logins_address, address)
        await self._take_shared(self._logins_user, f"{tenant}/{user_id}")

    def rest(self, tenant: str, user_id: str) -> None:
        """One REST call of an authenticated user."""
        self._take(self._rest_user, f"{tenant}/{user_id}")

    def anonymous(self, address: str) -> None:
        """One REST call without a valid token, so that guessing tokens is slow."""
        self._take(self._rest_address, address)

    async def _take_shared(self, limiter: SharedLimiter, key: str) -> None:
        if self.settings.enabled:
            _refuse_until(await limiter.take(key))

    def _take(self, limiter: Limiter, key: str) -> None:
        if self.settings.enabled:
            _refuse_until(limiter.take(key))


def _refuse_until(wait_s: float) -> None:
    if wait_s > 0:
        raise Problem("rate_limited", "too many calls", retry_after_ms=math.ceil(wait_s * 1000))
