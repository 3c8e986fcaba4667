"""Faults that are stories of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from client.problem import ConnectionLostError
from client.rest import RestClient
from client.socket import SocketClient
from tests.faults.cutting import socket_at
from tests.faults.member import PASSWORD
from tests.faults.stage import Stage
from tests.faults.waiting import NotReachedError, pause

REVOKED_S_MAX = 5.0
"""Within which the sockets of an ended session end, Kafka or not; the product promises about two seconds."""
BEFORE_S = 2.0
"""Kafka has been away for so long when the session is ended."""


async def empty_redis_in_quiet(stage: Stage) -> float:
    """Nobody writes; Redis loses everything; then one message is written, and comes."""
    await stage.load.settle()
    said = await asyncio.to_thread(stage.redis.nodes[0].ask, "FLUSHALL")
    assert said == "+OK", said
    at = asyncio.get_running_loop().time()
    stage.load.go()
    await stage.load.more(1)
    return at


def revoke_without_kafka(away_s: float) -> Callable[[Stage], Awaitable[float]]:
    """All brokers are away; a session is ended at one gateway, and its socket at the other one ends in time."""

    async def hurt(stage: Stage) -> float:
        user_id = stage.load.members[0].user_id
        first, second = stage.gateways[:2]
        async with RestClient(first) as rest:
            token = (await rest.log_in(user_id, PASSWORD, "revoked")).access_token
            async with await socket_at(second, token) as socket:
                await asyncio.to_thread(stage.kafka.kill)
                await pause(BEFORE_S)
                await rest.as_user(token).end_session()
                begun = asyncio.get_running_loop().time()
                code = await close_code_of(socket)
                ended_s = asyncio.get_running_loop().time() - begun
            if ended_s > REVOKED_S_MAX:
                raise NotReachedError(f"the socket ended with {code} only after {ended_s:.1f} s")
        await pause(max(0.0, away_s - BEFORE_S - ended_s))
        at = asyncio.get_running_loop().time()
        await asyncio.to_thread(stage.kafka.start)
        return at

    return hurt


async def close_code_of(socket: SocketClient) -> int:
    """How it ended. Raises NotReachedError."""
    try:
        async with asyncio.timeout(REVOKED_S_MAX):
            await socket.until_end()
    except ConnectionLostError as error:
        return error.close_code
    except TimeoutError:
        raise NotReachedError(f"a session was ended {REVOKED_S_MAX:g} s ago, its socket was not") from None
