"""Password hashes: Argon2id off the loop, in a pool that refuses instead of growing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from domain.errors import Problem, invalid

PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 256
POOL_THREADS = 2
POOL_WAITING_MAX = 32
"""Hashes that run or wait; one more is `overloaded`."""
RETRY_AFTER_MS = 1_000
_NOBODYS_PASSWORD = "the password of nobody"  # noqa: S105 - guards nothing

T = TypeVar("T")


def check_password(field: str, password: str) -> None:
    """Refuse a new password that is too short, too long or holds NUL or lone surrogates."""
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise invalid(field, f"must have {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")
    if "\x00" in password:
        raise invalid(field, "must not hold NUL")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise invalid(field, "must be Unicode text") from None


class Passwords:
    """Hashes and verifies. Costs: `time_cost` passes over `memory_kib`, one lane a hash.

    Cancelling a call leaves its hash running in its thread, and its place taken until it has ended.
    """

    def __init__(
        self,
        *,
        time_cost: int = 3,
        memory_kib: int = 64 * 1024,
        threads: int = POOL_THREADS,
        waiting_max: int = POOL_WAITING_MAX,
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=1, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting_max = waiting_max
        self._waiting = 0
        # Made ahead, so that the first unknown user takes no longer than the others; the pool's threads take
        # their work in order, so whoever waits for it waits for a hash that runs already.
        self._nobodys_hash = self._pool.submit(self._hasher.hash, _NOBODYS_PASSWORD)

    async def hash(self, password: str) -> bytes:
        """The hash, with its parameters. Raises `overloaded` when the pool is full."""
        return (await self._run(lambda: self._hasher.hash(password))).encode()

    async def verify(self, stored: bytes | None, password: str) -> bool:
        """Whether the password fits; None (no such user) takes the time of a real one and is False."""
        return await self._run(lambda: self._verify(stored, password))

    def _verify(self, stored: bytes | None, password: str) -> bool:
        if stored is None:
            self._fits(self._nobodys_hash.result(), password)
            return False
        return self._fits(stored.decode("ascii", "replace"), password)

    def _fits(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._waiting_max:
            raise Problem("overloaded", "too many log-ins at once", retry_after_ms=RETRY_AFTER_MS)
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Let running hashes end and refuse new ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)
