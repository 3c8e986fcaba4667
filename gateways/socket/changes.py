"""Ops at one message: the command that each stands for."""

from __future__ import annotations

import msgspec

from domain.content import canonical
from domain.conversation import (
    AddReaction,
    EditMessage,
    PinMessage,
    RecallMessage,
    RemoveReaction,
    UnpinMessage,
)
from domain.event import Command
from gateways.socket import ops

_encode = msgspec.json.Encoder().encode
Change = ops.Edit | ops.Recall | ops.React | ops.Unreact | ops.Pin | ops.Unpin


def changing(op: Change) -> tuple[Command, bytes]:
    """(command, canonical payload) of an op at one message."""
    if isinstance(op, ops.Edit):
        return EditMessage(seq=op.seq, content=op.content), _encode(
            [op.seq, msgspec.Raw(canonical(op.content))]
        )
    if isinstance(op, ops.React):
        return AddReaction(seq=op.seq, emoji=op.emoji), _encode([op.seq, op.emoji])
    if isinstance(op, ops.Unreact):
        return RemoveReaction(seq=op.seq, emoji=op.emoji), _encode([op.seq, op.emoji])
    payload = _encode([op.seq])
    if isinstance(op, ops.Recall):
        return RecallMessage(seq=op.seq), payload
    return (PinMessage(seq=op.seq) if isinstance(op, ops.Pin) else UnpinMessage(seq=op.seq)), payload
