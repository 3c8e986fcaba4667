"""Passwords: right, wrong, nobody's, and a full pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from commands.passwords import Passwords, check_password
from domain.errors import Problem


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """A cheap pool of one thread."""
    pool = Passwords(time_cost=1, memory_kib=64, threads=1, waiting_max=2)
    yield pool
    pool.close()


async def test_only_the_password_fits(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert stored.startswith(b"$argon2id$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horsf")
    assert not await passwords.verify(None, "correct horse")
    assert not await passwords.verify(b"no hash", "correct horse")
    assert not await passwords.verify(None, "the password of nobody")


async def test_a_full_pool_refuses(passwords: Passwords) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(passwords.hash("correct horse")) for _ in range(2)]
        await asyncio.wait(running, timeout=0)
        with pytest.raises(Problem) as refused:
            await passwords.hash("correct horse")
    assert refused.value.code == "overloaded"
    assert refused.value.retry_after_ms
    assert await passwords.hash("correct horse")


async def test_a_cancelled_call_keeps_its_place_until_its_hash_ends(passwords: Passwords) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(passwords.hash("correct horse")) for _ in range(2)]
        await asyncio.wait(running, timeout=0)
        running[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await running[0]
    assert await passwords.hash("correct horse")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257, "12345678\x00", "1234567\ud800"])
def test_bad_passwords_are_refused(password: str) -> None:
    with pytest.raises(Problem, match="validation_failed"):
        check_password("password", password)


@pytest.mark.parametrize("password", ["12345678", "x" * 256, "пароль12"])
def test_good_passwords_are_taken(password: str) -> None:
    check_password("password", password)
