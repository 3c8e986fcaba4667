"""Recalls that overtake an answer: which events they empty, and their bound."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateways.socket import recalls
from gateways.socket.frames import text_of
from gateways.socket.recalls import Recalls, event_frame, without_content
from projections.shapes import SyncedConversation


def wire(seq: int, kind: str, **data: object) -> bytes:
    """A wire event."""
    return json.dumps({"seq": seq, "type": kind, "actor": "ann", "at": "t", "data": data}).encode()


def page(*events: bytes) -> SyncedConversation:
    """A conversation of an answer."""
    return SyncedConversation(head=9, events=[msgspec.Raw(event) for event in events])


@pytest.mark.parametrize("size", [1, 60, 125, 126, 200, 66_000])
def test_a_frame_is_emptied_whatever_its_length(size: int) -> None:
    frame = event_frame("g_1", wire(3, "message_posted", message_id="m", content="s" * size))
    emptied = without_content("g_1", frame, 3)
    assert json.loads(text_of(emptied)) == {
        "op": "event", "conversation_id": "g_1", "seq": 3, "type": "message_posted", "actor": "ann", "at": "t",
        "data": {"message_id": "m", "content": None, "recalled": True},
    }  # fmt: skip


def test_only_what_shows_the_message_is_emptied() -> None:
    edited = event_frame("g_1", wire(5, "message_edited", target=3, content="s"))
    assert json.loads(text_of(without_content("g_1", edited, 3)))["data"] == {
        "target": 3, "content": None, "recalled": True,
    }  # fmt: skip
    for frame in (
        edited.replace(b'"target": 3', b'"target": 4'),
        event_frame("g_1", wire(4, "message_posted", content="s")),
        event_frame("g_1", wire(6, "reaction_added", target=3, emoji="x")),
        event_frame("g_1", wire(7, "message_recalled", target=3)),
    ):
        assert without_content("g_1", frame, 3) is frame


def test_answers_show_nothing_of_what_was_noted() -> None:
    noted = Recalls()
    answer = {
        "g_1": page(wire(3, "message_posted", content="s")),
        "g_2": SyncedConversation(reset=True, head=4),
    }
    assert noted.applied(answer) is answer
    noted.note("g_1", 3)
    noted.note("g_2", 3)
    noted.note("g_3", 3)
    after = noted.applied(answer)
    assert b'"content":null' in msgspec.json.encode(after["g_1"])
    assert after["g_2"] == answer["g_2"]


def test_more_recalls_than_are_kept_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls, "RECALLS_MAX", 2)
    noted = Recalls()
    for seq in (1, 2):
        noted.note("g_1", seq)
    assert not noted.too_many
    noted.note("g_1", 3)
    assert noted.too_many
