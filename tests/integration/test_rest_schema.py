"""The description against the server: generated calls, right and wrong, with and without a token, over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi.schemas import OpenApiSchema

from gateways.rest.app import openapi
from gateways.rest.protocol import BoundedHttpProtocol
from ops.serving import HttpServer
from tests.integration.rest_house import house

pytestmark = pytest.mark.slow
EXAMPLES = 6
HEADERS_TOO_LARGE = 431
_CHECKS = [
    CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
    )
]
_NOT_BUILT = {"this is not available yet", "erasure is not available yet", "approval is not available yet"}


_ENDING = (
    "end_session",
    "change_password",
    "dissolve_group",
    "leave_group",
    "transfer_group",
    "remove_member",
    "recall_message",
)


class Place(NamedTuple):
    """A running server, the token of a user, and a group of the user with `bob` and a message (seq 3)."""

    address: str
    token: str
    room: str


class Served:
    """A house in a thread of its own, behind a real port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: Future[Place] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="served")

    def start(self) -> Place:
        """Where it is."""
        self._thread.start()
        return self._ready.result(timeout=30)

    def stop(self) -> None:
        """Close everything."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with house(self._folder) as built:
            ann = await built.person("ann")
            await built.person("bob")
            room = await ann.group("bob")
            await ann.send(room, "hello")
            config = uvicorn.Config(
                built.app, port=0, http=BoundedHttpProtocol, log_level="critical", lifespan="off", ws="none"
            )
            server = HttpServer(config)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve())
                await server.listening.wait()
                port = server.servers[0].sockets[0].getsockname()[1]
                self._ready.set_result(Place(f"http://127.0.0.1:{port}", ann.session["access_token"], room))
                await self._stop.wait()
                server.should_exit = True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The address, a token and a group."""
    server = Served(tmp_path_factory.mktemp("served"))
    yield server.start()
    server.stop()


def _schema() -> OpenApiSchema:
    """The description without the calls that would end the session all the others need."""
    schema = schemathesis.openapi.from_dict(openapi())
    return schema.exclude(operation_id=list(_ENDING))  # type: ignore[return-value]


schema = _schema()
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)


def _known(case: Any, served: Place) -> dict[str, Any]:
    """Names of what there is, so that right calls get right answers."""
    names = {
        "group_id": served.room,
        "conversation_id": served.room,
        "user_id": "bob",
        "seq": 3,
        "emoji": "a",
    }
    return {name: value for name, value in names.items() if name in (case.path_parameters or {})}


def _check(case: Any, address: str, headers: dict[str, str]) -> None:
    response = case.call(base_url=address, headers=headers)
    # What does not fit into a request line is refused as such, which the check of wrong data does not know.
    checks = _CHECKS[:3] if response.status_code == HEADERS_TOO_LARGE else _CHECKS
    case.validate_response(response, checks=checks, headers=headers)
    if response.status_code >= 500:
        problem = response.json()
        assert problem["code"] in ("unavailable", "overloaded"), problem
        assert problem["detail"] in _NOT_BUILT or case.operation.path == "/readyz", problem


@schema.parametrize()
@_SETTINGS
def test_with_a_token(case: Any, served: Place) -> None:
    if case.meta.generation.mode.is_positive:
        case.path_parameters = (case.path_parameters or {}) | _known(case, served)
    _check(case, served.address, {"Authorization": f"Bearer {served.token}"})


@schema.parametrize()
@_SETTINGS
def test_without_a_token(case: Any, served: Place) -> None:
    response = case.call(base_url=served.address)
    case.validate_response(response, checks=_CHECKS[:3])
    if {"bearer": []} in case.operation.definition.raw.get("security", []):
        assert response.status_code in (401, 404, 405, HEADERS_TOO_LARGE)
