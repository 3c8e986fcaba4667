"""What all roles of one process stand on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cached_property

from domain.aggregates import EVENT_CLASSES
from eventlog.bus import Bus
from eventlog.codec import EventCodec
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from gateways.rpc.handshake import Identity
from ops.metrics.families import ProcessRegistry
from ops.readiness import Readiness
from ops.roles.nodes import ownership_in, secret_in
from ops.roles.role import Role
from ops.settings import Settings
from ops.stores import Carrier, Shared, Stores
from ops.tracing.tracer import Tracer


class Site:
    """Of one process. What is opened upon it is closed by `stack`, in the opposite order. Raises SettingsError."""

    def __init__(
        self,
        settings: Settings,
        roles: frozenset[Role],
        stores: Stores,
        stack: AsyncExitStack,
        tracer: Tracer,
    ) -> None:
        self.settings = settings
        self.roles = roles
        self.stores = stores
        self.stack = stack
        self.tracer = tracer
        self.codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
        self.name = settings.node_name
        self.identity = Identity(self.name, stores.log.log_id, stores.log.shard_count)
        self.ownership = ownership_in(settings, stores.log.shard_count)
        self.registry = ProcessRegistry(self.name, roles)
        self.readiness = Readiness()
        self.own_commits = Bus()
        """What this process's own node wrote."""

    @cached_property
    def own_shards(self) -> Sequence[int]:
        """The shards that this node is to own."""
        return self.ownership.current().shards_of(self.name)

    @property
    def carrier(self) -> Carrier:
        """Kafka."""
        assert self.stores.carrier is not None
        return self.stores.carrier

    @property
    def shared(self) -> Shared:
        """Redis."""
        assert self.stores.shared is not None
        return self.stores.shared

    @property
    def secret(self) -> bytes:
        """By which nodes know each other. Raises SettingsError."""
        return secret_in(self.settings)
