"""One event of every type, with every field filled, and a few with as few fields as possible."""

from __future__ import annotations

import msgspec

from domain import direct, group, inbox, shard, talk, tenant, user
from domain.event import Event

AT = 1_700_000_000_000
CONTENT = msgspec.Raw(b'{"kind":"text","text":"Gr\\u00fc\xc3\x9fe \xf0\x9f\x91\x8b"}')

FULL: tuple[Event, ...] = (
    talk.MessagePosted(
        actor="ada",
        at=AT,
        message_id="m7",
        ordinal=3,
        reply_to=2,
        mentions=("bob", "eve"),
        client_msg_id="c-1",
        content=CONTENT,
        origin=talk.Origin(at=AT - 5, id="irc 17"),
    ),
    talk.MessageEdited(actor="ada", at=AT, target=5, content=CONTENT),
    talk.MessageRecalled(actor="ada", at=AT, target=5, by_admin=True),
    talk.ReactionAdded(actor="ada", at=AT, target=5, emoji="👍"),
    talk.ReactionRemoved(actor="ada", at=AT, target=5, emoji="👍"),
    talk.MessagePinned(actor="ada", at=AT, target=5),
    talk.MessageUnpinned(actor="ada", at=AT, target=5),
    group.GroupCreated(
        actor="ada",
        at=AT,
        name="Rust 日本",
        description="about",
        avatar="media1",
        join="open",
        max_members=500,
        history_visible=True,
        members_may_add=False,
        owner="ada",
    ),
    group.GroupChanged(
        actor="ada",
        at=AT,
        changes=group.GroupChanges(
            name="n",
            description=None,
            avatar="a",
            announcement="hear",
            join="invite",
            max_members=9,
            history_visible=False,
            members_may_add=True,
            recall_window_s=1,
            edit_window_s=None,
        ),
    ),
    group.GroupDissolved(actor="ada", at=AT),
    group.GroupMuted(actor="ada", at=AT),
    group.GroupUnmuted(actor="ada", at=AT),
    group.MemberAdded(actor="ada", at=AT, user_id="bob", role="member", via="added"),
    group.MemberRemoved(actor="ada", at=AT, user_id="bob"),
    group.MemberLeft(actor="bob", at=AT, user_id="bob"),
    group.MemberAliasChanged(actor="ada", at=AT, user_id="bob", alias="Bobby"),
    group.MemberMuted(actor="ada", at=AT, user_id="bob", until=AT + 1000),
    group.MemberUnmuted(actor="ada", at=AT, user_id="bob"),
    group.RoleChanged(actor="ada", at=AT, user_id="bob", role="admin", previous="member"),
    group.OwnerTransferred(actor="ada", at=AT, from_="ada", to="bob"),
    group.InviteCreated(
        actor="ada", at=AT, invite_id="i1", code_digest="0f", max_uses=3, expires_at=AT + 1000
    ),
    group.InviteRevoked(actor="ada", at=AT, invite_id="i1"),
    group.InviteUsed(actor="bob", at=AT, invite_id="i1", user_id="bob"),
    direct.DirectOpened(actor="ada", at=AT, users=("ada", "bob")),
    direct.DirectBlocked(actor="ada", at=AT, user_id="bob"),
    direct.DirectUnblocked(actor="ada", at=AT, user_id="bob"),
    user.UserRegistered(actor="ada", at=AT, credential_id="cr1", name="Ada"),
    user.UserProfileChanged(
        actor="ada",
        at=AT,
        friend_policy="none",
        changes=user.ProfileChanges(name="A", bio=None, avatar="m1"),
    ),
    user.UserSessionOpened(
        actor="ada",
        at=AT,
        session_id="s1",
        device_id="d1",
        device_kind="web",
        scope="import",
        device_name="Laptop",
    ),
    user.UserSessionClosed(actor="ada", at=AT, session_id="s1", reason="ended"),
    user.UserPasswordChanged(actor="ada", at=AT, credential_id="cr2"),
    inbox.ReadMarked(actor="ada", at=AT, conversation_id="g_1", read_seq=9),
    inbox.ConversationSettingsChanged(actor="ada", at=AT, conversation_id="g_1", pinned=True, muted=False),
    inbox.UserBlocked(actor="ada", at=AT, user_id="bob"),
    inbox.UserUnblocked(actor="ada", at=AT, user_id="bob"),
    inbox.RemarkChanged(actor="ada", at=AT, user_id="bob", remark="Bobby"),
    inbox.ProfileChanged(actor="ada", at=AT, changes=user.ProfileChanges(name="A", friend_policy="any")),
    inbox.SessionOpened(actor="ada", at=AT, session_id="s1", device_id="d1"),
    inbox.SessionClosed(actor="ada", at=AT, session_id="s1", device_id="d1"),
    inbox.JoinRequestReceived(
        actor="bob", at=AT, conversation_id="g_1", request_id="r1", user_id="bob", message="let me in"
    ),
    tenant.TenantCreated(actor="system", at=AT, name="Default"),
    tenant.AppKeyCreated(actor="system", at=AT, app_key="k1", expires_at=AT + 1000),
    tenant.AppKeyRevoked(actor="system", at=AT, app_key="k1"),
    tenant.TenantDisabled(actor="system", at=AT),
    tenant.TenantEnabled(actor="system", at=AT),
    shard.ShardOpened(actor="system", at=AT, epoch=2, node="node-1"),
)
