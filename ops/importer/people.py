"""The accounts and sessions of imported people: vouched for by the tenant, or with derived passwords."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from client.problem import ProblemError
from client.records import SessionTokens
from client.rest import RestClient

T = TypeVar("T")
DEVICE_ID = "irc-import"
RENEW_BEFORE_S = 60.0
SECRET_BYTES = 32


class ForeignUserError(Exception):
    """A user id of this import belongs to somebody else, or the secret file is not that of the first run."""


def read_secret(path: Path) -> bytes:
    """The import's secret, made at the first run (mode 0600): all passwords are derived from it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text("ascii").strip())
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        secret = secrets.token_bytes(SECRET_BYTES)
        file.write(secret.hex() + "\n")
    return secret


class People:
    """Makes users and keeps one session for each that acts.

    `secret` is None when the tenant's key vouches.
    """

    def __init__(self, rest: RestClient, secret: bytes | None, deadline_s: float) -> None:
        self.vouched = secret is None
        self._rest = rest
        self._secret = secret or b""
        self._deadline_s = deadline_s
        self._tokens: dict[str, SessionTokens] = {}

    async def make(self, user_id: str, name: str) -> bool:
        """Makes the user; False if it was there already."""
        try:
            account = await self._rest.create_user(
                user_id,
                None if self.vouched else self._password(user_id),
                name,
                signed=self.vouched,
                key=f"irc:user:{user_id}",
                deadline_s=self._deadline_s,
            )
        except ProblemError as problem:
            if problem.code == "conflict":
                return False
            raise
        return not account.replayed

    async def open(self, user_id: str) -> str:
        """A new session's access token."""
        if self.vouched:
            tokens = await self._rest.create_token(user_id, DEVICE_ID, scope="import")
        else:
            try:
                tokens = await self._rest.log_in(
                    user_id, self._password(user_id), DEVICE_ID, deadline_s=self._deadline_s
                )
            except ProblemError as problem:
                if problem.code == "unauthenticated":
                    raise ForeignUserError(
                        f"user {user_id} has another password than this import's"
                    ) from problem
                raise
        self._tokens[user_id] = tokens
        return tokens.access_token

    async def call(self, user_id: str, call: Callable[[str], Awaitable[T]]) -> T:
        """`call(token)` as that user; once more with a new session if the old one is over."""
        tokens = self._tokens.get(user_id)
        if tokens is None or tokens.expires_at.timestamp() - self._rest.clock.now() < RENEW_BEFORE_S:
            return await call(await self.open(user_id))
        try:
            return await call(tokens.access_token)
        except ProblemError as problem:
            if problem.code != "unauthenticated":
                raise
        return await call(await self.open(user_id))

    def _password(self, user_id: str) -> str:
        return hmac.new(self._secret, user_id.encode(), hashlib.sha256).hexdigest()
