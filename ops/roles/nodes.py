"""What the settings say about the nodes of a cluster, checked before any server is asked."""

from __future__ import annotations

from commands.ownership import NodeShards, OwnershipError, StaticOwnership
from gateways.rpc.settings import checked_secret
from ops.roles.role import Role
from ops.settings import Settings, SettingsError


def ownership_in(settings: Settings, shard_count: int) -> StaticOwnership:
    """Which node owns which shards. Raises SettingsError."""
    rows = [NodeShards(row.node, row.address, row.shards) for row in settings.cluster.owners]
    if not rows:
        raise SettingsError("roles need cluster.owners: which node owns which shards, and where it listens")
    try:
        return StaticOwnership(lambda: rows, shard_count)
    except OwnershipError as error:
        raise SettingsError(f"cluster.owners: {error}") from None


def secret_in(settings: Settings) -> bytes:
    """By which nodes know each other. Raises SettingsError."""
    secret = settings.cluster.secret
    if secret is None:
        raise SettingsError(
            "roles need cluster.secret, the same for all processes of the cluster: set MINUTEBOOK_CLUSTER__SECRET to what"
            " `openssl rand -hex 32` prints"
        )
    try:
        return checked_secret(secret.encode())
    except ValueError as error:
        raise SettingsError(f"cluster.secret: {error}") from None


def check_nodes(settings: Settings) -> None:
    """Raises SettingsError if the settings cannot be those of a process with roles."""
    ownership = ownership_in(settings, settings.shards)
    secret_in(settings)
    if Role.OWNER in settings.roles and not ownership.current().shards_of(settings.node_name):
        known = ", ".join(sorted({row.node for row in settings.cluster.owners}))
        raise SettingsError(
            f"cluster.owners gives no shard to {settings.node_name}, which is to be an owner: set cluster.node to one of {known}, or"
            " give it a row"
        )
    pushers = [row.node for row in settings.cluster.pushers]
    if Role.PUSHER in settings.roles and settings.node_name not in pushers:
        raise SettingsError(
            f"cluster.pushers does not name {settings.node_name}, which is to be a pusher: gateways must know where it listens; give it"
            ' a row, such as {"node": "pusher-1", "address": "10.0.0.5:7444"}, in the settings of every process'
        )
