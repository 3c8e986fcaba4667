"""What both sides of the command stream count: plain numbers, read from outside."""

from __future__ import annotations

from eventlog.spread import SECONDS, SIZES, Spread


class PeerCounters:
    """Plain counters for metrics and benchmarks."""

    __slots__ = ("answer_seconds", "batches", "commands", "links", "messages")

    def __init__(self) -> None:
        self.links = 0
        self.batches = 0
        self.commands = 0
        self.messages = 0
        """Of answers."""
        self.answer_seconds = Spread(SECONDS)
        """From a batch to the answer to its last command; of one batch at a time."""


class ServerCounters:
    """Plain counters. `refused`: streams that were turned away in their handshake."""

    __slots__ = ("batch_commands", "looks", "refused")

    def __init__(self) -> None:
        self.batch_commands = Spread(SIZES)
        self.looks = 0
        self.refused = 0
