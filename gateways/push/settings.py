"""The bounds of the stream between gateways and pushers."""

from __future__ import annotations

import msgspec


class PushSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue, wait and size. Times in the unit of the name."""

    message_commits: int = 512
    message_bytes: int = 1024 * 1024
    """Of frames in one message; a larger frame travels alone."""
    pace_ms: float = 4.0
    """From message start to message start; at once after an idle spell."""
    reached_pace_ms: float = 20.0
    """How late a gateway may hear of positions that brought it no commit."""
    queue_commits: int = 50_000
    queue_bytes: int = 64 * 1024 * 1024
    """Of frames that wait for one gateway. Above either its stream is cut: what it misses it reads from the log."""
    queue_hints: int = 2_000
    """Hints that wait; more are lost."""
    streams_max: int = 2_000_000
    """Streams that one gateway may want."""
    message_streams: int = 5_000
    """Names of streams in one message."""
    linger_s: float = 15.0
    """How long what nobody listens to any more is still wanted: whoever reconnects finds it confirmed."""
    idle_max: int = 20_000
    """Streams that are wanted only because of that."""
    settle_s: float = 3.0
    """How long a hello waits for what it wants to be confirmed."""
    probe_ms: float = 400.0
    silence_s: float = 2.0
    """A gateway that has reached neither a pusher nor the log for so long delivers and accepts nothing."""
    look_ms: float = 250.0
    """How often the log is looked at while no pusher is there…"""
    compare_ms: float = 5_000.0
    """…and while one is, in case it lost something."""
    behind_max: int = 50_000
    """Commits that a gateway reads to catch up; above it lets its sockets go, which come back and sync."""
    held_max: int = 20_000
    """Commits that a gateway keeps back while it may deliver nothing."""
    connect_s: float = 2.0
    reconnect_first_ms: float = 50.0
    reconnect_max_ms: float = 1_000.0
    links: int = 1_024
