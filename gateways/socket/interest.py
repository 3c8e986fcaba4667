"""Who is online here, and what they listen to: users and conversations to live sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateways.socket.session import SocketSession

_NOBODY: frozenset[SocketSession] = frozenset()


class Interest:
    """Two indexes kept in step with each session's own set of streams. Plain calls on the loop."""

    def __init__(self) -> None:
        self._by_stream: dict[str, dict[SocketSession, None]] = {}
        self._by_user: dict[tuple[str, str], dict[SocketSession, None]] = {}

    def enter(self, session: SocketSession) -> None:
        """The session speaks for its user from now on."""
        self._by_user.setdefault(session.user, {})[session] = None

    def leave(self, session: SocketSession) -> None:
        """The session is gone. Idempotent."""
        for stream in tuple(session.streams):
            self.unlisten(session, stream)
        sessions = self._by_user.get(session.user)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._by_user[session.user]

    def listen(self, session: SocketSession, stream: str) -> None:
        """Deliver the stream's events to the session. Idempotent."""
        session.streams.add(stream)
        self._by_stream.setdefault(stream, {})[session] = None

    def unlisten(self, session: SocketSession, stream: str) -> None:
        """Deliver them no more. Idempotent."""
        session.streams.discard(stream)
        sessions = self._by_stream.get(stream)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._by_stream[stream]

    def listeners(self, stream: str) -> Collection[SocketSession]:
        """Who gets the stream's events. Copy before changing interest while walking it."""
        return self._by_stream.get(stream, _NOBODY)

    def sessions_of(self, tenant: str, user_id: str) -> Collection[SocketSession]:
        """The live sessions of a user, oldest first."""
        return self._by_user.get((tenant, user_id), _NOBODY)

    def users(self) -> Iterator[tuple[str, str]]:
        """Every (tenant, user) with a live session."""
        return iter(self._by_user)

    def __len__(self) -> int:
        return sum(len(sessions) for sessions in self._by_user.values())
