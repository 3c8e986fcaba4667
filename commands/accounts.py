"""Accounts: registration, log-in, sessions, passwords.

Events say what happened; credentials stay in the secrets store.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Callable

import msgspec

from commands.caller import Answer, Caller, Keyed
from commands.passwords import Passwords, check_password
from commands.port import CommandPort
from commands.refresh import Refresh, RefreshReused, RefreshTokens
from domain.errors import Problem
from domain.streams import user_stream
from domain.user import (
    ChangePassword,
    CloseSession,
    OpenSession,
    RegisterUser,
    Repeat,
    Session,
    UserPasswordChanged,
    UserSessionClosed,
    UserState,
)
from eventlog.secrets import Secrets

PASSWORD_KIND = "password"  # noqa: S105 - a kind of secret, none itself
_UNKEYED = Keyed("accounts")
_WRONG = "unknown user or wrong password"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody logs in with."""

    device_id: str
    device_kind: str
    device_name: str | None = None
    scope: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """An open session and its refresh token; the gateway adds the access token."""

    refresh: Refresh
    scope: str | None
    position: str | None = None
    """The token of the write that opened the session; None for one that was open already."""


def user_name(user_id: str) -> str:
    """The bare name of a user's stream."""
    return f"user:{user_id}"


class Accounts:
    """What can be done with accounts.

    Every call raises Problem; the secrets store failing is `unavailable`.
    """

    def __init__(
        self,
        desk: CommandPort,
        store: Secrets,
        passwords: Passwords,
        refresh: RefreshTokens,
        now_ms: Callable[[], int],
    ) -> None:
        self._desk = desk
        self._store = store
        self._passwords = passwords
        self._refresh = refresh
        self._now_ms = now_ms

    async def state(self, tenant: str, user_id: str) -> UserState:
        """The durable state of an account, of one that does not exist too."""
        state = await self._desk.peek(tenant, user_name(user_id))
        assert isinstance(state, UserState)
        return state

    # --- registration and passwords ---

    async def register(
        self, tenant: str, user_id: str, password: str | None, name: str | None, keyed: Keyed
    ) -> Answer:
        """Make an account; `conflict` when the id is taken.

        Without a password only its tenant can open sessions for it. A password is stored before the event
        that names it; of two registrations at once one wins, and the loser's password is forgotten. A
        cancelled call, and one that ends in `outcome_unknown`, may have registered; the password that it
        stored is forgotten by the next registration that succeeds.
        """
        if password is not None:
            check_password("password", password)
        if keyed.client_key is None and await self._desk.user_exists(tenant, user_id):
            raise Problem("conflict", "this user id is taken")
        credential_id, stale = None, []
        if password is not None:
            stale = await self._stored_passwords(tenant, user_id)
            credential_id = await self._store_password(tenant, user_id, password)
        command = RegisterUser(name=name, credential_id=credential_id)
        try:
            answer = await self._desk.execute(Caller(tenant, user_id), user_name(user_id), command, keyed)
        except Problem as problem:
            if problem.code != "outcome_unknown":
                await self._forget_password(tenant, user_id, credential_id)
            raise
        if answer.replayed or not answer.changed:
            await self._forget_password(tenant, user_id, credential_id)
        else:
            # What was stored before there was an account belongs to tries that did not become one.
            for left in stale:
                await self._forget_password(tenant, user_id, left)
        self._desk.remember_user(tenant, user_id)
        return answer

    async def change_password(self, caller: Caller, old: str, new: str, keyed: Keyed) -> Answer | None:
        """Another password from now on; every other session ends.

        None: the new one already holds. A wrong old one is `forbidden`.
        """
        check_password("new_password", new)
        if keyed.client_key is not None:
            # A repetition comes with a password that is old by now.
            repeated = await self._desk.execute(caller, user_name(caller.user_id), Repeat(), keyed)
            if repeated.replayed:
                return repeated
        state = await self.state(caller.tenant, caller.user_id)
        stored = await self._stored_password(caller.tenant, caller.user_id, state.credential_id)
        old_fits = await self._passwords.verify(stored, old)
        if not old_fits or old == new:
            # Without a key too the repetition of a change may have lost its answer.
            if stored is not None and (old_fits or await self._passwords.verify(stored, new)):
                return None
            raise Problem("forbidden", "the old password is wrong")
        credential_id = await self._store_password(caller.tenant, caller.user_id, new)
        command = ChangePassword(credential_id=credential_id, keep_session_id=caller.session_id)
        try:
            answer = await self._desk.execute(caller, user_name(caller.user_id), command, keyed)
        except Problem as problem:
            if problem.code != "outcome_unknown":
                await self._forget_password(caller.tenant, caller.user_id, credential_id)
            raise
        if any(isinstance(row.event, UserPasswordChanged) for row in answer.events) and not answer.replayed:
            await self._forget_password(caller.tenant, caller.user_id, state.credential_id)
        await self._end_families(caller.tenant, caller.user_id, answer)
        return answer

    async def check_own_password(self, caller: Caller, password: str) -> None:
        """Raises `forbidden` unless it is the caller's."""
        state = await self.state(caller.tenant, caller.user_id)
        stored = await self._stored_password(caller.tenant, caller.user_id, state.credential_id)
        if not await self._passwords.verify(stored, password):
            raise Problem("forbidden", "the password is wrong")

    async def _store_password(self, tenant: str, user_id: str, password: str) -> str:
        hashed = await self._passwords.hash(password)
        credential_id = f"c_{random.token_hex(16)}"
        await self._store.put(PASSWORD_KIND, user_stream(tenant, user_id), credential_id, hashed)
        return credential_id

    async def _stored_password(self, tenant: str, user_id: str, credential_id: str | None) -> bytes | None:
        if credential_id is None:
            return None
        return await self._store.get(PASSWORD_KIND, user_stream(tenant, user_id), credential_id)

    async def _stored_passwords(self, tenant: str, user_id: str) -> list[str]:
        """The credential ids of a user. More than one page of them is left to later calls."""
        found = await self._store.list(PASSWORD_KIND, user_stream(tenant, user_id))
        return [credential_id for _, credential_id in found]

    async def _forget_password(self, tenant: str, user_id: str, credential_id: str | None) -> None:
        if credential_id is not None:
            await self._store.delete(PASSWORD_KIND, user_stream(tenant, user_id), credential_id)

    # --- sessions ---

    async def log_in(self, tenant: str, user_id: str, password: str, device: Device) -> Grant:
        """A session for somebody who knows the password.

        Unknown users and wrong passwords answer alike and take alike time.
        """
        state = await self.state(tenant, user_id)
        stored = await self._stored_password(tenant, user_id, state.credential_id)
        if not await self._passwords.verify(stored, password):
            raise Problem("unauthenticated", _WRONG)
        return await self.open_session(tenant, user_id, device)

    async def open_session(self, tenant: str, user_id: str, device: Device) -> Grant:
        """A session for a user who has been authenticated. `not_found` for an unknown one.

        A cancelled call may leave a session that nobody has a token of; the next one of that device ends it.
        """
        session_id = f"s_{random.token_hex(16)}"
        refresh = await self._refresh.issue(tenant, user_id, session_id, self._now_ms())
        command = OpenSession(
            session_id=session_id,
            device_id=device.device_id,
            device_kind=device.device_kind,
            device_name=device.device_name,
            scope=device.scope,
        )
        try:
            answer = await self._desk.execute(Caller(tenant, user_id), user_name(user_id), command, _UNKEYED)
        except Problem:
            await self._refresh.end(tenant, user_id, session_id)
            raise
        await self._end_families(tenant, user_id, answer)
        return Grant(refresh=refresh, scope=device.scope, position=answer.token)

    async def refresh(self, token: str) -> Grant:
        """Both tokens anew.

        A token used up long ago ends its session and is `unauthenticated` as any other wrong one.
        """
        try:
            refresh = await self._refresh.turn_over(token, self._now_ms())
        except RefreshReused as reused:
            await self._end_unasked(reused.tenant, reused.user_id, reused.session_id)
            raise Problem("unauthenticated", "no valid refresh token") from None
        session = (await self.state(refresh.tenant, refresh.user_id)).sessions.get(refresh.session_id)
        if session is None:
            await self._refresh.end(refresh.tenant, refresh.user_id, refresh.session_id)
            raise Problem("unauthenticated", "the session has ended")
        return Grant(refresh=refresh, scope=session.scope)

    async def sessions(self, caller: Caller) -> dict[str, Session]:
        """The caller's open sessions by id, oldest first."""
        state = await self.state(caller.tenant, caller.user_id)
        return dict(sorted(state.sessions.items(), key=lambda item: (item[1].opened_at, item[0])))

    async def end_session(self, caller: Caller, session_id: str, keyed: Keyed) -> Answer:
        """End one of the caller's sessions; `not_found` if it is none."""
        command = CloseSession(session_id=session_id)
        answer = await self._desk.execute(caller, user_name(caller.user_id), command, keyed)
        await self._end_families(caller.tenant, caller.user_id, answer)
        return answer

    async def _end_unasked(self, tenant: str, user_id: str, session_id: str) -> None:
        await self._refresh.end(tenant, user_id, session_id)
        command = CloseSession(session_id=session_id)
        try:
            await self._desk.execute(Caller(tenant, user_id), user_name(user_id), command, _UNKEYED)
        except Problem as problem:
            if problem.code != "not_found":
                raise

    async def _end_families(self, tenant: str, user_id: str, answer: Answer) -> None:
        for row in answer.events:
            if isinstance(row.event, UserSessionClosed):
                await self._refresh.end(tenant, user_id, row.event.session_id)
