"""A client of MongoDB that several drivers share, and how many connections it made. Knows no client's class."""

from __future__ import annotations

import inspect
from typing import Any

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)
from typing_extensions import override


class Connections(ConnectionPoolListener):
    """Counts the connections that were made. Called on threads of the driver."""

    def __init__(self) -> None:
        self.made = 0

    @override
    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self.made += 1

    @override
    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """Nothing to count."""

    @override
    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """Nothing to count."""

    @override
    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """Nothing to count."""

    @override
    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """Nothing to count."""

    @override
    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """Nothing to count."""

    @override
    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        """Nothing to count."""

    @override
    def pool_created(self, event: PoolCreatedEvent) -> None:
        """Nothing to count."""

    @override
    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Nothing to count."""

    @override
    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Nothing to count."""

    @override
    def pool_closed(self, event: PoolClosedEvent) -> None:
        """Nothing to count."""


class SharedClient:
    """A client that several drivers share; closed with the last of them."""

    def __init__(self, client: Any, connections: Connections) -> None:
        self.client = client
        self.connections = connections
        self._users = 0

    def take(self) -> Any:
        """The client, for one user more."""
        self._users += 1
        return self.client

    async def leave(self) -> None:
        """One user less."""
        self._users -= 1
        if self._users == 0:
            closing = self.client.close()
            if inspect.isawaitable(closing):
                await closing
