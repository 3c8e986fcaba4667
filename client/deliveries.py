"""What a session hands to its reader besides events, and the bounds it keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from client.frames import Event
from client.records import SessionTokens

ATTEMPTS_MAX = 1_000
DEADLINE_S = 60.0
REFRESH_BEFORE_S = 60.0
PING_DEADLINE_S = 20.0
SYNC_LIMIT = 1_000
DISCOVERY_PAGES_MAX = 1_000
REPAIRS_WITHOUT_PROGRESS_MAX = 8
BAD_TOKEN = 4401
ENDING_CODES = frozenset({1009, 4400, 4403, 4409})


@dataclass(frozen=True, slots=True)
class ConversationReset:
    """The server has less than was delivered: drop the conversation, all its events come again."""

    conversation_id: str
    head: int


@dataclass(frozen=True, slots=True)
class LogChanged:
    """The server's log is another one (a restore): drop everything, all events come again."""

    log_id: str


Delivery = Event | ConversationReset | LogChanged
LogIn = Callable[[], Awaitable[SessionTokens]]
