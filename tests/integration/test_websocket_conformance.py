"""The WebSocket layer against a table of RFC 6455 cases: on a real server, and byte by byte without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.websocket_cases import CASES, Case
from tests.integration.websocket_harness import (
    ACCEPT_OF_SAMPLE_KEY,
    Bench,
    RawPeer,
    RunningServer,
    close_code_of,
    running_server,
    split_server_frames,
)

BYTEWISE_BYTES_MAX = 3000


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_real_server_answers_as_the_table_says(server: RunningServer, case: Case) -> None:
    with RawPeer(server.port) as peer:
        assert ACCEPT_OF_SAMPLE_KEY in peer.head
        peer.send(*case.sent)
        if case.closes is None:
            assert tuple(peer.read_frames(len(case.answered))) == case.answered
            return
        frames = split_server_frames(peer.read_to_end())
        assert tuple(frames[:-1]) == case.answered
        assert close_code_of(frames) == case.closes


@pytest.mark.parametrize("bytewise", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_does_not_depend_on_the_delivery(case: Case, bytewise: bool) -> None:
    sent = b"".join(case.sent)
    step = 1 if len(sent) <= BYTEWISE_BYTES_MAX else 611
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)] if bytewise else case.sent
    bench = Bench()
    connection, transport, _ = bench.opened()
    for piece in pieces:
        connection.data_received(piece)
        bench.turn()
    frames = split_server_frames(b"".join(transport.writes))
    assert transport.has_ended() == (case.closes is not None)
    if case.closes is not None:
        assert close_code_of(frames) == case.closes
        frames.pop()
    assert tuple(frames) == case.answered
