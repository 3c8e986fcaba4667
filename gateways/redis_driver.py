"""The connection to Redis: the only module that knows redis-py.

Redis holds what may be lost at any moment: leases, buckets, bells. So nothing is retried, every wait is bounded, and every failure
is one error that the callers have an answer to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import AuthenticationError, RedisError

TIMEOUT_S = 1.0
"""For a connection and for an answer; who waits longer than that for a hint does better without it."""
CONNECTIONS_MAX = 32
CALLS_PER_PIPELINE = 500
BELLS_WAIT_S = 1.0
OLDEST_MAJOR_VERSION = 7

Value = bytes | str | int | float
T = TypeVar("T")


class FastStoreUnavailableError(Exception):
    """Redis cannot be reached, is too slow, or refuses."""


class FastStoreCounters:
    """Plain counters. `available`: whether the newest call was answered."""

    __slots__ = ("available", "calls", "failures")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.available = True


class FastStoreUnfitError(Exception):
    """This Redis, or its address, will not do; the text says what to do."""


class FastStore:
    """One Redis. `prefix` parts one installation from another on it."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self.prefix = prefix
        self._scripts: dict[str, AsyncScript] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self.counters = FastStoreCounters()

    @classmethod
    async def open(cls, url: str, prefix: str) -> FastStore:
        """Connect and look at the version. Raises FastStoreUnavailableError and FastStoreUnfitError, with what to do."""
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                max_connections=CONNECTIONS_MAX,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:  # Its words may quote a part of the password.
            raise FastStoreUnfitError(
                "cluster.redis_url is no address of a Redis, such as redis://:password@host:6379/0"
            ) from None
        client = redis.Redis.from_pool(pool)
        store = cls(client, prefix)
        try:
            info = await client.info("server")
        except AuthenticationError as error:
            await store.close()
            raise FastStoreUnfitError(
                "Redis refuses the user name or the password of cluster.redis_url, or wants one"
            ) from error
        except (RedisError, OSError, ValueError) as error:
            await store.close()
            raise FastStoreUnavailableError(
                f"Redis at {_place_of(pool)} does not answer ({type(error).__name__}): start it, or mend cluster.redis_url"
            ) from error
        version = str(info.get("redis_version", "0"))
        if int(version.split(".", maxsplit=1)[0]) < OLDEST_MAJOR_VERSION:
            await store.close()
            raise FastStoreUnfitError(
                f"Redis {version} is too old: {OLDEST_MAJOR_VERSION}.0 or newer is needed"
            )
        return store

    async def claim(self, owner: str, former: Collection[str]) -> None:
        """Write down whose the prefix is, unless it is already; emptied, it is the first one's who asks.

        `owner` takes the place of any of `former`. Raises FastStoreUnfitError if it is somebody else's, FastStoreUnavailableError.
        """
        key = f"{self.prefix}:owner"
        try:
            standing = await self._client.set(key, owner, nx=True, get=True)
            told = standing.decode() if isinstance(standing, bytes) else standing
            if told in former:
                await self._client.set(key, owner)
            elif told not in (None, owner):
                raise self._of_another(str(told))
        except (RedisError, OSError) as error:
            raise FastStoreUnavailableError(type(error).__name__) from error

    async def check_unclaimed(self) -> None:
        """Raises FastStoreUnfitError if the prefix is somebody's already, FastStoreUnavailableError. Writes nothing."""
        try:
            standing = await self._client.get(f"{self.prefix}:owner")
        except (RedisError, OSError) as error:
            raise FastStoreUnavailableError(type(error).__name__) from error
        if standing is not None:
            raise self._of_another(standing.decode() if isinstance(standing, bytes) else str(standing))

    def _of_another(self, log_id: str) -> FastStoreUnfitError:
        return FastStoreUnfitError(
            f"what begins with {self.prefix} in this Redis is of the log {log_id!r}, which this cluster never had: set"
            f" cluster.cluster_id to a name of its own, use another Redis, or delete the key {self.prefix}:owner if that cluster is no"
            " more"
        )

    def key(self, kind: str, name: str) -> str:
        """A key of this installation. Everything of one name lies in one slot of a cluster."""
        return f"{self.prefix}:{kind}:{{{name}}}"

    async def run(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Value]]]) -> list[Any]:
        """Run a Lua script once for each (keys, arguments), in order; the answers in that order.

        Raises FastStoreUnavailableError; then any beginning of the calls may have happened. What a cancelled caller asked for happens.
        """
        return await self._whole(self._run(script, calls))

    async def _run(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Value]]]) -> list[Any]:
        answers: list[Any] = []
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self._client.register_script(script)
        try:
            for first in range(0, len(calls), CALLS_PER_PIPELINE):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for keys, arguments in calls[first : first + CALLS_PER_PIPELINE]:
                        await registered(keys, arguments, client=pipeline)
                    answers += await pipeline.execute()
        except (RedisError, OSError) as error:
            raise FastStoreUnavailableError(type(error).__name__) from error
        return answers

    async def ring(self, channel: str, text: str) -> None:
        """Tell all who listen now. Raises FastStoreUnavailableError."""
        await self._whole(self._ring(f"{self.prefix}:{channel}", text))

    async def _ring(self, channel: str, text: str) -> None:
        try:
            await self._client.publish(channel, text)
        except (RedisError, OSError) as error:
            raise FastStoreUnavailableError(type(error).__name__) from error

    @asynccontextmanager
    async def bells(self, channel: str) -> AsyncIterator[AsyncIterator[str | None]]:
        """What is rung after the first answer, which is None, as are others when nothing was rung for a while.

        Raises FastStoreUnavailableError, also later.
        """
        listening = self._client.pubsub()
        try:
            await self._whole(listening.subscribe(f"{self.prefix}:{channel}"))
            yield _heard(listening)
        except (RedisError, OSError) as error:
            raise FastStoreUnavailableError(type(error).__name__) from error
        finally:
            await listening.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Let calls under way end, and close all connections. Idempotent."""
        if self._calls:
            await asyncio.wait(tuple(self._calls))
        await self._client.aclose()

    async def _whole(self, call: Coroutine[Any, Any, T]) -> T:
        """The answer. redis-py forgets a connection whose making is cancelled, so a cancelled caller leaves the call to end by itself."""
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            failed = task.exception() is not None  # Looked at here, since whoever asked may be gone.
            self.counters.calls += 1
            self.counters.failures += failed
            self.counters.available = not failed


def _place_of(pool: redis.ConnectionPool) -> str:
    """Where the pool connects to, without the password."""
    options = pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


async def _heard(listening: Any) -> AsyncIterator[str | None]:
    while True:
        message = await listening.get_message(timeout=BELLS_WAIT_S)
        rung = message is not None and message["type"] == "message"
        yield bytes(message["data"]).decode("utf-8", "replace") if rung else None
