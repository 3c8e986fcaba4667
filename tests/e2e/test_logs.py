"""What a real server process writes while people use it, rightly and wrongly: lines of JSON, and nothing of what they say or know."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from client.rest import RestClient
from tests.e2e.process import ServerProcess
from tests.integration.house import Line

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

CANARIES = {
    "password": "canary-password-of-ann",
    "wrong": "canary-wrong-password",
    "body": "canary-word-in-a-message",
    "name": "canary-name-of-ann",
    "forged": "canary-token-forged",
    "broken": "canary-in-broken-json",
    "query": "canary-in-a-query",
}


async def _use_rightly(server: ServerProcess) -> str:
    async with RestClient(server.url) as rest:
        await rest.create_user("ann", CANARIES["password"])
        token = (await rest.log_in("ann", CANARIES["password"], "d1")).access_token
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        await http.patch("/v1/users/me", json={"name": CANARIES["name"]})
        await http.get("/v1/search/messages", params={"q": CANARIES["query"]})
    line = Line(None)
    await line.connect(server.socket_url)
    line.say("hello", token=token)
    await line.next("welcome")
    content = {"kind": "text", "text": CANARIES["body"]}
    await line.ask("send", to="ann", client_msg_id="k", content=content)
    line.raw(b'{"op": "send", "text": "%b"' % CANARIES["broken"].encode())
    await line.next("error")
    line.close()
    return str(token)


async def _use_wrongly(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        log_in = {"user_id": "ann", "password": CANARIES["wrong"], "device_id": "d1"}
        assert (await http.post("/v1/sessions", json=log_in)).status_code >= 400
        forged = {"authorization": f"Bearer {CANARIES['forged']}"}
        assert (await http.get("/v1/users/me", headers=forged)).status_code == 401
        broken = b'{"password": "%b"' % CANARIES["broken"].encode()
        answer = await http.post("/v1/users", content=broken, headers={"content-type": "application/json"})
        assert answer.status_code >= 400
    line = Line(None)
    await line.connect(server.socket_url)
    line.say("hello", token=CANARIES["forged"])
    assert await line.ended() == 4401


async def test_no_line_tells_a_secret_or_a_message(tmp_path: Path) -> None:
    server = ServerProcess(
        tmp_path / "data", environment={"MINUTEBOOK_LOG_LEVEL": "debug", "MINUTEBOOK_LOG_FORMAT": "json"}
    )
    await server.start()
    try:
        token = await _use_rightly(server)
        await _use_wrongly(server)
    finally:
        await server.stop()
    written = server.log
    entries = [json.loads(line) for line in written.splitlines()]
    assert {(entry["node"], entry["roles"]) for entry in entries} == {("embedded", "all")}
    assert {"answered", "draining"} <= {entry["event"] for entry in entries}
    assert [name for name, canary in CANARIES.items() if canary in written] == []
    assert token not in written
