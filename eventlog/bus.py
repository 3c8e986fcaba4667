"""The in-process bus: hands each flushed batch, as a list, to everybody who follows the log.

Kafka's place in the embedded server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventlog.record import Committed

Follower = Callable[[Sequence[Committed]], None]


class Bus:
    """Plain synchronous calls in subscription order; a batch holds the commits of one flush, each shard's in
    position order.

    Only durable commits are published. A follower must not raise and must not block; it queues what it cannot
    do at once.
    """

    def __init__(self) -> None:
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Subscribe; returns the call that ends the subscription."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def publish(self, batch: Sequence[Committed]) -> None:
        """Hand `batch` to all followers, in order."""
        for follower in tuple(self._followers):
            follower(batch)
