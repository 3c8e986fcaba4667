"""The WebSocket layer on a real uvicorn server: handshakes, an independent client, slow readers, stopping."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from typing_extensions import override
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateways.socket.frames import CLOSE, TEXT, encode_text_frame
from gateways.socket.handshake import Refusal, refuse
from gateways.socket.port import SocketLimits
from tests.integration.websocket_harness import (
    SAMPLE_UPGRADE,
    RawPeer,
    Recorder,
    RunningServer,
    client_frame,
    close_payload,
    running_server,
)

SUBPROTOCOL = b"Sec-WebSocket-Protocol: "
BYE = client_frame(CLOSE, close_payload(1000))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


def upgrade(*changes: tuple[bytes, bytes]) -> bytes:
    """The sample request with parts replaced."""
    request = SAMPLE_UPGRADE
    for old, new in changes:
        assert old in request
        request = request.replace(old, new)
    return request


def with_header(line: bytes) -> bytes:
    return SAMPLE_UPGRADE[:-2] + line + b"\r\n\r\n"


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
REFUSED = {
    "another path": (upgrade((b"/v1/ws", b"/v1/other")), 404, "not_found"),
    "a longer path": (upgrade((b"/v1/ws", b"/v1/ws/x")), 404, "not_found"),
    "POST": (upgrade((b"GET", b"POST")), 405, "method_not_allowed"),
    "version 8": (upgrade((b"Version: 13", b"Version: 8")), 426, "malformed"),
    "version abc": (upgrade((b"Version: 13", b"Version: abc")), 426, "malformed"),
    "no version": (upgrade((b"Sec-WebSocket-Version: 13\r\n", b"")), 400, "malformed"),
    "no key": (upgrade((KEY, b"")), 400, "malformed"),
    "two keys": (upgrade((KEY, KEY + KEY)), 400, "malformed"),
    "a short key": (upgrade((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIA==")), 400, "malformed"),
    "a key that is not base64": (upgrade((b"dGhlIHNhbXBsZSBub25jZQ==", b"!!!")), 400, "malformed"),
    "an unknown sub-protocol": (with_header(SUBPROTOCOL + b"chat"), 400, "malformed"),
    "protobuf, not spoken here": (with_header(SUBPROTOCOL + b"minutebook.v1.proto"), 400, "malformed"),
    "an unreadable sub-protocol": (with_header(SUBPROTOCOL + b'"minutebook.v1.json"'), 400, "malformed"),
    "two origins": (with_header(b"Origin: http://a\r\nOrigin: http://b"), 400, "malformed"),
    "a long header line": (with_header(b"X-Long: " + b"x" * 9000), 431, "headers_too_large"),
    "long headers": (
        with_header(b"\r\n".join(b"X-%d: " % n + b"x" * 900 for n in range(20))),
        431,
        "headers_too_large",
    ),
    "many headers": (with_header(b"\r\n".join(b"X-%d: y" % n for n in range(200))), 431, "headers_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_handshake_is_answered_with_a_problem(server: RunningServer, name: str) -> None:
    request, status, code = REFUSED[name]
    with RawPeer(server.port, request) as peer:
        body = peer.read_to_end()
        head = peer.head.lower().split(b"\r\n")
    assert head[0].startswith(b"http/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head
    assert b"content-length: %d" % len(body) in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert {"type", "title", "detail", "request_id"} <= problem.keys()
    assert (b"sec-websocket-version: 13" in head) == (status == 426)
    assert (b"allow: get" in head) == (status == 405)


@pytest.mark.parametrize(
    "offer", [None, b"minutebook.v1.json", b"chat, minutebook.v1.json", b"minutebook.v1.json,x"]
)
def test_the_json_sub_protocol_is_selected_if_any_is_offered(
    server: RunningServer, offer: bytes | None
) -> None:
    request = SAMPLE_UPGRADE if offer is None else with_header(SUBPROTOCOL + offer)
    with RawPeer(server.port, request) as peer:
        selected = b"\r\nSec-WebSocket-Protocol: minutebook.v1.json" in peer.head
        assert peer.head.startswith(b"HTTP/1.1 101 ")
        assert selected == (offer is not None)


def test_the_acceptor_sees_who_asks(server: RunningServer) -> None:
    request = upgrade((b"/v1/ws", b"/v1/ws?a=b&c"))[:-2] + b"Origin: https://chat.example\r\n\r\n"
    with RawPeer(server.port, request) as peer:
        handshake = server.acceptor.handshakes[-1]
        assert handshake.client == ("127.0.0.1", peer.socket.getsockname()[1])
    assert (handshake.path, handshake.query) == ("/v1/ws", "a=b&c")
    assert (handshake.origin, handshake.host) == ("https://chat.example", "test")
    assert ("origin", "https://chat.example") in handshake.headers


def test_the_acceptors_refusal_reaches_the_client_whole() -> None:
    def make() -> Refusal:
        return refuse(403, "forbidden", "this origin may not connect", ("Vary", "Origin"))

    with running_server(make) as server:
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://127.0.0.1:{server.port}/v1/ws")
        response = caught.value.response
        assert response.status_code == 403
        assert response.headers["Vary"] == "Origin"
        assert json.loads(response.body)["code"] == "forbidden"
        assert not list(server.protocol.hub.sockets())


def test_a_failing_acceptor_costs_only_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Refusal:
        raise ValueError("secret")

    with running_server(make) as server:
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://127.0.0.1:{server.port}/v1/ws")
        response = caught.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        problem = json.loads(response.body)
        assert (problem["type"], problem["code"]) == ("urn:minutebook:problem:unavailable", "unavailable")
        assert problem["retry_after_ms"] == 1_000
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_an_independent_client_is_understood(server: RunningServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/ws"
    with connect(url, subprotocols=["minutebook.v1.json"], compression="deflate", max_size=None) as client:  # type: ignore[list-item]
        assert client.subprotocol == "minutebook.v1.json"
        assert "Sec-WebSocket-Extensions" not in client.response.headers  # type: ignore[union-attr]
        for message in ("", "häl\U0001f600o", "x" * 126, "y" * 65536, b"", b"\xff" * 70, b"z" * 65536):
            client.send(message)
            assert client.recv() == message
        client.send(["in ", "three ", "parts"])
        assert client.recv() == "in three parts"
        assert client.ping(b"are you there").wait(5)
        client.close(4999, "done")
    assert (client.close_code, client.close_reason) == (4999, "")


def test_a_handlers_close_is_the_last_frame() -> None:
    class Goodbye(Recorder):
        @override
        def text(self, payload: bytes) -> None:
            super().text(payload)
            self.socket.close(4401, "bad token")
            self.socket.close(4403, "only the first close counts")
            self.socket.send_frame(encode_text_frame(b"dropped"))

    with running_server(Goodbye) as server, connect(f"ws://127.0.0.1:{server.port}/v1/ws") as client:
        client.send("hello")
        assert client.recv() == "hello"
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert (client.close_code, client.close_reason) == (4401, "bad token")


def test_a_vanished_peer_is_noticed(server: RunningServer) -> None:
    peer = RawPeer(server.port)
    peer.send(client_frame(TEXT, b"x"), client_frame(TEXT, b"half")[:5])
    assert peer.read_frames(1) == [(TEXT, b"x")]
    handler = server.acceptor.handlers[-1]
    assert isinstance(handler, Recorder)
    peer.close()
    assert handler.lost.wait(5)
    assert handler.calls == [("opened", b""), ("text", b"x"), ("closed", b"")]


def test_stopping_uvicorn_closes_every_socket_with_1012() -> None:
    with running_server() as server, ExitStack() as stack:
        url = f"ws://127.0.0.1:{server.port}/v1/ws"
        peers = [stack.enter_context(connect(url)) for _ in range(5)]
        assert len(list(server.protocol.hub.sockets())) == 5
        server.server.should_exit = True
        for peer in peers:
            with pytest.raises(ConnectionClosed):
                peer.recv()
            assert peer.close_code == 1012
    assert not list(server.protocol.hub.sockets())
    assert not server.server.server_state.connections


@pytest.mark.slow
def test_a_slow_reader_is_cut_and_what_waits_for_it_is_bounded() -> None:
    limits = SocketLimits(close_s=1)
    frame = encode_text_frame(b"x" * 60_000)
    most = 0
    with running_server(limits=limits, tick_s=0.05) as server, RawPeer(server.port) as peer:
        handler = server.acceptor.handlers[0]
        assert isinstance(handler, Recorder)
        socket = handler.socket

        def push() -> None:
            nonlocal most
            socket.send_frame(frame)
            most = max(most, socket.unsent_bytes)

        for _ in range(10_000):  # the kernel's buffers swallow some megabytes first
            if not socket.is_open:
                break
            server.call(push)
        assert handler.lost.wait(5)
        assert 0 < most <= limits.unsent_bytes_max + len(frame)
        assert handler.calls == [("opened", b""), ("closed", b"")]
        while list(server.protocol.hub.sockets()):  # it is reset, although it never reads
            server.call(threading.Event().is_set)
        assert peer.socket.fileno() >= 0


@pytest.mark.slow
def test_a_slow_reader_that_wakes_up_in_time_sees_4408() -> None:
    frame = encode_text_frame(b"x" * 60_000)
    with running_server() as server, RawPeer(server.port) as peer:
        handler = server.acceptor.handlers[0]
        assert isinstance(handler, Recorder)
        while handler.socket.is_open:
            server.call(lambda: handler.socket.send_frame(frame))
        peer.send(BYE)  # the answer to a close frame that it has not read yet
        data = peer.read_to_end()
        count, rest = divmod(len(data), len(frame))
        assert data[: count * len(frame)] == frame * count, "whole frames, then the close frame"
        assert data[-rest:] == bytes((0x88, 2 + len("slow reader"))) + close_payload(4408, b"slow reader")


@pytest.mark.slow
def test_a_silent_peer_is_pinged_and_then_closed_in_real_time() -> None:
    with running_server(limits=SocketLimits(heartbeat_s=1, silence_s=2), tick_s=1 / 16) as server:
        with RawPeer(server.port) as peer:
            frames = peer.read_frames(2)
        assert [opcode for opcode, _ in frames] == [9, 8]
        assert frames[1][1][:2] == close_payload(4410)
