"""Who is online here, and what they listen to: users and conversations to live sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from domain.streams import inbox_stream, user_stream
from gateways.routes import EverythingHere, Routes

if TYPE_CHECKING:
    from gateways.socket.session import SocketSession

_NOBODY: frozenset[SocketSession] = frozenset()


class Interest:
    """Two indexes kept in step with each session's own set of streams. Plain calls on the loop.

    What somebody here listens to, and the own streams of whoever is here, is wanted of `routes`.
    """

    def __init__(self, routes: Routes | None = None) -> None:
        self._routes = routes or EverythingHere()
        self._by_stream: dict[str, dict[SocketSession, None]] = {}
        self._by_user: dict[tuple[str, str], dict[SocketSession, None]] = {}

    def enter(self, session: SocketSession) -> None:
        """The session speaks for its user from now on."""
        sessions = self._by_user.get(session.user)
        if sessions is None:
            sessions = self._by_user[session.user] = {}
            for stream in _own_streams(session.user):
                self._routes.want(stream)
        sessions[session] = None

    def leave(self, session: SocketSession) -> None:
        """The session is gone. Idempotent."""
        for stream in tuple(session.streams):
            self.unlisten(session, stream)
        sessions = self._by_user.get(session.user)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._by_user[session.user]
                for stream in _own_streams(session.user):
                    self._routes.unwant(stream)

    def listen(self, session: SocketSession, stream: str) -> None:
        """Deliver the stream's events to the session. Idempotent."""
        session.streams.add(stream)
        sessions = self._by_stream.get(stream)
        if sessions is None:
            sessions = self._by_stream[stream] = {}
            self._routes.want(stream)
        sessions[session] = None

    def unlisten(self, session: SocketSession, stream: str) -> None:
        """Deliver them no more. Idempotent."""
        session.streams.discard(stream)
        sessions = self._by_stream.get(stream)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._by_stream[stream]
                self._routes.unwant(stream)

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


def _own_streams(user: tuple[str, str]) -> tuple[str, str]:
    return user_stream(*user), inbox_stream(*user)
