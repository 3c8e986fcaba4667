"""Refresh tokens: rotation, lost answers, reuse."""

from __future__ import annotations

import asyncio

import pytest

from commands.refresh import KIND, RefreshReused, RefreshTokens
from domain.errors import Problem
from eventlog.secrets import MemorySecrets

NOW = 1_800_000_000_000
KEY = b"k" * 32


async def test_every_use_gives_a_successor() -> None:
    tokens = RefreshTokens(MemorySecrets(), KEY)
    first = await tokens.issue("default", "ann", "s_1", NOW)
    second = await tokens.turn_over(first.token, NOW + 1)
    third = await tokens.turn_over(second.token, NOW + 2)
    assert len({first.token, second.token, third.token}) == 3
    assert third.expires_at == NOW + 2 + 30 * 24 * 3600 * 1000
    assert (third.tenant, third.user_id, third.session_id) == ("default", "ann", "s_1")


async def test_a_lost_answer_is_given_again_within_a_minute() -> None:
    tokens = RefreshTokens(MemorySecrets(), KEY)
    first = await tokens.issue("default", "ann", "s_1", NOW)
    second = await tokens.turn_over(first.token, NOW)
    assert (await tokens.turn_over(first.token, NOW + 60_000)).token == second.token
    third = await tokens.turn_over(second.token, NOW + 30_000)
    assert (await tokens.turn_over(first.token, NOW + 59_000)).token == second.token
    assert third.token != second.token
    with pytest.raises(RefreshReused):
        await tokens.turn_over(first.token, NOW + 60_001)


async def test_uses_at_once_get_the_same_successor() -> None:
    tokens = RefreshTokens(MemorySecrets(), KEY)
    first = await tokens.issue("default", "ann", "s_1", NOW)
    answers = await asyncio.gather(*(tokens.turn_over(first.token, NOW) for _ in range(5)))
    assert len({answer.token for answer in answers}) == 1


async def test_other_tokens_are_refused_and_end_nothing() -> None:
    tokens, others = RefreshTokens(MemorySecrets(), KEY), RefreshTokens(MemorySecrets(), b"x" * 32)
    first = await tokens.issue("default", "ann", "s_1", NOW)
    foreign = await others.issue("default", "ann", "s_1", NOW)
    head, place, mac = first.token.split(".")
    forged = [
        foreign.token,
        "",
        "x",
        "mbr1..",
        f"{head}.{place}.",
        f"{head}.{place}.{mac}x",
        f"mbr2.{place}.{mac}",
    ]
    for token in [*forged, "mbr1.é.é", first.token + "\ud800"]:
        with pytest.raises(Problem, match="unauthenticated"):
            await tokens.turn_over(token, NOW)
    assert (await tokens.turn_over(first.token, NOW)).session_id == "s_1"


async def test_an_expired_or_ended_family_is_refused() -> None:
    tokens = RefreshTokens(MemorySecrets(), KEY, lifetime_s=10)
    first = await tokens.issue("default", "ann", "s_1", NOW)
    with pytest.raises(Problem, match="unauthenticated"):
        await tokens.turn_over(first.token, NOW + 10_000)
    await tokens.end("default", "ann", "s_1")
    with pytest.raises(Problem, match="unauthenticated"):
        await tokens.turn_over(first.token, NOW)


async def test_the_store_holds_no_token() -> None:
    store = MemorySecrets()
    first = await RefreshTokens(store, KEY).issue("default", "ann", "s_1", NOW)
    (stored,) = (await store.list(KIND)).values()
    assert first.token.rpartition(".")[2].encode() not in stored
