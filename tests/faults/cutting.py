"""The answer is cut off after the commit: the request passes, the acknowledgement never comes, and the same key is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from client.frames import Ack
from client.problem import ConnectionLostError, ProblemError
from client.rest import RestClient
from client.socket import SocketClient
from tests.faults.ledger import Sent
from tests.faults.member import PASSWORD, Member
from tests.faults.proxy import Direction, Proxy
from tests.faults.stage import Stage
from tests.faults.waiting import NotReachedError, pause

SENDS = 25
"""At a time, all under way when the answers are held."""
SEEN_S_MAX = 60.0
ANSWER_S_MAX = 60.0
ATTEMPTS_MAX = 120
HELLO_AGAIN_S = 0.5


async def cut_client(stage: Stage) -> float:
    """Between a client and its gateway: the connection is reset while the answers are held."""
    writer = stage.load.members[0]
    url = stage.chance.choice(stage.gateways)
    parts = urlsplit(url)
    async with Proxy((parts.hostname or "", parts.port or 0)) as proxy:
        way = f"http://{proxy.address}"
        async with RestClient(url) as rest:
            token = (await rest.log_in(writer.user_id, PASSWORD, "cut")).access_token
        sends = batch_of(stage, writer)
        async with await socket_at(way, token) as socket:
            proxy.hold(Direction.TO_CLIENT)
            answers = [ask(socket, sent) for sent in sends]
            await seen(stage, writer, sends)
            proxy.reset()
            for answer in await asyncio.gather(*answers, return_exceptions=True):
                if not isinstance(answer, ConnectionLostError):
                    raise NotReachedError(f"an answer came although it was held: {answer}")
        at = asyncio.get_running_loop().time()
        proxy.release()
        async with await socket_at(way, token) as socket:
            for sent, ack in zip(
                sends, await asyncio.gather(*(ask(socket, sent) for sent in sends)), strict=True
            ):
                if not ack.replayed:
                    raise NotReachedError(f"{sent.client_msg_id} was not replayed, although it was durable")
                acknowledge(stage, sent, ack)
    return at


async def cut_owner(stage: Stage) -> float:
    """Between the gateways and an owner: its answers are held, then the connections reset; the gateways ask again."""
    writer = stage.load.members[0]
    node = stage.chance.choice([name for name in stage.proxies if name in stage.roles.with_role("owner")])
    proxy = stage.proxies[node]
    async with RestClient(stage.chance.choice(stage.gateways)) as rest:
        token = (await rest.log_in(writer.user_id, PASSWORD, "cut")).access_token
        async with await socket_at(rest.url, token) as socket:
            sends = batch_of(stage, writer)
            proxy.hold(Direction.TO_CLIENT)
            try:
                answers = [ask(socket, sent) for sent in sends]
                await seen(stage, writer, sends)
                at = asyncio.get_running_loop().time()
                proxy.reset()
            finally:
                proxy.release()
            async with asyncio.timeout(ANSWER_S_MAX):
                for sent, ack in zip(sends, await asyncio.gather(*answers), strict=True):
                    acknowledge(stage, sent, ack)
    return at


def batch_of(stage: Stage, writer: Member) -> list[Sent]:
    """Messages with keys of their own, over all conversations of the writer."""
    conversations = list(writer.reader.have)
    return [
        Sent(
            conversations[number % len(conversations)],
            f"cut-{stage.chance.getrandbits(64):016x}-{number}",
            writer.user_id,
        )
        for number in range(SENDS)
    ]


async def socket_at(url: str, token: str) -> SocketClient:
    """A socket that is welcome; it takes no events. A gateway that is busy is asked again, as the contract says."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        socket = await SocketClient.connect(
            url.replace("http", "ws", 1) + "/v1/ws", on_push=lambda _: None, deadline_s=ANSWER_S_MAX
        )
        try:
            await socket.hello(token)
            return socket
        except ProblemError as error:
            socket.close()
            if not error.retryable or attempt == ATTEMPTS_MAX:
                raise
        await pause(HELLO_AGAIN_S)
    raise NotReachedError("no socket is welcome")


def ask(socket: SocketClient, sent: Sent) -> asyncio.Future[Ack]:
    """The send itself, now."""
    return socket.request(
        "send",
        conversation_id=sent.conversation_id,
        client_msg_id=sent.client_msg_id,
        content={"kind": "text", "text": sent.client_msg_id},
    )


async def seen(stage: Stage, writer: Member, sends: Sequence[Sent]) -> None:
    """Wait until the writer's own reader, at another socket, saw them all: they are durable."""
    wanted = {sent.client_msg_id for sent in sends}
    await stage.load.bell.until(
        lambda: writer.reader.has_seen(wanted),
        SEEN_S_MAX,
        lambda: "not all sends were seen whose answers are held",
    )


def acknowledge(stage: Stage, sent: Sent, ack: Ack) -> None:
    """Told at last."""
    sent.ack = (ack.seq, ack.position)
    stage.others.append(sent)
