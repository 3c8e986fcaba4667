"""Groups and their members over REST."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from client.caller import RestCaller, fields, part
from client.records import Change, Page, Record

MEMBERS_A_CALL_MAX = 200


class GroupCalls(RestCaller):
    """`/v1/groups`, `/v1/invites`."""

    async def create_group(
        self,
        name: str,
        members: Iterable[str] = (),
        *,
        key: str | None = None,
        token: str | None = None,
        **settings: Any,
    ) -> Change:
        """Creates a group with at most 200 members beside the owner, the caller; `seq` is its head."""
        body = {"name": name, "members": list(members), **settings}
        if not body["members"]:
            del body["members"]
        return await self.one(Change, "POST", "/v1/groups", body, key=key, token=token)

    async def group(self, group_id: str) -> Record:
        """Settings, member_count and my_role."""
        return await self.one(Record, "GET", _group(group_id))

    async def change_group(self, group_id: str, *, key: str | None = None, **changes: Any) -> Change:
        """Changes settings."""
        return await self.one(Change, "PATCH", _group(group_id), changes, key=key)

    async def dissolve_group(self, group_id: str, *, key: str | None = None) -> Change:
        """Ends the group; its history stays readable for members."""
        return await self.one(Change, "DELETE", _group(group_id), key=key)

    async def members(
        self, group_id: str, *, cursor: str | None = None, limit: int | None = None
    ) -> Page[Record]:
        """Rows `{user_id, name, role, alias?, joined_at, muted_until?, online?}`."""
        return await self.page(Record, f"{_group(group_id)}/members", cursor=cursor, limit=limit)

    async def member(self, group_id: str, user_id: str) -> Record:
        """One member's row."""
        return await self.one(Record, "GET", _member(group_id, user_id))

    async def add_members(
        self,
        group_id: str,
        user_ids: Iterable[str],
        *,
        key: str | None = None,
        token: str | None = None,
        pipelined: bool = False,
    ) -> Change:
        """Adds at most 200 users, all or none. `pipelined` as of `HttpPool`."""
        path, body = f"{_group(group_id)}/members", {"user_ids": list(user_ids)}
        return await self.one(Change, "POST", path, body, key=key, token=token, pipelined=pipelined)

    async def remove_member(self, group_id: str, user_id: str, *, key: str | None = None) -> Change:
        """Removes a member; `not_found` if it is not there."""
        return await self.one(Change, "DELETE", _member(group_id, user_id), key=key)

    async def change_member(
        self, group_id: str, user_id: str, *, key: str | None = None, token: str | None = None, **changes: Any
    ) -> Change:
        """Changes role, alias or muted_until (None ends a mute)."""
        return await self.one(Change, "PATCH", _member(group_id, user_id), changes, key=key, token=token)

    async def join_group(
        self,
        group_id: str,
        *,
        message: str | None = None,
        answers: Any = None,
        code: str | None = None,
        key: str | None = None,
    ) -> Change:
        """Joins an open group, asks an approval group (`pending`), or joins by a code."""
        body = fields(message=message, answers=answers, code=code)
        return await self.one(Change, "POST", f"{_group(group_id)}/join", body, key=key)

    async def leave_group(
        self, group_id: str, *, key: str | None = None, token: str | None = None, pipelined: bool = False
    ) -> Change:
        """Leaves; `conflict` for the owner, `forbidden` if one has left already. `pipelined` as of `HttpPool`."""
        path = f"{_group(group_id)}/leave"
        return await self.one(Change, "POST", path, key=key, token=token, pipelined=pipelined)

    async def join_requests(self, group_id: str, cursor: str | None = None) -> Page[Record]:
        """Open requests."""
        return await self.page(Record, f"{_group(group_id)}/join-requests", cursor=cursor)

    async def answer_join_request(
        self, group_id: str, request_id: str, answer: str, *, key: str | None = None
    ) -> Change:
        """`answer`: approve or reject."""
        path = f"{_group(group_id)}/join-requests/{part(request_id)}/{part(answer)}"
        return await self.one(Change, "POST", path, key=key)

    async def create_invite(
        self,
        group_id: str,
        *,
        max_uses: int | None = None,
        expires_at: str | None = None,
        key: str | None = None,
    ) -> Change:
        """`invite_id` and the `code`, which is shown once."""
        body = fields(max_uses=max_uses, expires_at=expires_at)
        return await self.one(Change, "POST", f"{_group(group_id)}/invites", body, key=key)

    async def invites(self, group_id: str, cursor: str | None = None) -> Page[Record]:
        """The group's invites."""
        return await self.page(Record, f"{_group(group_id)}/invites", cursor=cursor)

    async def revoke_invite(self, group_id: str, invite_id: str, *, key: str | None = None) -> Change:
        """Ends an invite."""
        return await self.one(Change, "DELETE", f"{_group(group_id)}/invites/{part(invite_id)}", key=key)

    async def accept_invite(self, code: str, *, key: str | None = None) -> Change:
        """Joins by a code."""
        return await self.one(Change, "POST", f"/v1/invites/{part(code)}/accept", key=key)

    async def transfer_group(self, group_id: str, to: str, *, key: str | None = None) -> Change:
        """Makes another member the owner and oneself an admin."""
        return await self.one(Change, "POST", f"{_group(group_id)}/transfer", {"to": to}, key=key)

    async def mute_group(self, group_id: str, on: bool = True, *, key: str | None = None) -> Change:
        """While muted only admins and the owner may post."""
        return await self.one(Change, "PUT" if on else "DELETE", f"{_group(group_id)}/mute", key=key)


def _group(group_id: str) -> str:
    return f"/v1/groups/{part(group_id)}"


def _member(group_id: str, user_id: str) -> str:
    return f"/v1/groups/{part(group_id)}/members/{part(user_id)}"
