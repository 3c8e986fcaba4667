"""The face itself: its description, pages, headers, other origins, metrics, and reading one's own writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateways.rest.app import api_routes, openapi
from gateways.rest.describe import openapi_text
from gateways.rest.probe import Probe
from gateways.rest.routing import MemberRoute
from gateways.rest.services import RestSettings
from gateways.web import page_files
from tests.integration.rest_house import SHARDS, House, data_of, house, problem_of

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits, and one foreign origin that is allowed."""
    settings = RestSettings(shard_count=SHARDS, origins=("https://chat.example",))
    async with house(tmp_path, settings=settings) as opened:
        yield opened


def test_the_description_is_checked_in() -> None:
    checked_in = (DOCS / "openapi.json").read_text()
    assert checked_in == openapi_text(), "run: python -m gateways.rest.describe > docs/openapi.json"


def test_the_description_says_what_every_call_needs() -> None:
    document: dict[str, Any] = openapi()
    assert document["openapi"].startswith("3.1")
    for name, response in document["components"]["responses"].items():
        assert list(response["content"]) == ["application/problem+json"], name
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    for path, method, operation in operations:
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response == {"$ref": f"#/components/responses/Problem{status}"}, (path, method)
            else:
                assert list(response["content"]) == ["application/json"], (path, method, status)
        assert {"422", "429", "503"} <= set(operation["responses"])
    secured = {
        operation["operationId"]
        for *_, operation in operations
        if {"bearer": []} in operation.get("security", [])
    }
    members = {
        route.operation_id
        for route in api_routes()
        if isinstance(route, MemberRoute) and route.include_in_schema
    }
    assert secured == members


async def test_the_description_and_its_page_are_served(built: House) -> None:
    served = await built.client.get("/openapi.json")
    assert served.json() == openapi()
    page = await built.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert "/v1/conversations/{conversation_id}/messages" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_pages_are_served_with_tags_and_a_policy(built: House) -> None:
    for page in page_files():
        response = await built.client.get(page.url_path)
        assert response.status_code == 200
        assert response.content == page.file.read_bytes()
        assert response.headers["content-type"] == page.media_type
        assert response.headers["cache-control"] == "no-cache"
        assert "script-src 'self'" in response.headers["content-security-policy"]
    tag = (await built.client.get("/")).headers["etag"]
    for known in (tag, f'"other", W/{tag}'):
        unchanged = await built.client.get("/", headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    for path in ("/package.json", "/__init__.py", "/vendor", "/views/"):
        assert problem_of(await built.client.get(path))["code"] == "not_found"


async def test_every_answer_carries_the_safe_headers(built: House) -> None:
    ann = await built.person("ann")
    answers = [
        await built.client.get(path) for path in ("/", "/livez", "/nothing", "/v1/users/me", "/openapi.json")
    ]
    answers.append(await ann.call("GET", "/v1/users/me"))
    for response in answers:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["content-security-policy"]
        assert response.headers["x-request-id"].startswith("r_")
    assert answers[-1].headers["cache-control"] == "no-store"
    assert answers[-1].json()["request_id"] == answers[-1].headers["x-request-id"]


async def test_other_origins(built: House) -> None:
    ann = await built.person("ann")
    token = {"Authorization": f"Bearer {ann.session['access_token']}"}
    allowed = await built.client.get("/v1/users/me", headers=token | {"Origin": "https://chat.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
    assert allowed.headers["vary"] == "Origin"
    asking = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    preflight = await built.client.options(
        "/v1/users/me", headers=asking | {"Origin": "https://chat.example"}
    )
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    refused = await built.client.options("/v1/users/me", headers=asking | {"Origin": "https://evil.example"})
    assert problem_of(refused)["code"] == "method_not_allowed"
    assert "access-control-allow-origin" not in refused.headers
    silent = await built.client.get("/v1/users/me", headers=token | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in silent.headers
    failed = await built.client.get("/nothing", headers={"Origin": "https://chat.example"})
    assert failed.headers["access-control-allow-origin"] == "https://chat.example"


async def test_metrics_stand_on_their_own(built: House) -> None:
    ann = await built.person("ann")
    await ann.get("/v1/users/ann")
    await built.client.get("/nothing/at/all")
    probe = Probe()
    probe.watch(built.services.registry, built.services.readiness)
    transport = httpx.ASGITransport(probe)
    async with httpx.AsyncClient(transport=transport, base_url="http://metrics.test") as client:
        text = (await client.get("/metrics")).text
        assert (await client.get("/v1/users/me")).status_code == 404
    assert 'minutebook_rest_requests_total{method="GET",route="/v1/users/{user_id}",status="200"} 1.0' in text
    assert 'minutebook_rest_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "/nothing" not in text
    assert problem_of(await built.client.get("/metrics"))["code"] == "not_found"


async def test_everybody_reads_the_own_writes(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob")
    for number in range(20):
        sent = await ann.send(room, f"message {number}")
        newest = (await ann.get(f"/v1/conversations/{room}/messages?limit=1"))[0]
        assert newest["seq"] == sent["seq"]
        row = await bob.get(f"/v1/conversations/{room}?min_position={sent['position']},0:0")
        assert (row["head"], row["unread"]) == (sent["seq"], number + 1)


async def test_pages_of_messages(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    for number in range(7):
        await ann.send(room, f"{number}")
    path = f"/v1/conversations/{room}/messages?limit=3"

    async def walk(query: str) -> list[list[int]]:
        pages: list[list[int]] = []
        following: str | None = query
        while following is not None:
            document = (await ann.call("GET", f"{path}{following}")).json()
            pages.append([row["seq"] for row in document["data"]])
            following = f"{query}&cursor={document['next']}" if document["next"] else None
        return pages

    assert await walk("") == [[6, 7, 8], [3, 4, 5], [2]]
    assert await walk("&after=3") == [[4, 5, 6], [7, 8]]
    assert await walk("&before=6") == [[3, 4, 5], [2]]
    assert (await walk("&around=4"))[0] == [3, 4, 5]
    events = (await ann.call("GET", f"/v1/conversations/{room}/events?limit=5")).json()
    rest = (await ann.call("GET", f"/v1/conversations/{room}/events?limit=5&cursor={events['next']}")).json()
    assert [event["seq"] for event in events["data"] + rest["data"]] == list(range(1, 9))


async def test_calls_at_once_are_all_answered(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    sent = await asyncio.gather(*(ann.send(room, f"{number}") for number in range(50)))
    assert sorted(answer["seq"] for answer in sent) == list(range(2, 52))
    assert len({answer["message_id"] for answer in sent}) == 50
    assert data_of(await built.client.get("/livez")) == {"status": "ok"}
