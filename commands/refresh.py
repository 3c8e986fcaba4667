"""Refresh tokens: a family per session, turned over by every use, recognised by digest.

A token names its session and its generation and carries a MAC over both and the family's nonce. So a
successor can be made again for a client that lost the answer, a token that was never issued is told from one
that was used up, and the store holds nothing to log in with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

import msgspec

from domain.errors import Problem
from domain.streams import qualified
from eventlog.secrets import Secrets

KIND = "refresh"
LIFETIME_S = 30 * 24 * 3600
REUSE_S = 60
"""A used token gives its successor again for so long: answers get lost."""
ROTATIONS_KEPT = 8
SWAPS_MAX = 8
"""Concurrent uses of one token that may get in each other's way before one is told to come again."""
_PREFIX = "mbr1"
_NONCE_BYTES = 32


class Family(msgspec.Struct, frozen=True):
    """What the store keeps of a session's refresh tokens.

    Times in milliseconds. `rotated_at`: the newest rotations, oldest first.
    """

    nonce: bytes
    digest: bytes
    """SHA-256 of the current token."""
    expires_at: int
    generation: int = 0
    rotated_at: tuple[int, ...] = ()


class Refresh(msgspec.Struct, frozen=True):
    """A refresh token, when it expires (ms), and whose it is."""

    tenant: str
    user_id: str
    session_id: str
    token: str
    expires_at: int


class RefreshReused(Exception):
    """A token was used that was used up long ago: two parties hold the family. The session must end."""

    def __init__(self, tenant: str, user_id: str, session_id: str) -> None:
        super().__init__("refresh token reused")
        self.tenant = tenant
        self.user_id = user_id
        self.session_id = session_id


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Family).decode


class RefreshTokens:
    """Issues, turns over and ends families. `key`: a server secret of 32 bytes."""

    def __init__(
        self, store: Secrets, key: bytes, *, lifetime_s: int = LIFETIME_S, reuse_s: int = REUSE_S
    ) -> None:
        self._store = store
        self._key = key
        self._lifetime_ms = lifetime_s * 1000
        self._reuse_ms = reuse_s * 1000

    async def issue(self, tenant: str, user_id: str, session_id: str, now: int) -> Refresh:
        """The first token of a session."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        token = self._token(tenant, user_id, session_id, 0, nonce)
        family = Family(nonce, _digest(token), now + self._lifetime_ms)
        await self._store.put(KIND, qualified(tenant, user_id), session_id, _encode(family))
        return Refresh(tenant, user_id, session_id, token, family.expires_at)

    def owner(self, token: str) -> tuple[str, str, str]:
        """(tenant, user, session) that a token names, not yet believed. Raises `unauthenticated`."""
        tenant, user_id, session_id, _ = _parts(token)
        return tenant, user_id, session_id

    async def turn_over(self, token: str, now: int) -> Refresh:
        """The successor of a token.

        Raises `unauthenticated`, or RefreshReused for a token that was used up more than REUSE_S ago.

        A cancelled call may have turned it over; the same token then gives the same successor.
        """
        tenant, user_id, session_id, generation = _parts(token)
        subject = qualified(tenant, user_id)
        for _ in range(SWAPS_MAX):
            stored = await self._store.get(KIND, subject, session_id)
            if stored is None:
                raise _refused()
            family = _decode(stored)
            expected = self._token(tenant, user_id, session_id, generation, family.nonce)
            if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
                raise _refused()
            if family.expires_at <= now:
                raise _refused()
            successor = self._token(tenant, user_id, session_id, generation + 1, family.nonce)
            if generation < family.generation:
                if not self._recently_used(family, generation, now):
                    raise RefreshReused(tenant, user_id, session_id)
                return Refresh(tenant, user_id, session_id, successor, family.expires_at)
            turned = Family(
                family.nonce,
                _digest(successor),
                now + self._lifetime_ms,
                family.generation + 1,
                (*family.rotated_at, now)[-ROTATIONS_KEPT:],
            )
            if await self._store.compare_and_swap(KIND, subject, session_id, stored, _encode(turned)):
                return Refresh(tenant, user_id, session_id, successor, turned.expires_at)
        raise Problem("overloaded", "the token is in use; try again", retry_after_ms=100)

    def _recently_used(self, family: Family, generation: int, now: int) -> bool:
        """Whether the token of that generation was used up at most REUSE_S ago."""
        back = family.generation - generation
        return back <= len(family.rotated_at) and now - family.rotated_at[-back] <= self._reuse_ms

    async def end(self, tenant: str, user_id: str, session_id: str) -> None:
        """Forget a family. Idempotent."""
        await self._store.delete(KIND, qualified(tenant, user_id), session_id)

    def _token(self, tenant: str, user_id: str, session_id: str, generation: int, nonce: bytes) -> str:
        place = (
            base64.urlsafe_b64encode(msgspec.json.encode([tenant, user_id, session_id, generation]))
            .decode()
            .rstrip("=")
        )
        mac = hmac.digest(self._key, b"refresh\x00" + nonce + place.encode(), "sha256")
        return f"{_PREFIX}.{place}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_decode_place = msgspec.json.Decoder(tuple[str, str, str, int]).decode


def _parts(token: str) -> tuple[str, str, str, int]:
    prefix, _, rest = token.partition(".")
    place = rest.partition(".")[0]
    if prefix != _PREFIX:
        raise _refused()
    try:
        return _decode_place(base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)))
    except ValueError:
        raise _refused() from None


def _refused() -> Problem:
    return Problem("unauthenticated", "no valid refresh token")
