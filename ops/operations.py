"""What a running server does for its operator: what can be asked, what is answered, how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

# What can be asked


class AskStatus(msgspec.Struct, frozen=True, tag_field="ask", tag="status"):
    """How the server is."""


class AskRebuild(msgspec.Struct, frozen=True, tag_field="ask", tag="rebuild"):
    """Build a read model anew beside the present one and switch.

    `share` of one core is what it takes; `only_if_same`: switch only if both versions are equal.
    """

    name: str
    share: float = 0.5
    only_if_same: bool = False


class AskRollBack(msgspec.Struct, frozen=True, tag_field="ask", tag="roll_back"):
    """Back to the version of a read model that its last rebuild left behind; `share` as of a rebuild."""

    name: str
    share: float = 0.5


class AskBackup(msgspec.Struct, frozen=True, tag_field="ask", tag="backup"):
    """Write a backup into an absolute folder that is absent or empty."""

    target: str


class AskParked(msgspec.Struct, frozen=True, tag_field="ask", tag="parked"):
    """The parked streams."""


class AskRetry(msgspec.Struct, frozen=True, tag_field="ask", tag="retry"):
    """Read a parked stream on; with `skip_because` without the event that it stopped at."""

    projection: str
    stream: str
    skip_because: str | None = None


class AskCreateKey(msgspec.Struct, frozen=True, tag_field="ask", tag="create_key"):
    """Make an app key."""

    tenant: str
    expires_at: int | None = None


class AskKeys(msgspec.Struct, frozen=True, tag_field="ask", tag="keys"):
    """The app keys of a tenant."""

    tenant: str


class AskRevokeKey(msgspec.Struct, frozen=True, tag_field="ask", tag="revoke_key"):
    """End an app key."""

    tenant: str
    key_id: str


Request = (
    AskStatus
    | AskRebuild
    | AskRollBack
    | AskBackup
    | AskParked
    | AskRetry
    | AskCreateKey
    | AskKeys
    | AskRevokeKey
)

# What is answered


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is; `positions` are the log's heads by shard, `views` what all read models hold."""

    version: str
    process_id: int
    url: str
    log_id: str
    shards: int
    events: int
    writable: bool
    queued_orders: int
    view_lag_commits: int
    parked: int
    read_models: list[str]


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """A read model was made anew. `same`: both versions hold the same rows; `digest` is the new one's."""

    name: str
    old_version: int
    new_version: int
    events: int
    seconds: float
    same: bool
    switched: bool
    digest: str


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier version of a read model is in use again; `events` is what it had missed."""

    name: str
    old_version: int
    new_version: int
    events: int
    seconds: float


class BackupMade(msgspec.Struct, frozen=True, kw_only=True):
    """A backup is whole."""

    target: str
    log_id: str
    events: int
    bytes: int


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that a projection could not read on. `at`: milliseconds since 1970 UTC."""

    projection: str
    stream: str
    from_version: int
    shard: int
    position: int
    at: int
    error: str


class KeyMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new app key; the secret is shown only here."""

    tenant: str
    key_id: str
    secret: str
    expires_at: int | None = None


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An app key as the log knows it. Times: milliseconds since 1970 UTC."""

    tenant: str
    key_id: str
    created_at: int
    expires_at: int | None
    revoked: bool


class Progress(msgspec.Struct, frozen=True, tag_field="line", tag="progress"):
    """How far it is: `done` of `total` (0: not known) in words of the operation."""

    done: int
    total: int
    text: str = ""


class Done(msgspec.Struct, frozen=True, tag_field="line", tag="done"):
    """The answer."""

    result: msgspec.Raw


class Refused(msgspec.Struct, frozen=True, tag_field="line", tag="refused"):
    """It was not done; `code` is a Problem's."""

    code: str
    message: str


Line = Progress | Done | Refused
Report = Callable[[Progress], None]


class Operations(Protocol):
    """What a running server does for its operator. Every call may raise Problem."""

    async def status(self) -> Status:
        """How it is."""
        ...

    async def rebuild(self, name: str, report: Report, share: float, *, only_if_same: bool) -> Rebuilt:
        """Build a read model anew. Cancellation leaves the old one in use."""
        ...

    async def roll_back(self, name: str, report: Report, share: float) -> RolledBack:
        """Take an earlier version of a read model into use again. Cancellation leaves the present one in use."""
        ...

    async def backup(self, target: Path, report: Report) -> BackupMade:
        """Write a backup. Cancellation leaves a folder without a manifest, which restores nothing."""
        ...

    async def parked(self) -> list[Parked]:
        """The parked streams."""
        ...

    async def retry(self, projection: str, stream: str, skip_because: str | None) -> bool:
        """Read a parked stream on. Whether it is parked no longer."""
        ...

    async def create_key(self, tenant: str, expires_at: int | None) -> KeyMade:
        """Make an app key."""
        ...

    async def keys(self, tenant: str) -> list[KeyRow]:
        """The tenant's keys."""
        ...

    async def revoke_key(self, tenant: str, key_id: str) -> bool:
        """End a key. Whether it was one that held."""
        ...
