"""The secrets port: credentials by (kind, subject, name). They never stand in an event, are never relayed and
never exported.

Kinds in use: `password` (subject user, one credential), `refresh` (subject user, name session: a token
family), `app_key` (subject key id), `server` (subject `server`: the signing key, the key of payload digests).
Subjects carry their tenant (`domain.streams.qualified`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

LIST_MAX = 1_000
"""The most secrets one `list` returns."""
VALUE_BYTES_MAX = 64 * 1024


class SecretsUnavailableError(Exception):
    """The store cannot be used. A write may or may not have happened; every write may be repeated."""


class Secrets(Protocol):
    """A small durable map. What a call answered is durable; each call is atomic by itself; a cancelled write
    may still happen.
    """

    async def get(self, kind: str, subject: str, name: str) -> bytes | None:
        """The value, None if there is none."""
        ...

    async def put(self, kind: str, subject: str, name: str, value: bytes) -> None:
        """Set the value, whatever was there."""
        ...

    async def put_if_absent(self, kind: str, subject: str, name: str, value: bytes) -> bytes:
        """Set the value if there is none; answers the value that stands then, ours or the older one."""
        ...

    async def compare_and_swap(
        self, kind: str, subject: str, name: str, expected: bytes | None, value: bytes | None
    ) -> bool:
        """Set (None: delete) the value if it is `expected` (None: absent). Whether it was."""
        ...

    async def delete(self, kind: str, subject: str, name: str) -> bool:
        """Forget the value. Whether there was one."""
        ...

    async def list(
        self, kind: str, subject: str | None = None, after: tuple[str, str] = ("", ""), limit: int = LIST_MAX
    ) -> Mapping[tuple[str, str], bytes]:
        """Values of a kind (of one subject, or of all) by (subject, name), ascending, behind `after`, at most
        `limit`.
        """
        ...

    async def kinds(self) -> Sequence[str]:
        """The kinds of which there are any, ascending."""
        ...

    async def close(self) -> None:
        """Release the store. Idempotent."""
        ...


def check_value(value: bytes | None) -> None:
    """Raises ValueError for a value beyond VALUE_BYTES_MAX."""
    if value is not None and len(value) > VALUE_BYTES_MAX:
        raise ValueError("the secret is too large")


class MemorySecrets:
    """Secrets in a dictionary, gone with the process."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], bytes] = {}

    async def get(self, kind: str, subject: str, name: str) -> bytes | None:
        """See the port."""
        return self._values.get((kind, subject, name))

    async def put(self, kind: str, subject: str, name: str, value: bytes) -> None:
        """See the port."""
        check_value(value)
        self._values[kind, subject, name] = value

    async def put_if_absent(self, kind: str, subject: str, name: str, value: bytes) -> bytes:
        """See the port."""
        check_value(value)
        return self._values.setdefault((kind, subject, name), value)

    async def compare_and_swap(
        self, kind: str, subject: str, name: str, expected: bytes | None, value: bytes | None
    ) -> bool:
        """See the port."""
        check_value(value)
        place = (kind, subject, name)
        if self._values.get(place) != expected:
            return False
        if value is None:
            self._values.pop(place, None)
        else:
            self._values[place] = value
        return True

    async def delete(self, kind: str, subject: str, name: str) -> bool:
        """See the port."""
        return self._values.pop((kind, subject, name), None) is not None

    async def list(
        self, kind: str, subject: str | None = None, after: tuple[str, str] = ("", ""), limit: int = LIST_MAX
    ) -> Mapping[tuple[str, str], bytes]:
        """See the port."""
        places = sorted(
            place
            for place in self._values
            if place[0] == kind and (subject is None or place[1] == subject) and place[1:] > after
        )
        return {place[1:]: self._values[place] for place in places[: min(limit, LIST_MAX)]}

    async def kinds(self) -> Sequence[str]:
        """See the port."""
        return sorted({kind for kind, _, _ in self._values})

    async def close(self) -> None:
        """Nothing to release."""
