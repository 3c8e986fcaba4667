"""Access tokens: short JWTs with one fixed algorithm, read without a look into any store."""

from __future__ import annotations

import itertools
import secrets
from collections import OrderedDict
from typing import Any

import jwt
import msgspec

from domain.errors import Problem

ALGORITHM = "HS256"
"""The only one that is written or read; a token's own `alg` chooses nothing."""
ISSUER = "minutebook"
AUDIENCE = "minutebook"
TOKEN_TYPE = "access"  # noqa: S105 - a kind of token, none itself
SCOPE_IMPORT = "import"
ACCESS_TOKEN_S = 15 * 60
TOKEN_BYTES_MAX = 2_048
"""Longer ones are refused unread."""
VERIFIED_MAX = 20_000
"""Verified tokens remembered; at most 2 KiB each. Expiry is looked at every time, whether the session lives by the caller."""
_REQUIRED = ("iss", "aud", "exp", "iat", "sub", "sid", "typ", "ten")


class Claims(msgspec.Struct, frozen=True):
    """Whom a token names. `expires_at` is milliseconds since 1970 UTC."""

    tenant: str
    user_id: str
    session_id: str
    expires_at: int
    scope: str | None = None


def unauthenticated(detail: str = "no valid access token") -> Problem:
    """The one answer to every wrong token; it does not say what was wrong with it."""
    return Problem("unauthenticated", detail)


class AccessTokens:
    """Signs and reads access tokens with the server's key (at least 32 bytes)."""

    def __init__(self, key: bytes, *, lifetime_s: int = ACCESS_TOKEN_S) -> None:
        if len(key) < 32:
            raise ValueError("the key of access tokens needs 32 bytes")
        self._key = key
        # A token comes with every call of its session, and verifying it costs more than what a call asks for. Refusals are
        # not kept.
        self._verified: OrderedDict[str, Claims] = OrderedDict()
        self._numbers = itertools.count(secrets.randbits(48))
        self.lifetime_s = lifetime_s

    def issue(
        self, tenant: str, user_id: str, session_id: str, now: int, scope: str | None = None
    ) -> tuple[str, int]:
        """(token, when it expires); `now` and the result in milliseconds."""
        issued_s = now // 1000
        expires_s = issued_s + self.lifetime_s
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": issued_s,
            "exp": expires_s,
            "sub": user_id,
            "sid": session_id,
            "ten": tenant,
            "typ": TOKEN_TYPE,
            # Two tokens of one second are two tokens.
            "jti": f"{next(self._numbers):x}",
        }
        if scope is not None:
            claims["scope"] = scope
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM)
        self._remember(token, _claims(claims))
        return token, expires_s * 1000

    def read(self, token: str, now: int) -> Claims:
        """The claims of a token that is ours and has not expired at `now` (ms).

        Raises `unauthenticated` for every other.
        """
        if not token or len(token) > TOKEN_BYTES_MAX:
            raise unauthenticated()
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            self._remember(token, claims)
        else:
            self._verified.move_to_end(token)
        if claims.expires_at <= now:
            raise unauthenticated()
        return claims

    def _remember(self, token: str, claims: Claims) -> None:
        self._verified[token] = claims
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)

    def _verify(self, token: str) -> Claims:
        """The claims of a token that is ours, expired or not."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # The clock is ours, not PyJWT's, so that tests and `iat` share one notion of now.
                options={
                    "require": list(_REQUIRED),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise unauthenticated() from None
        return _claims(claims)


def _claims(claims: dict[str, Any]) -> Claims:
    texts = [claims[name] for name in ("ten", "sub", "sid", "typ")]
    expires_s, scope = claims["exp"], claims.get("scope")
    if not all(isinstance(text, str) and text for text in texts) or type(expires_s) is not int:
        raise unauthenticated()
    if claims["typ"] != TOKEN_TYPE or (scope is not None and scope != SCOPE_IMPORT):
        raise unauthenticated()
    return Claims(claims["ten"], claims["sub"], claims["sid"], expires_s * 1000, scope)
