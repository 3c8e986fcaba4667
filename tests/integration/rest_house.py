"""A whole REST face over a real log, node and views in a temporary folder, driven in process."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from commands.accounts import Accounts
from commands.app_keys import AppKeys
from commands.desk import Desk
from commands.marks import ReadMarks
from commands.node import Node
from commands.passwords import Passwords
from commands.reactions import Reactions
from commands.refresh import RefreshTokens
from commands.settings import NodeSettings
from domain.aggregates import EVENT_CLASSES
from domain.event import Message, Place, Written
from domain.streams import split
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.secrets import MemorySecrets
from eventlog.sqlite import SqliteLog
from gateways.limits import LimitSettings, RateLimits
from gateways.presence import MemoryPresence
from gateways.rest.app import build_app
from gateways.rest.services import RestServices, RestSettings
from gateways.rest.signatures import SignedCalls, signature_of
from gateways.sessions import Sessions
from gateways.tokens import AccessTokens
from projections.runner import RunnerSettings
from projections.sqlite_shelf import SqliteShelf
from projections.views import Views, ViewsSettings

NOW = 1_800_000_000_000
SECRET = b"k" * 32
SHARDS = 4
PASSWORD = "correct horse"
FAST_HASH: Mapping[str, int] = {"time_cost": 1, "memory_kib": 64}


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self.now

    def monotonic_s(self) -> float:
        """The same in seconds."""
        return self.now / 1000


class Nowhere:
    """Reactions start from nothing each time."""

    async def load(self) -> Mapping[int, int]:
        """No position."""
        return {}

    async def save(self, positions: Mapping[int, int]) -> None:
        """Forget it."""


class Older:
    """The desk's door to the timeline."""

    views: Views
    node: Node

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """A message before the hot window."""
        tenant, name = split(stream)
        message, _ = await self.views.timeline.older_message(tenant, name, seq)
        return message

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """What is no message for the user."""
        await self.views.caught_up(self.node.head_positions())
        return await self.views.timeline.unseen(tenant, user_id, places)

    async def written(self, stream: str, seq: int) -> Written | None:
        """What a message says."""
        tenant, name = split(stream)
        await self.views.caught_up(self.node.head_positions())
        return await self.views.timeline.written(tenant, name, seq)


