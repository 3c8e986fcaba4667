"""Hints on the wire."""

from __future__ import annotations

from gateways.routes import RoutedHint
from gateways.rpc.generated import push_pb2 as pb


def packed_hint(hint: RoutedHint) -> pb.Hint:
    """For the wire."""
    return pb.Hint(
        tenant=hint.tenant,
        conversation_id=hint.conversation_id,
        user_id=hint.user_id,
        typing=hint.typing,
        received=hint.received,
        own=hint.own,
    )


def routed_hint(hint: pb.Hint) -> RoutedHint:
    """From the wire."""
    return RoutedHint(
        tenant=hint.tenant,
        conversation_id=hint.conversation_id,
        user_id=hint.user_id,
        typing=hint.typing if hint.HasField("typing") else None,
        received=hint.received if hint.HasField("received") else None,
        own=hint.own,
    )
