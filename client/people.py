"""Friends, blocks and presence over REST."""

from __future__ import annotations

from collections.abc import Iterable

from client.caller import RestCaller, fields, part
from client.records import Page, Record


class PeopleCalls(RestCaller):
    """`/v1/friend-requests`, `/v1/friends`, `/v1/blocks`, `/v1/presence`."""

    async def request_friend(self, to: str, message: str | None = None, *, key: str | None = None) -> Record:
        """`{request_id}`; `forbidden` while a block stands."""
        return await self.one(Record, "POST", "/v1/friend-requests", fields(to=to, message=message), key=key)

    async def friend_requests(self, cursor: str | None = None, limit: int | None = None) -> Page[Record]:
        """Incoming and outgoing requests."""
        return await self.page(Record, "/v1/friend-requests", cursor=cursor, limit=limit)

    async def answer_friend_request(self, request_id: str, answer: str, *, key: str | None = None) -> Record:
        """`answer`: accept, reject or revoke."""
        return await self.one(
            Record, "POST", f"/v1/friend-requests/{part(request_id)}/{part(answer)}", key=key
        )

    async def friends(self, cursor: str | None = None, limit: int | None = None) -> Page[Record]:
        """One's friends."""
        return await self.page(Record, "/v1/friends", cursor=cursor, limit=limit)

    async def remark_friend(self, user_id: str, remark: str, *, key: str | None = None) -> Record:
        """A private remark about a friend."""
        return await self.one(Record, "PATCH", f"/v1/friends/{part(user_id)}", {"remark": remark}, key=key)

    async def remove_friend(self, user_id: str, *, key: str | None = None) -> Record:
        """Ends a friendship."""
        return await self.one(Record, "DELETE", f"/v1/friends/{part(user_id)}", key=key)

    async def blocks(self, cursor: str | None = None, limit: int | None = None) -> Page[Record]:
        """Whom one blocks."""
        return await self.page(Record, "/v1/blocks", cursor=cursor, limit=limit)

    async def block(self, user_id: str, *, key: str | None = None) -> Record:
        """Blocks a user."""
        return await self.one(Record, "PUT", f"/v1/blocks/{part(user_id)}", key=key)

    async def unblock(self, user_id: str, *, key: str | None = None) -> Record:
        """Ends a block."""
        return await self.one(Record, "DELETE", f"/v1/blocks/{part(user_id)}", key=key)

    async def presence(self, user_ids: Iterable[str]) -> list[Record]:
        """Rows `{user_id, online, devices, last_seen}` of those one may see."""
        return (await self.page(Record, "/v1/presence", users=",".join(user_ids))).data