class Person:
    """A registered user with a session."""

    def __init__(self, house: House, user_id: str, session: Mapping[str, Any]) -> None:
        self.house = house
        self.user_id = user_id
        self.session = dict(session)

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """A call with the user's token; `body` None: none."""
        headers = {"Authorization": f"Bearer {self.session['access_token']}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            more["json"] = body
        return await self.house.client.request(method, path, headers=headers, **more)

    async def get(self, path: str) -> Any:
        """The data of a read that must succeed."""
        return data_of(await self.call("GET", path))

    async def do(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """The data of a change that must succeed."""
        return data_of(await self.call(method, path, body, key=key))

    async def group(self, *members: str, **settings: Any) -> str:
        """A new group."""
        body = {"name": "room", "members": list(members), **settings}
        return str((await self.do("POST", "/v1/groups", body))["conversation_id"])

    async def send(self, conversation_id: str, text: str, client_msg_id: str | None = None) -> Any:
        """A text message."""
        body = {
            "client_msg_id": client_msg_id or f"m{next(self.house.numbers)}",
            "content": {"kind": "text", "text": text},
        }
        return await self.do("POST", f"/v1/conversations/{conversation_id}/messages", body)


class House:
    """Everything; `client` speaks to the face in process."""

    clock: Clock
    desk: Desk
    views: Views
    sessions: Sessions
    accounts: Accounts
    app_keys: AppKeys
    services: RestServices
    app: FastAPI
    client: httpx.AsyncClient

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.ready: dict[str, str] = {}

    async def person(self, user_id: str, **device: str) -> Person:
        """Register and log in."""
        body = {"user_id": user_id, "password": PASSWORD}
        data_of(await self.client.post("/v1/users", json=body))
        return await self.log_in(user_id, **device)

    async def log_in(self, user_id: str, device_id: str = "d1", device_kind: str = "web") -> Person:
        """Another session."""
        body = {"user_id": user_id, "password": PASSWORD, "device_id": device_id, "device_kind": device_kind}
        return Person(self, user_id, data_of(await self.client.post("/v1/sessions", json=body)))

    def signature(
        self, key: tuple[str, str], method: str, target: str, body: bytes, nonce: str | None = None
    ) -> dict[str, str]:
        """The headers of a signed call."""
        nonce = nonce or f"nonce-{next(self.numbers):08}"
        timestamp = str(self.clock.now // 1000)
        signature = signature_of(key[1], method, target.encode(), timestamp, nonce, body)
        return {
            "X-App-Key": key[0],
            "X-Timestamp": timestamp,
            "X-Nonce": nonce,
            "X-Signature": signature,
            "Content-Type": "application/json",
        }


def data_of(response: httpx.Response) -> Any:
    """The data of a success."""
    assert response.status_code < 300, response.text
    document = response.json()
    assert set(document) in ({"data", "request_id"}, {"data", "next", "request_id"})
    return document["data"]


def problem_of(response: httpx.Response) -> Any:
    """The problem of a refusal, checked for its form."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail", "code"} <= set(problem)
    for leak in ("Traceback", "sqlite", "/work", ".py", "pydantic"):
        assert leak not in response.text
    return problem


@asynccontextmanager
async def house(
    folder: Path, limits: LimitSettings | None = None, settings: RestSettings | None = None
) -> AsyncIterator[House]:
    """An open house; closed at the end."""
    async with AsyncExitStack() as stack:
        built = House()
        built.clock = clock = Clock()
        log = await SqliteLog.open(folder / "log.db", SHARDS, log_id="log-1")
        stack.push_async_callback(log.close)
        codec, bus, store = EventCodec(Registry(EVENT_CLASSES), PlainSealing()), Bus(), MemorySecrets()
        node = Node(log, codec, bus, clock.now_ms, NodeSettings(flush_pace_ms=0.0))
        await node.open()
        stack.push_async_callback(node.close)
        older = Older()
        older.node = node
        built.desk = desk = Desk(node, SECRET, older)
        stack.push_async_callback(desk.close)
        runner = RunnerSettings(linger_ms=0)
        built.views = older.views = views = await Views.open(
            SqliteShelf(folder), log, bus, codec, ViewsSettings(runner=runner)
        )
        stack.push_async_callback(views.close)
        reactions = Reactions(log, codec, bus, desk, Nowhere())
        await reactions.start()
        stack.push_async_callback(reactions.close)
        marks = ReadMarks(desk, views.timeline, gather_s=0.0)
        stack.push_async_callback(marks.close)
        passwords = Passwords(**FAST_HASH)
        stack.callback(passwords.close)
        refresh = RefreshTokens(store, SECRET)
        built.accounts = accounts = Accounts(desk, store, passwords, refresh, clock.now_ms)
        built.sessions = sessions = Sessions(AccessTokens(SECRET), desk, bus, clock.now_ms)
        stack.callback(sessions.close)
        built.app_keys = AppKeys(desk, store, clock.now_ms)
        built.services = RestServices(
            desk=desk,
            views=views,
            read_marks=marks,
            accounts=accounts,
            sessions=sessions,
            signed_calls=SignedCalls(built.app_keys, clock.now_ms),
            limits=RateLimits(limits or LimitSettings(enabled=False), clock.monotonic_s),
            presence=MemoryPresence(clock.now_ms),
            settings=settings or RestSettings(shard_count=SHARDS),
            server_secret=SECRET,
            now_ms=clock.now_ms,
            readiness=lambda: built.ready,
            remarks=dict,
            registry=CollectorRegistry(),
        )
        built.app = build_app(built.services)
        transport = httpx.ASGITransport(built.app, raise_app_exceptions=False)
        built.client = httpx.AsyncClient(transport=transport, base_url="http://minutebook.test")
        stack.push_async_callback(built.client.aclose)
        yield built
