"""What keeps a process from its work, by part: asked by `/readyz` of the metrics port, and of the gateway's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from commands.node import Node
from commands.reactions import Reactions
from eventlog.feed import Feed
from eventlog.relay import Relay
from projections.views import ReadSide

READY_LAG_COMMITS_MAX = 10_000
"""Views, and reactions, further behind than that make their process not ready."""
Check = Callable[[], Mapping[str, str]]
"""The reasons, by part; empty: nothing is wrong."""


class Readiness:
    """All checks of one process. `stopping`: a drain has begun, and it is not ready from then on."""

    def __init__(self) -> None:
        self._checks: list[Check] = []
        self._remarks: list[Check] = []
        self.stopping = False

    def add(self, check: Check) -> None:
        """One more."""
        self._checks.append(check)

    def add_remark(self, check: Check) -> None:
        """One more of what makes the process worse, and keeps it from nothing."""
        self._remarks.append(check)

    def remarks(self) -> Mapping[str, str]:
        """Every remark, by part; empty: all is well."""
        return {part: words for check in self._remarks for part, words in check().items()}

    def __call__(self) -> Mapping[str, str]:
        """Every reason; empty: ready."""
        reasons = {"server": "stopping"} if self.stopping else {}
        for check in self._checks:
            reasons.update(check())
        return reasons


def of_log(writable: bool) -> Mapping[str, str]:
    """Whether the event log takes writes, as far as this process knows."""
    return {} if writable else {"log": "the event log refuses writes"}


def of_node(node: Node) -> Mapping[str, str]:
    """An owner: its log takes writes, and all its shards are still its own."""
    reasons = dict(of_log(node.writable))
    lost = sorted(number for number, shard in node.shards.items() if shard.lost)
    if lost:
        reasons["shards"] = (
            f"{', '.join(map(str, lost[:10]))} of {len(node.shards)} were taken by another node"
        )
    return reasons


def of_views(views: ReadSide) -> Mapping[str, str]:
    """Views, whoever writes them."""
    if views.failing:
        return {"views": "the read models cannot be written"}
    if views.lag_commits > READY_LAG_COMMITS_MAX:
        return {"views": f"{views.lag_commits} commits behind"}
    return {}


def of_relay(relay: Relay) -> Mapping[str, str]:
    """A remark: what is durable waits for the carrier; nothing is lost, but others hear of it late."""
    return {} if relay.is_connected else {"carrier": "Kafka cannot be reached"}


def of_carrier(name: str, feed: Feed[Any]) -> Mapping[str, str]:
    """A remark: what others wrote comes within a second or two instead of at once."""
    return {f"feed {name}": "Kafka cannot be reached; the log is followed instead"} if feed.is_away else {}


def of_feed(name: str, feed: Feed[Any]) -> Mapping[str, str]:
    """A feed that ended by itself."""
    return {} if feed.failure is None else {f"feed {name}": "what it feeds is of another log"}


def of_reactions(reactions: Reactions) -> Mapping[str, str]:
    """The process manager."""
    lag = sum(reactions.lag.values())
    return {"reactions": f"{lag} commits behind"} if lag > READY_LAG_COMMITS_MAX else {}
