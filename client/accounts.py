"""Accounts, sessions and tokens over REST."""

from __future__ import annotations

from typing import Any

from client.caller import RestCaller, fields, part
from client.records import Account, Page, Record, SessionTokens


class AccountCalls(RestCaller):
    """`/v1/users`, `/v1/sessions`, `/v1/tokens`."""

    async def create_user(
        self,
        user_id: str,
        password: str | None = None,
        name: str | None = None,
        *,
        signed: bool = False,
        key: str | None = None,
        deadline_s: float | None = None,
    ) -> Account:
        """Registers a user; `conflict` if the id is taken. A signed call may leave the password out."""
        body = fields(user_id=user_id, password=password, name=name)
        return await self.one(
            Account, "POST", "/v1/users", body, signed=signed, key=key, deadline_s=deadline_s
        )

    async def log_in(
        self,
        user_id: str,
        password: str,
        device_id: str,
        device_kind: str = "bot",
        device_name: str | None = None,
        *,
        deadline_s: float | None = None,
    ) -> SessionTokens:
        """A new session of the device, which ends its old one; the caller's `token` is not changed."""
        body = fields(
            user_id=user_id,
            password=password,
            device_id=device_id,
            device_kind=device_kind,
            device_name=device_name,
        )
        return await self.one(SessionTokens, "POST", "/v1/sessions", body, keyed=False, deadline_s=deadline_s)

    async def refresh(self, refresh_token: str) -> SessionTokens:
        """Both tokens anew; the old refresh token gives the same successor for 60 s."""
        body = {"refresh_token": refresh_token}
        return await self.one(SessionTokens, "POST", "/v1/sessions/refresh", body, keyed=False)

    async def create_token(
        self, user_id: str, device_id: str, device_kind: str = "bot", scope: str | None = None
    ) -> SessionTokens:
        """Signed: a session for a user that the tenant has authenticated.

        `scope="import"` allows `origin`.
        """
        body = fields(user_id=user_id, device_id=device_id, device_kind=device_kind, scope=scope)
        return await self.one(SessionTokens, "POST", "/v1/tokens", body, signed=True, keyed=False)

    async def sessions(self, cursor: str | None = None, limit: int | None = None) -> Page[Record]:
        """One's own sessions."""
        return await self.page(Record, "/v1/sessions", cursor=cursor, limit=limit)

    async def end_session(self, session_id: str = "current") -> Record:
        """Ends one's own session: tokens and sockets die within 2 s."""
        return await self.one(Record, "DELETE", f"/v1/sessions/{part(session_id)}")

    async def change_password(
        self, old_password: str, new_password: str, *, key: str | None = None
    ) -> Record:
        """Ends all other sessions; `forbidden` if the old one is wrong."""
        body = {"old_password": old_password, "new_password": new_password}
        return await self.one(Record, "PUT", "/v1/users/me/password", body, key=key)

    async def me(self) -> Record:
        """One's own profile."""
        return await self.one(Record, "GET", "/v1/users/me")

    async def change_profile(
        self, *, key: str | None = None, token: str | None = None, **changes: Any
    ) -> Record:
        """Changes name, avatar, bio, friend_policy…"""
        return await self.one(Record, "PATCH", "/v1/users/me", changes, key=key, token=token)

    async def erase_me(self, password: str, *, key: str | None = None) -> Record:
        """Erases the account."""
        return await self.one(Record, "DELETE", "/v1/users/me", {"password": password}, key=key)

    async def user(self, user_id: str) -> Record:
        """A public profile."""
        return await self.one(Record, "GET", f"/v1/users/{part(user_id)}")

    async def find_users(
        self, query: str | None = None, *, cursor: str | None = None, limit: int | None = None
    ) -> Page[Record]:
        """The directory."""
        return await self.page(Record, "/v1/users", query=query, cursor=cursor, limit=limit)
