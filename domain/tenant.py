"""A tenant: who may call in its name. Secrets of app keys live in the secrets store.

Stream name: `tenant:ID`. Nothing here is public.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import immutables
import msgspec

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event, State
from domain.streams import split

APP_KEYS_MAX = 100
"""How many app keys of a tenant hold at a time."""

# Events


class TenantCreated(Event, frozen=True, kw_only=True):
    """The tenant exists."""

    TYPE: ClassVar[str] = "tenant_created"
    PUBLIC: ClassVar[bool] = False
    BODY: ClassVar[tuple[str, ...]] = ("name",)

    name: str


class AppKeyCreated(Event, frozen=True, kw_only=True):
    """Calls signed by this key are the tenant's, until `expires_at` (milliseconds since 1970 UTC)."""

    TYPE: ClassVar[str] = "app_key_created"
    PUBLIC: ClassVar[bool] = False

    app_key: str
    expires_at: int | None = None


class AppKeyRevoked(Event, frozen=True, kw_only=True):
    """The key opens nothing any more."""

    TYPE: ClassVar[str] = "app_key_revoked"
    PUBLIC: ClassVar[bool] = False

    app_key: str


class TenantDisabled(Event, frozen=True, kw_only=True):
    """Signed calls of the tenant are refused."""

    TYPE: ClassVar[str] = "tenant_disabled"
    PUBLIC: ClassVar[bool] = False


class TenantEnabled(Event, frozen=True, kw_only=True):
    """Signed calls of the tenant are taken again."""

    TYPE: ClassVar[str] = "tenant_enabled"
    PUBLIC: ClassVar[bool] = False


EVENTS: tuple[type[Event], ...] = (TenantCreated, AppKeyCreated, AppKeyRevoked, TenantDisabled, TenantEnabled)

# State


class AppKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key."""

    created_at: int
    expires_at: int | None = None
    revoked: bool = False

    def usable(self, now: int) -> bool:
        """Whether calls signed by it are taken at that time."""
        return not self.revoked and (self.expires_at is None or now < self.expires_at)


class TenantState(State, frozen=True, kw_only=True):
    """A tenant; `created_at` None: there is none."""

    stream: str
    created_at: int | None = None
    name: str = ""
    disabled: bool = False
    app_keys: immutables.Map[str, AppKey] = immutables.Map()

    @property
    def tenant_id(self) -> str:
        """The tenant's id."""
        return split(self.stream)[1].removeprefix("tenant:")


def initial(stream: str) -> TenantState:
    """A tenant that nobody made."""
    return TenantState(stream=stream)


def evolve(state: TenantState, event: Event) -> TenantState:
    """The state after `event`; total."""
    apply = _APPLY.get(type(event))
    changes = {} if apply is None else apply(state, event)
    return msgspec.structs.replace(state, version=state.version + 1, seq=state.seq + event.PUBLIC, **changes)


def _created(_state: TenantState, event: TenantCreated) -> dict[str, Any]:
    return {"created_at": event.at, "name": event.name}


def _key_created(state: TenantState, event: AppKeyCreated) -> dict[str, Any]:
    key = AppKey(created_at=event.at, expires_at=event.expires_at)
    return {"app_keys": state.app_keys.set(event.app_key, key)}


def _key_revoked(state: TenantState, event: AppKeyRevoked) -> dict[str, Any]:
    key = state.app_keys.get(event.app_key)
    if key is None:
        return {}
    return {"app_keys": state.app_keys.set(event.app_key, msgspec.structs.replace(key, revoked=True))}


def _disabled(_state: TenantState, _event: TenantDisabled) -> dict[str, Any]:
    return {"disabled": True}


def _enabled(_state: TenantState, _event: TenantEnabled) -> dict[str, Any]:
    return {"disabled": False}


_APPLY: dict[type[Event], Callable[[TenantState, Any], dict[str, Any]]] = {
    TenantCreated: _created,
    AppKeyCreated: _key_created,
    AppKeyRevoked: _key_revoked,
    TenantDisabled: _disabled,
    TenantEnabled: _enabled,
}

# Commands


class CreateTenant(Command, frozen=True, kw_only=True):
    """Make the tenant."""

    name: str


class CreateAppKey(Command, frozen=True, kw_only=True):
    """Let calls be signed by a key; its secret is kept by the caller."""

    app_key: str
    expires_at: int | None = None


class RevokeAppKey(Command, frozen=True, kw_only=True):
    """Make a key useless."""

    app_key: str


class DisableTenant(Command, frozen=True, kw_only=True):
    """Refuse the tenant's signed calls."""


class EnableTenant(Command, frozen=True, kw_only=True):
    """Take the tenant's signed calls again."""


# Decide: only the server itself and its operators reach these streams


def decide(state: TenantState, command: Command, context: Context) -> tuple[Event, ...]:
    """What the command makes of the tenant. Raises Problem."""
    handler = _DECIDE.get(type(command))
    if handler is None or (state.created_at is None and type(command) is not CreateTenant):
        raise Problem("not_found", "there is no such tenant")
    return handler(state, command, context)


def _create(state: TenantState, command: CreateTenant, context: Context) -> tuple[Event, ...]:
    text.opaque_id("tenant_id", state.tenant_id)
    if state.created_at is not None:
        raise Problem("conflict", "this tenant exists already")
    return (TenantCreated(actor=context.actor, at=context.now, name=text.name("name", command.name)),)


def _create_key(state: TenantState, command: CreateAppKey, context: Context) -> tuple[Event, ...]:
    app_key = text.opaque_id("app_key", command.app_key)
    known = state.app_keys.get(app_key)
    if known is not None:
        if known.revoked or known.expires_at != command.expires_at:
            raise Problem("conflict", "this app key was made before")
        return ()
    if command.expires_at is not None and not context.now < command.expires_at < 2**53:
        raise invalid("expires_at", "must lie in the future")
    if sum(key.usable(context.now) for key in state.app_keys.values()) >= APP_KEYS_MAX:
        raise Problem("conflict", f"a tenant has at most {APP_KEYS_MAX} app keys")
    return (
        AppKeyCreated(actor=context.actor, at=context.now, app_key=app_key, expires_at=command.expires_at),
    )


def _revoke_key(state: TenantState, command: RevokeAppKey, context: Context) -> tuple[Event, ...]:
    key = state.app_keys.get(command.app_key)
    if key is None:
        raise Problem("not_found", "there is no such app key")
    if key.revoked:
        return ()
    return (AppKeyRevoked(actor=context.actor, at=context.now, app_key=command.app_key),)


def _disable(state: TenantState, _command: DisableTenant, context: Context) -> tuple[Event, ...]:
    return () if state.disabled else (TenantDisabled(actor=context.actor, at=context.now),)


def _enable(state: TenantState, _command: EnableTenant, context: Context) -> tuple[Event, ...]:
    return (TenantEnabled(actor=context.actor, at=context.now),) if state.disabled else ()


_DECIDE: dict[type[Command], Callable[[TenantState, Any, Context], tuple[Event, ...]]] = {
    CreateTenant: _create,
    CreateAppKey: _create_key,
    RevokeAppKey: _revoke_key,
    DisableTenant: _disable,
    EnableTenant: _enable,
}
