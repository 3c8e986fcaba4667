"""Routes: what of the record reaches this gateway. Whoever caches or delivers something of a stream wants that stream first, and reads
after that is settled; so nothing lies between what was read and what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from typing_extensions import override

from domain.errors import Problem


class RoutedHint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A hint for sockets at other gateways: `typing` or `received` is set. `own`: only for the user's own."""

    tenant: str
    conversation_id: str
    user_id: str
    typing: bool | None = None
    received: int | None = None
    own: bool = False


Heard = Callable[[RoutedHint], None]
STALE = Problem(
    "unavailable", "this server has lost sight of the record for a moment; try again", retry_after_ms=1_000
)


class Routes(Protocol):
    """Calls come from the loop. Wants are counted: what was wanted twice must be given up twice."""

    def want(self, stream: str) -> None:
        """Have the stream's events come here; from when on, `settled` tells."""
        ...

    def unwant(self, stream: str) -> None:
        """Give it up; it may come for a while longer."""
        ...

    async def settled(self) -> Mapping[int, int]:
        """Wait until all that is wanted by now comes: {shard: position}, behind which everything will, or already has.

        Raises Problem(`unavailable`). Cancellation leaves nothing.
        """
        ...

    @property
    def stale(self) -> bool:
        """Whether the record has been out of sight for so long that nothing may be delivered and nobody be let in."""
        ...

    def proven_s(self) -> float:
        """Monotonic seconds: all that was durable then has come."""
        ...

    def tell(self, hint: RoutedHint) -> None:
        """To other gateways; may be lost."""
        ...

    def hear(self, heard: Heard) -> None:
        """Have hints of other gateways handed over."""
        ...


class EverythingHere(Routes):
    """Of a process that is handed every commit by its own bus as it becomes durable."""

    @override
    def want(self, stream: str) -> None:
        return None

    @override
    def unwant(self, stream: str) -> None:
        return None

    @override
    async def settled(self) -> Mapping[int, int]:
        return {}

    @property
    @override
    def stale(self) -> bool:
        return False

    @override
    def proven_s(self) -> float:
        return float("inf")

    @override
    def tell(self, hint: RoutedHint) -> None:
        return None

    @override
    def hear(self, heard: Heard) -> None:
        return None
