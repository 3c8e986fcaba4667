"""The one module of the views that knows redis-py: scripts run on a Redis, by any thread, within a bounded time.

Who asks has another way, so nothing is retried: a Redis that failed is left alone for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from projections.fast import FastAwayError

CONNECTIONS_MAX = 8
"""Kept open between calls; more threads than that open one for each call."""
PAUSE_S = 1.0
"""How long a Redis that failed is not asked again."""

Value = bytes | str | int | float
Call = tuple[str, Sequence[Value]]
"""A key and arguments."""


class Script:
    """A Lua script and its name on the server."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLine:
    """Connections to one Redis. `timeout_s`: for a connection, for a reply, and between the first and the last reply."""

    def __init__(self, url: str, timeout_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        self._class: Callable[..., Any] = options.pop("connection_class", Connection)
        self._options = options | {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._free: list[Any] = []
        # redis-py's connections, whose methods have no types.
        self._turn = threading.Lock()
        self._asleep_until_s = 0.0
        self._closed = False
        self.calls = 0
        self.failures = 0

    @property
    def away(self) -> bool:
        """Whether it failed a moment ago and is not asked now."""
        return self._monotonic_s() < self._asleep_until_s

    def run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Run a script for each call, in order, in one journey; the replies. Raises FastAwayError; then any of them may have run."""
        if self._closed or self.away:
            raise FastAwayError("away")
        if not calls:
            return []
        self.calls += len(calls)
        connection: Any = None
        try:
            connection = self._taken()
            replies = self._run(connection, script, calls)
        except (RedisError, OSError) as error:
            self.failures += 1
            self._asleep_until_s = self._monotonic_s() + PAUSE_S
            if connection is not None:
                connection.disconnect()
            raise FastAwayError(type(error).__name__) from error
        except BaseException:
            if connection is not None:
                connection.disconnect()
            raise
        self._give_back(connection)
        return replies

    def close(self) -> None:
        """Close the connections; later calls are refused. Idempotent."""
        with self._turn:
            self._closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.disconnect()

    def _run(self, connection: Any, script: Script, calls: Sequence[Call]) -> list[Any]:
        replies = self._sent(connection, [("EVALSHA", script.sha, 1, key, *rest) for key, rest in calls])
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = self._sent(
                connection,
                [
                    ("SCRIPT", "LOAD", script.text),
                    *(("EVALSHA", script.sha, 1, calls[index][0], *calls[index][1]) for index in unknown),
                ],
            )
            for index, reply in zip(unknown, again[1:], strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    def _sent(self, connection: Any, commands: list[tuple[Value, ...]]) -> list[Any]:
        deadline_s = self._monotonic_s() + self._timeout_s
        connection.send_packed_command(connection.pack_commands(commands))
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except NoScriptError as error:
                replies.append(error)
            if self._monotonic_s() > deadline_s and len(replies) < len(commands):
                raise OSError("too slow")
        return replies

    def _taken(self) -> Any:
        with self._turn:
            if self._free:
                return self._free.pop()
        return self._class(**self._options)

    def _give_back(self, connection: Any) -> None:
        with self._turn:
            if not self._closed and len(self._free) < CONNECTIONS_MAX:
                self._free.append(connection)
                return
        connection.disconnect()
