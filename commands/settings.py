"""The bounds of the write side."""

from __future__ import annotations

import msgspec

from domain.event import Limits


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue, wait and batch of a node. Times in the unit of the name."""

    flush_pace_ms: float = 4.0
    """From flush start to flush start; at once after an idle spell or when `flush_commits` wait. 4 ms: batches of 4 at 1,000/s."""
    flush_busy_pace_ms: float = 0.0
    """The same while much is decided; less than `flush_pace_ms` counts as that. In a cluster 10 ms unless set: a flush there costs a
    millisecond of CPU beside its commits, and as much again of everybody who reads what it wrote."""
    flush_busy_per_s: int = 800
    """From so many commits a second on much is decided."""
    flush_commits: int = 256
    queue_orders: int = 20_000
    """Orders inside the node, decided or not; more are refused as `overloaded`."""
    overloaded_retry_ms: int = 250
    deadline_s: float = 10.0
    close_s: float = 10.0
    hot_aggregates: int = 20_000
    hot_weight: int = 2_000_000
    """Members and window messages over all hot aggregates."""
    hot_keys: int = 4_096
    """Command ids remembered per aggregate; older ones are asked of the log."""
    warming_streams: int = 64
    attempts: int = 10
    """How often an order is decided again after refused documents before it is told `unavailable`."""
    resend_first_ms: float = 10.0
    resend_max_ms: float = 1_000.0
    probe_s: float = 1.0
    """How often a log that refused a write is tried again, so that readiness comes back by itself."""
    snapshot_events: int = 2_000
    """A stream that grew by so many events since its snapshot gets a new one when it is evicted."""
    limits: Limits = Limits()


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue and wait between a face and the owner of a shard."""

    calls_max: int = 20_000
    """Commands on their way or waiting for an owner; more are refused as `overloaded`."""
    overloaded_retry_ms: int = 250
    deadline_s: float = 10.0
    """How long an owner is looked for, and an answer waited for."""
    look_s: float = 5.0
    """The same for reads of an aggregate's state."""
    pause_first_ms: float = 10.0
    """Between two tries for a shard without an owner; doubled each time."""
    pause_max_ms: float = 500.0
    landing_s: float = 1.0
    """How long commands of a shard wait for older ones that are still with its former owner, so that they keep their order."""
    refresh_s: float = 2.0
    sweep_s: float = 0.25
    """How often deadlines are looked at."""
    known_users_max: int = 200_000
