"""Calls that a tenant has signed: an app key, a time, a nonce and an HMAC over what is asked."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request

from commands.app_keys import AppKeys
from domain.errors import Problem

WINDOW_S = 300
NONCES_MAX = 200_000
"""Nonces inside the window that are remembered; more signed calls than that in a window are `overloaded`."""
_KEY_ID = re.compile(r"[A-Za-z0-9_.:~-]{1,128}")
_NONCE = re.compile(r"[\x21-\x7e]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
SIGNATURE_HEADERS = ("x-app-key", "x-timestamp", "x-nonce", "x-signature")


class SignedCalls:
    """Checks signatures. Nonces are remembered for the window, per key, by this process."""

    def __init__(self, keys: AppKeys, now_ms: Callable[[], int], nonces_max: int = NONCES_MAX) -> None:
        self._keys = keys
        self._now_ms = now_ms
        self._nonces_max = nonces_max
        self._nonces: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def check(self, request: Request, body: bytes) -> tuple[str, str]:
        """(tenant, key id) that signed the call.

        Raises `unauthenticated`; `overloaded` when nonces run out.
        """
        key_id, timestamp, nonce, signature = _headers(request)
        now = self._now_ms()
        signed_at = int(timestamp) * 1000
        if abs(now - signed_at) > WINDOW_S * 1000:
            raise _refused()
        key = await self._keys.find(key_id)
        raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
        target = raw_path.split(b"?", 1)[0]
        if query := request.scope["query_string"]:
            target += b"?" + query
        expected = signature_of(
            "" if key is None else key.secret, request.method, target, timestamp, nonce, body
        )
        if not hmac.compare_digest(expected, signature) or key is None:
            raise _refused()
        self._use(key_id, nonce, signed_at, now)
        return key.tenant, key_id

    def _use(self, key_id: str, nonce: str, signed_at: int, now: int) -> None:
        while self._nonces:
            oldest, until = next(iter(self._nonces.items()))
            if until >= now:
                break
            del self._nonces[oldest]
        if (key_id, nonce) in self._nonces:
            raise _refused()
        if len(self._nonces) >= self._nonces_max:
            raise Problem("overloaded", "too many signed calls", retry_after_ms=1_000)
        # Kept until no clock in the window accepts the time any more; the longest stay is the same for all,
        # so the order is too.
        self._nonces[key_id, nonce] = now + 2 * WINDOW_S * 1000


def signature_of(secret: str, method: str, target: bytes, timestamp: str, nonce: str, body: bytes) -> str:
    """Hex HMAC-SHA256 over the method, `path?query`, time, nonce and the body's digest, one a line."""
    digest = hashlib.sha256(body).hexdigest()
    text = b"\n".join((method.encode(), target, timestamp.encode(), nonce.encode(), digest.encode()))
    return hmac.new(secret.encode(), text, "sha256").hexdigest()


def _headers(request: Request) -> tuple[str, str, str, str]:
    values = []
    for name in SIGNATURE_HEADERS:
        given = request.headers.getlist(name)
        if len(given) != 1:
            raise _refused()
        values.append(given[0])
    key_id, timestamp, nonce, signature = values
    if not (_KEY_ID.fullmatch(key_id) and _TIMESTAMP.fullmatch(timestamp) and _NONCE.fullmatch(nonce)):
        raise _refused()
    if not signature.isascii():
        raise _refused()
    return key_id, timestamp, nonce, signature.lower()


def _refused() -> Problem:
    return Problem("unauthenticated", "no valid signature")
