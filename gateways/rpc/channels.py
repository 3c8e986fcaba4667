"""Connections to other nodes: when one is there, and why it is not."""

from __future__ import annotations

import asyncio

import grpc

from gateways.rpc.handshake import HandshakeError

BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What a stream raises that is no more."""


async def ready(channel: grpc.aio.Channel) -> None:
    """Wait for the connection. Raises HandshakeError at its first failure: when to try again is ours to say, not gRPC's."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state in {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}:
            raise HandshakeError("nobody answers there")
        await channel.wait_for_state_change(state)
        state = channel.get_state()


def reason_of(error: Exception) -> str:
    """One line for the log."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower()}: {(error.details() or '')[:200]}"
    return type(error).__name__
