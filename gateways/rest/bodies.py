"""The bodies of requests, one class each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from domain.group_invites import USES_MAX
from domain.group_settings import WINDOW_S_MAX
from gateways.rest.fields import (
    Address,
    Announcement,
    Bio,
    Body,
    ClientKey,
    Content,
    Description,
    GivenPassword,
    Integer,
    Name,
    OpaqueId,
    Password,
    Seq,
    Time,
    TimeText,
    UserId,
    UserIds,
)

DeviceKind = Literal["mobile", "desktop", "web", "bot"]
Join = Literal["open", "approval", "invite", "closed"]
SYNC_NAMES_MAX = 1_000
SYNC_EVENTS_MAX = 1_000
SYNC_RECENT_MAX = 50


class RegisterUser(Body):
    """`POST /v1/users`. Only a signed tenant call may leave the password out."""

    user_id: UserId
    password: Password | None = None
    name: Name | None = None


class OpenSession(Body):
    """`POST /v1/sessions`."""

    user_id: UserId
    password: GivenPassword
    device_id: OpaqueId
    device_kind: DeviceKind
    device_name: Name | None = None


class RefreshSession(Body):
    """`POST /v1/sessions/refresh`."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=512)]


class ChangePassword(Body):
    """`PUT /v1/users/me/password`."""

    old_password: GivenPassword
    new_password: Password


class DeleteUser(Body):
    """`DELETE /v1/users/me`."""

    password: GivenPassword


class IssueToken(Body):
    """`POST /v1/tokens`, signed."""

    user_id: UserId
    device_id: OpaqueId
    device_kind: DeviceKind
    device_name: Name | None = None
    scope: Literal["import"] | None = None


class ChangeProfile(Body):
    """`PATCH /v1/users/me`. A field left out stays; null clears `avatar` and `bio`."""

    name: Name = Field(default="")
    avatar: Address | None = None
    bio: Bio | None = None
    friend_policy: Literal["any", "confirm", "none"] = "confirm"


class CreateGroup(Body):
    """`POST /v1/groups`."""

    name: Name
    description: Description | None = None
    avatar: Address | None = None
    members: Annotated[list[UserId], Field(max_length=200, default_factory=list)]
    join: Join = "closed"
    max_members: Annotated[int, Field(ge=1, le=100_000)] = 500
    history_visible: bool = True
    members_may_add: bool = False


class ChangeGroup(Body):
    """`PATCH /v1/groups/{id}`.

    A field left out stays; null clears description, avatar and announcement, and gives windows the server's
    length.
    """

    name: Name = Field(default="")
    description: Description | None = None
    avatar: Address | None = None
    announcement: Announcement | None = None
    join: Join = "closed"
    max_members: Annotated[int, Field(ge=1, le=100_000)] = 500
    history_visible: bool = True
    members_may_add: bool = False
    recall_window_s: Annotated[int, Field(ge=0, le=WINDOW_S_MAX)] | None = None
    edit_window_s: Annotated[int, Field(ge=0, le=WINDOW_S_MAX)] | None = None


class AddMembers(Body):
    """`POST /v1/groups/{id}/members`."""

    user_ids: UserIds


class ChangeMember(Body):
    """`PATCH /v1/groups/{id}/members/{user}`. Null clears `alias` and `muted_until`."""

    role: Literal["admin", "member"] = "member"
    alias: Name | None = None
    muted_until: Time | None = None


class JoinGroup(Body):
    """`POST /v1/groups/{id}/join`."""

    message: Description | None = None
    answers: Annotated[list[Description], Field(max_length=20)] | None = None
    code: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class CreateInvite(Body):
    """`POST /v1/groups/{id}/invites`."""

    max_uses: Annotated[int, Field(ge=1, le=USES_MAX)] | None = None
    expires_at: Time | None = None


class TransferGroup(Body):
    """`POST /v1/groups/{id}/transfer`."""

    to: UserId


class ChangeConversation(Body):
    """`PATCH /v1/conversations/{id}`."""

    pinned: bool | None = None
    muted: bool | None = None


class Origin(Body):
    """Where an imported message comes from."""

    at: TimeText
    id: ClientKey


class SendMessage(Body):
    """`POST /v1/conversations/{id}/messages`."""

    client_msg_id: ClientKey
    content: Content
    reply_to: Seq | None = None
    mentions: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=200, default_factory=list)
    ]
    origin: Origin | None = None


class EditMessage(Body):
    """`PATCH /v1/conversations/{id}/messages/{seq}`."""

    content: Content


class MarkRead(Body):
    """`PUT /v1/conversations/{id}/read`."""

    seq: Seq


class Sync(Body):
    """`POST /v1/sync`."""

    have: Annotated[dict[OpaqueId, Integer], Field(max_length=SYNC_NAMES_MAX)]
    limit: Annotated[int, Field(ge=1, le=SYNC_EVENTS_MAX)] = 500
    recent: Annotated[int, Field(ge=0, le=SYNC_RECENT_MAX)] = 0
    only: bool = False
    cursor: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
