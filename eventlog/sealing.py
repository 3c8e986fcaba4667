"""Sealing of event bodies: the one door through which free-form and personal data enters and leaves the
record.

A sealed body is raw JSON with a `key_id` beside it. `plain` stores the object as it is; a later codec stores
a string of ciphertext under a key of the subject. Sealed bytes are hashed as stored and never re-encoded.
"""

from __future__ import annotations

from typing import Protocol

PLAIN_KEY_ID = "plain"


class UnknownKeyError(Exception):
    """A body is sealed with a key that this process does not have."""


class Sealing(Protocol):
    """Seals and opens bodies per subject (the user, tenant or conversation whose data it is)."""

    def seal(self, subject: str, body_json: bytes) -> tuple[str, bytes]:
        """(key_id, sealed raw JSON) of a JSON object."""
        ...

    def open(self, subject: str, key_id: str, sealed: bytes) -> bytes:
        """The JSON object again. Raises UnknownKeyError."""
        ...


class PlainSealing:
    """Bodies as they are, marked `plain`."""

    def seal(self, subject: str, body_json: bytes) -> tuple[str, bytes]:
        """The body itself."""
        return PLAIN_KEY_ID, body_json

    def open(self, subject: str, key_id: str, sealed: bytes) -> bytes:
        """The body itself; any other key is unknown."""
        if key_id != PLAIN_KEY_ID:
            raise UnknownKeyError(key_id)
        return sealed
