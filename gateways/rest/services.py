"""What the REST face is given by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from commands.accounts import Accounts
from commands.marks import ReadMarks
from commands.port import CommandPort
from gateways.limits import RateLimits
from gateways.presence import Presence
from gateways.rest.edge import BODY_BYTES_MAX
from gateways.rest.signatures import SignedCalls
from gateways.sessions import Sessions

if TYPE_CHECKING:
    from projections.views import ReadSide


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """What can be set about the face. `origins`: allowed for CORS; empty: same origin only.

    The windows are those of groups that have none of their own.
    """

    origins: Sequence[str] = ()
    body_bytes_max: int = BODY_BYTES_MAX
    registration_open: bool = True
    tenant: str = "default"
    shard_count: int = 64
    version: str = "1"
    recall_window_s: int = 120
    edit_window_s: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RestServices:
    """Everything that routes use.

    `readiness` answers what is not ready, by name (empty: ready), `remarks` what is worse than it should be and keeps nobody from
    working. `server_secret` derives invite codes.
    """

    desk: CommandPort
    views: ReadSide
    read_marks: ReadMarks
    accounts: Accounts
    sessions: Sessions
    signed_calls: SignedCalls
    limits: RateLimits
    presence: Presence
    settings: RestSettings
    server_secret: bytes
    now_ms: Callable[[], int]
    readiness: Callable[[], Mapping[str, str]]
    remarks: Callable[[], Mapping[str, str]]
    registry: CollectorRegistry
