"""What both ends of the stream count: plain numbers, read from outside."""

from __future__ import annotations


class PusherCounters:
    """Of a pusher. `routed`: commits times gateways that got them; `cut`: streams ended because their gateway took too little."""

    __slots__ = ("commits", "cut", "hints", "hints_lost", "messages", "refused", "routed")

    def __init__(self) -> None:
        self.commits = 0
        """That came from the record."""
        self.routed = 0
        self.messages = 0
        self.cut = 0
        self.refused = 0
        self.hints = 0
        self.hints_lost = 0


class ReceiverCounters:
    """Of a gateway. `received`: commits by a pusher; `refills`: times that the log was read instead, `refilled`: commits of that."""

    __slots__ = (
        "broken", "delivered", "hints_lost", "jumps", "links", "messages", "received", "refilled", "refills", "repeated", "undecodable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.links = 0
        self.broken = 0
        self.messages = 0
        self.received = 0
        self.repeated = 0
        """Commits that came again and were dropped."""
        self.delivered = 0
        """Commits handed to sessions and sockets."""
        self.refills = 0
        self.refilled = 0
        self.undecodable = 0
        """Commits of an event that this release does not know; nobody here is told of them."""
        self.jumps = 0
        """Times that it was too far behind and let its sockets go."""
        self.hints_lost = 0
