"""One trace from the gateway over the owner and Kafka to the views, as a collector of real processes sees it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from client.rest import RestClient
from tests.e2e.collector import Collector, SeenSpan, collector
from tests.e2e.process import ServerProcess
from tests.integration.house import Line

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "a quiet afternoon"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SEND = "POST /v1/conversations/{conversation_id}/messages"


def telemetry(collecting: Collector, ratio: float = 1.0) -> dict[str, str]:
    """The environment of a process that is traced."""
    return {
        "MINUTEBOOK_TELEMETRY__SAMPLE_RATIO": str(ratio),
        "MINUTEBOOK_TELEMETRY__OTLP_ENDPOINT": collecting.url,
    }


async def sent_under_a_trace(url: str) -> Line:
    """A message of ann's over REST, in the trace of a caller, and the socket that it came to."""
    async with RestClient(url) as rest:
        await rest.create_user("ann", PASSWORD)
        token = str((await rest.log_in("ann", PASSWORD, "d1")).access_token)
        ann = rest.as_user(token)
        group = (await ann.create_group("room")).conversation_id
    line = Line(None)
    await line.connect(url.replace("http", "ws", 1) + "/v1/ws")
    line.say("hello", token=token, have={})
    await line.next("events", complete=True)
    headers = {"authorization": f"Bearer {token}", "traceparent": f"00-{TRACE}-{CALLER}-01"}
    message = {"client_msg_id": "k", "content": {"kind": "text", "text": "x"}}
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        answer = await http.post(f"/v1/conversations/{group}/messages", json=message)
        assert answer.status_code == 201, answer.text
    await line.next("event", conversation_id=str(group), seq=answer.json()["data"]["seq"])
    return line


def named(spans: list[SeenSpan]) -> dict[str, SeenSpan]:
    """By their names, of which each comes once."""
    found = {span.name: span for span in spans}
    assert len(found) == len(spans), [span.name for span in spans]
    return found


async def test_a_server_in_one_process_tells_the_way_of_a_message(tmp_path: Path) -> None:
    async with collector() as collecting:
        server = ServerProcess(tmp_path / "data", environment=telemetry(collecting))
        await server.start()
        try:
            line = await sent_under_a_trace(server.url)
            await line.ask("send", to="ann", client_msg_id="k2", content={"kind": "text", "text": "x"})
            line.close()
        finally:
            assert await server.stop() == 0
        seen = named(collecting.of(TRACE))
        assert set(seen) == {
            SEND,
            "command PostMessage",
            "own PostMessage",
            "flush",
            "apply to views",
            "deliver",
        }
        assert seen[SEND].parent == CALLER
        command = seen["command PostMessage"]
        assert command.parent == seen[SEND].span_id
        below = {name for name, span in seen.items() if span.parent == command.span_id}
        assert below == {"own PostMessage", "flush", "apply to views", "deliver"}
        assert command.span_id in seen["flush"].links
        # The socket's send is a trace of its own.
        others = [span for span in collecting.spans if span.name == "command PostMessage" and span != command]
        assert [span.parent for span in others] == [""]
        told = str([span.attributes for span in collecting.spans])
        assert "ann" not in told
        assert PASSWORD not in told
