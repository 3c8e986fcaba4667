"""A user's own stream as a view: the events of `me`, read marks and personal settings of conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from domain.streams import StreamKind
from eventlog.record import Recorded
from projections.store import Row, Schema, Table, UnitOfWork
from projections.wire import wire_event

ME_EVENTS = Table(name="me_events", columns=("stream text", "seq int", "wire bytes"), key_size=2)
ME_HEADS = Table(name="me_heads", columns=("stream text", "head int", "at int"), key_size=1)
PERSONAL = Table(
    name="personal",
    columns=("stream text", "conversation text", "read_seq int", "pinned int", "muted int"),
    key_size=2,
)
"""What the owner of an inbox stream did to a conversation (by its id): the seq read (0: never marked), pinned, muted."""

SCHEMA = Schema(name="inbox", version=1, tables=(ME_EVENTS, ME_HEADS, PERSONAL))
KINDS = frozenset({StreamKind.INBOX})


def apply(view: UnitOfWork, row: Recorded) -> None:
    """Apply one event of an inbox stream."""
    if row.seq is None:
        return
    view.put(ME_HEADS, (row.stream, row.seq, row.event.at))
    view.insert(ME_EVENTS, (row.stream, row.seq, wire_event(row)))
    handler = _HANDLERS.get(row.event.TYPE)
    if handler is not None:
        handler(view, row.stream, row.event)


def _read_marked(view: UnitOfWork, stream: str, event: Any) -> None:
    _, _, read_seq, pinned, muted = _personal(view, stream, event.conversation_id)
    assert isinstance(read_seq, int)
    view.put(PERSONAL, (stream, event.conversation_id, max(read_seq, event.read_seq), pinned, muted))


def _settings_changed(view: UnitOfWork, stream: str, event: Any) -> None:
    _, _, read_seq, pinned, muted = _personal(view, stream, event.conversation_id)
    pinned = pinned if event.pinned is None else int(event.pinned)
    muted = muted if event.muted is None else int(event.muted)
    view.put(PERSONAL, (stream, event.conversation_id, read_seq, pinned, muted))


def _personal(view: UnitOfWork, stream: str, conversation_id: str) -> Row:
    return view.get(PERSONAL, (stream, conversation_id)) or (stream, conversation_id, 0, 0, 0)


_HANDLERS: Mapping[str, Callable[[UnitOfWork, str, Any], None]] = {
    "read_marked": _read_marked,
    "conversation_settings_changed": _settings_changed,
}
