"""Codes that let people into a group: a part of the group. Only digests of codes are known here."""

from __future__ import annotations

from typing import ClassVar

import immutables
import msgspec

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event

INVITES_MAX = 200
"""How many invites of a group can be used at a time."""
USES_MAX = 100_000

# Events


class InviteCreated(Event, frozen=True, kw_only=True):
    """A code exists. `expires_at` is milliseconds since 1970 UTC."""

    TYPE: ClassVar[str] = "invite_created"
    PUBLIC: ClassVar[bool] = False

    invite_id: str
    code_digest: str
    max_uses: int | None = None
    expires_at: int | None = None


class InviteRevoked(Event, frozen=True, kw_only=True):
    """The code lets nobody in any more."""

    TYPE: ClassVar[str] = "invite_revoked"
    PUBLIC: ClassVar[bool] = False

    invite_id: str


class InviteUsed(Event, frozen=True, kw_only=True):
    """The user came in by the code; stands behind its `member_added`, in the same commit."""

    TYPE: ClassVar[str] = "invite_used"
    PUBLIC: ClassVar[bool] = False

    invite_id: str
    user_id: str


EVENTS: tuple[type[Event], ...] = (InviteCreated, InviteRevoked, InviteUsed)

# State


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """An invite, used `uses` times."""

    code_digest: str
    created_by: str
    max_uses: int | None = None
    expires_at: int | None = None
    uses: int = 0
    revoked: bool = False

    def usable(self, now: int) -> bool:
        """Whether it lets somebody in at that time."""
        if self.revoked or (self.expires_at is not None and now >= self.expires_at):
            return False
        return self.max_uses is None or self.uses < self.max_uses


Invites = immutables.Map[str, Invite]
NO_INVITES: Invites = immutables.Map()


def evolve(invites: Invites, event: Event) -> Invites:
    """The invites by id after a private `event`; total. Those that can be used no longer are forgotten
    beyond a bound.
    """
    if isinstance(event, InviteCreated):
        invite = Invite(
            code_digest=event.code_digest,
            created_by=event.actor,
            max_uses=event.max_uses,
            expires_at=event.expires_at,
        )
        return _pruned(invites, event.at).set(event.invite_id, invite)
    if not isinstance(event, InviteRevoked | InviteUsed):
        return invites
    known = invites.get(event.invite_id)
    if known is None:
        return invites
    if isinstance(event, InviteRevoked):
        return invites.set(event.invite_id, msgspec.structs.replace(known, revoked=True))
    return invites.set(event.invite_id, msgspec.structs.replace(known, uses=known.uses + 1))


def _pruned(invites: Invites, now: int) -> Invites:
    if len(invites) < INVITES_MAX:
        return invites
    return immutables.Map({key: invite for key, invite in invites.items() if invite.usable(now)})


# Commands


class CreateInvite(Command, frozen=True, kw_only=True):
    """Make a code; its id is the context's new id. `code_digest` is a digest of the code, which the caller
    keeps.
    """

    code_digest: str
    max_uses: int | None = None
    expires_at: int | None = None


class RevokeInvite(Command, frozen=True, kw_only=True):
    """Make a code useless."""

    invite_id: str


# Decide: the actor is an admin or the owner


def create(invites: Invites, command: CreateInvite, context: Context) -> tuple[Event, ...]:
    """A new invite. Raises Problem."""
    text.opaque_id("code_digest", command.code_digest)
    if command.max_uses is not None and not 1 <= command.max_uses <= USES_MAX:
        raise invalid("max_uses", f"must lie between 1 and {USES_MAX}")
    if command.expires_at is not None and not context.now < command.expires_at < 2**53:
        raise invalid("expires_at", "must lie in the future")
    if sum(invite.usable(context.now) for invite in invites.values()) >= INVITES_MAX:
        raise Problem("conflict", f"a group has at most {INVITES_MAX} open invites")
    return (
        InviteCreated(
            actor=context.actor,
            at=context.now,
            invite_id=context.new_id,
            code_digest=command.code_digest,
            max_uses=command.max_uses,
            expires_at=command.expires_at,
        ),
    )


def revoke(invites: Invites, command: RevokeInvite, context: Context) -> tuple[Event, ...]:
    """The end of an invite. Raises Problem."""
    invite = invites.get(command.invite_id)
    if invite is None:
        raise Problem("not_found", "there is no such invite")
    if invite.revoked:
        return ()
    return (InviteRevoked(actor=context.actor, at=context.now, invite_id=command.invite_id),)


def use(invites: Invites, code_digest: str | None, context: Context) -> InviteUsed:
    """The use of a code by the actor. Raises `not_found` for a wrong, revoked, used-up or expired one."""
    for invite_id, invite in invites.items():
        if invite.code_digest == code_digest and invite.usable(context.now):
            return InviteUsed(actor=context.actor, at=context.now, invite_id=invite_id, user_id=context.actor)
    raise Problem("not_found", "there is no such invite")
