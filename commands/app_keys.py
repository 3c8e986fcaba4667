"""App keys: their secrets in the secrets store, what became of them in the tenant's stream."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Callable

import msgspec

from commands.caller import Answer, Caller, Keyed
from commands.port import CommandPort
from domain.errors import Problem
from domain.inbox import SYSTEM
from domain.tenant import AppKey, CreateAppKey, CreateTenant, RevokeAppKey, TenantState
from eventlog.secrets import Secrets

KIND = "app_key"
_NAME = "key"
_UNKEYED = Keyed("app-keys")


class StoredKey(msgspec.Struct, frozen=True):
    """What the secrets store keeps of a key."""

    tenant: str
    secret: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredKey).decode


class AppKeys:
    """Makes, ends and finds keys. Every call raises Problem."""

    def __init__(self, desk: CommandPort, store: Secrets, now_ms: Callable[[], int]) -> None:
        self._desk = desk
        self._store = store
        self._now_ms = now_ms

    async def create(self, tenant: str, expires_at: int | None = None) -> tuple[str, str]:
        """(key id, secret); the secret is stored before the event, and shown only here.

        Makes the tenant's stream if need be.
        """
        state = await self._state(tenant)
        caller = Caller(tenant, SYSTEM)
        if state.created_at is None:
            await self._desk.execute(caller, f"tenant:{tenant}", CreateTenant(name=tenant), _UNKEYED)
        key_id = f"ak_{random.token_hex(12)}"
        secret = base64.urlsafe_b64encode(random.token_bytes(32)).decode().rstrip("=")
        await self._store.put(KIND, key_id, _NAME, _encode(StoredKey(tenant, secret)))
        command = CreateAppKey(app_key=key_id, expires_at=expires_at)
        try:
            await self._desk.execute(caller, f"tenant:{tenant}", command, _UNKEYED)
        except Problem:
            await self._store.delete(KIND, key_id, _NAME)
            raise
        return key_id, secret

    async def revoke(self, tenant: str, key_id: str) -> Answer:
        """End a key. `not_found` if the tenant has none of that id."""
        command = RevokeAppKey(app_key=key_id)
        answer = await self._desk.execute(Caller(tenant, SYSTEM), f"tenant:{tenant}", command, _UNKEYED)
        await self._store.delete(KIND, key_id, _NAME)
        return answer

    async def list(self, tenant: str) -> dict[str, AppKey]:
        """The tenant's keys by id, revoked and expired ones too."""
        return dict(sorted((await self._state(tenant)).app_keys.items()))

    async def find(self, key_id: str) -> StoredKey | None:
        """The key, if it may sign now: not revoked, not expired, of a tenant that is not disabled."""
        stored = await self._store.get(KIND, key_id, _NAME)
        if stored is None:
            return None
        key = _decode(stored)
        state = await self._state(key.tenant)
        known = state.app_keys.get(key_id)
        if state.disabled or known is None or not known.usable(self._now_ms()):
            return None
        return key

    async def _state(self, tenant: str) -> TenantState:
        state = await self._desk.peek(tenant, f"tenant:{tenant}")
        assert isinstance(state, TenantState)
        return state
