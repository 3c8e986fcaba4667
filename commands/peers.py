"""What the router asks of other nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from commands.caller import Answer
from commands.calls import Call, Lost
from commands.looks import Look
from commands.port import Outline
from domain.aggregates import State
from domain.errors import Problem


class PeerLostError(Exception):
    """The node cannot be asked now: no link, or it broke before the answer."""


Heard = Callable[[Answer | Problem | Lost], None]


class Peer(Protocol):
    """Another node."""

    def submit(self, call: Call, heard: Heard) -> None:
        """Send a call; `heard` is called exactly once, on the loop, at once or later. Calls of one stream arrive in order."""
        ...

    async def look(self, look: Look) -> State | Outline | bool:
        """Ask. Raises Problem, NotOwner, PeerLostError."""
        ...


class Peers(Protocol):
    """All other nodes."""

    def peer(self, node: str, address: str) -> Peer:
        """The link to a node at an address; made when it is first needed."""
        ...
