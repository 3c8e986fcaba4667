"""Conversations and messages over REST."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from client.caller import RestCaller, fields, part
from client.frames import EventsPage, PageEvent
from client.records import Change, Envelope, Message, Page, Posted, Record

_SYNC_DECODER = msgspec.json.Decoder(Envelope[dict[str, Any]])


class ConversationCalls(RestCaller):
    """`/v1/direct`, `/v1/conversations`, `/v1/sync`, `/v1/search`, `/v1/media`."""

    async def open_direct(self, user_id: str, *, key: str | None = None) -> str:
        """The conversation id of the pair, opened if there was none; with oneself: notes."""
        record = await self.one(Record, "PUT", f"/v1/direct/{part(user_id)}", key=key)
        return str(record["conversation_id"])

    async def conversations(self, *, cursor: str | None = None, limit: int | None = None) -> Page[Record]:
        """The inbox, newest activity first."""
        return await self.page(Record, "/v1/conversations", cursor=cursor, limit=limit)

    async def conversation(self, conversation_id: str, *, min_position: str | None = None) -> Record:
        """One inbox row."""
        query = {"min_position": min_position}
        return await self.one(Record, "GET", _conversation(conversation_id), query=query)

    async def change_conversation(
        self, conversation_id: str, *, key: str | None = None, **changes: Any
    ) -> Record:
        """Personal settings: pinned, muted."""
        return await self.one(Record, "PATCH", _conversation(conversation_id), changes, key=key)

    async def post(
        self,
        conversation_id: str,
        client_msg_id: str,
        content: Mapping[str, Any],
        *,
        reply_to: int | None = None,
        mentions: Iterable[str] | None = None,
        origin: Mapping[str, Any] | None = None,
        token: str | None = None,
        pipelined: bool = False,
    ) -> Posted:
        """Posts a message; `client_msg_id` is its key: repeating it gives the first answer, `replayed`.

        `pipelined` spares both ends work when many are under way, see `HttpPool`.
        """
        body = fields(
            client_msg_id=client_msg_id,
            content=content,
            reply_to=reply_to,
            mentions=None if mentions is None else list(mentions),
            origin=origin,
        )
        path = f"{_conversation(conversation_id)}/messages"
        return await self.one(Posted, "POST", path, body, keyed=False, token=token, pipelined=pipelined)

    async def messages(
        self,
        conversation_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        around: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        min_position: str | None = None,
    ) -> Page[Message]:
        """A page of messages, ascending by seq; `next` walks on in the same direction."""
        return await self.page(
            Message,
            f"{_conversation(conversation_id)}/messages",
            after=after,
            before=before,
            around=around,
            limit=limit,
            cursor=cursor,
            min_position=min_position,
        )

    async def message(self, conversation_id: str, seq: int) -> Message:
        """One message row."""
        return await self.one(Message, "GET", _message(conversation_id, seq))

    async def edits(self, conversation_id: str, seq: int) -> Page[Record]:
        """Earlier texts of a message, rows `{content, at}`."""
        return await self.page(Record, f"{_message(conversation_id, seq)}/edits")

    async def events(
        self,
        conversation_id: str,
        *,
        after: int = 0,
        limit: int | None = None,
        min_position: str | None = None,
    ) -> Page[PageEvent]:
        """The event stream, ascending, dense from `first_seq`; `me` is the user's own."""
        return await self.page(
            PageEvent,
            f"{_conversation(conversation_id)}/events",
            after=after,
            limit=limit,
            min_position=min_position,
        )

    async def edit(
        self, conversation_id: str, seq: int, content: Mapping[str, Any], *, key: str | None = None
    ) -> Change:
        """Edits one's own message."""
        return await self.one(Change, "PATCH", _message(conversation_id, seq), {"content": content}, key=key)

    async def recall(self, conversation_id: str, seq: int, *, key: str | None = None) -> Change:
        """Recalls a message."""
        return await self.one(Change, "DELETE", _message(conversation_id, seq), key=key)

    async def react(
        self, conversation_id: str, seq: int, emoji: str, on: bool = True, *, key: str | None = None
    ) -> Change:
        """Adds or takes back a reaction."""
        path = f"{_message(conversation_id, seq)}/reactions/{part(emoji)}"
        return await self.one(Change, "PUT" if on else "DELETE", path, key=key)

    async def pin(self, conversation_id: str, seq: int, on: bool = True, *, key: str | None = None) -> Change:
        """Pins or unpins a message."""
        path = f"{_message(conversation_id, seq)}/pin"
        return await self.one(Change, "PUT" if on else "DELETE", path, key=key)

    async def mark_read(self, conversation_id: str, seq: int, *, key: str | None = None) -> Record:
        """`{read_seq, unread}`; a lower mark changes nothing."""
        return await self.one(Record, "PUT", f"{_conversation(conversation_id)}/read", {"seq": seq}, key=key)

    async def receipts(self, conversation_id: str, seq: int, cursor: str | None = None) -> Record:
        """`{read_count, received_count}` and a page of `{user_id, read_at?, received_at?}`."""
        query = {"cursor": cursor}
        return await self.one(Record, "GET", f"{_conversation(conversation_id)}/receipts/{seq}", query=query)

    async def sync(
        self,
        have: Mapping[str, int],
        *,
        limit: int | None = None,
        recent: int | None = None,
        only: bool | None = None,
        cursor: str | None = None,
    ) -> EventsPage:
        """Missed events after `have`; `next` goes with the same `have`."""
        body = fields(have=dict(have), limit=limit, recent=recent, only=only, cursor=cursor)
        envelope = _SYNC_DECODER.decode(await self.call("POST", "/v1/sync", body, keyed=False))
        answer = {**envelope.data, "op": "events"}
        if envelope.next is not None:
            answer.setdefault("next", envelope.next)
        return msgspec.convert(answer, EventsPage)

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        author: str | None = None,
        after: str | None = None,
        before: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page[Message]:
        """Messages with all the words, newest first; `after` and `before` are times."""
        parameters = {
            "query": query,
            "conversation_id": conversation_id,
            "from": author,
            "after": after,
            "before": before,
            "cursor": cursor,
            "limit": limit,
        }
        return await self.page(Message, "/v1/search", **parameters)

    async def upload(self, name: str, data: bytes, *, key: str | None = None) -> Record:
        """`{media_id, size, type}`."""
        boundary = uuid.uuid4().hex
        safe_name = part(name)
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{safe_name}"\r\n'
            "content-type: application/octet-stream\r\n\r\n"
        )
        payload = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        return await self.one(
            Record,
            "POST",
            "/v1/media",
            payload,
            content_type=f"multipart/form-data; boundary={boundary}",
            key=key,
        )

    async def media(self, media_id: str) -> bytes:
        """The bytes of a medium."""
        return await self.call("GET", f"/v1/media/{part(media_id)}")


def _conversation(conversation_id: str) -> str:
    return f"/v1/conversations/{part(conversation_id)}"


def _message(conversation_id: str, seq: int) -> str:
    return f"/v1/conversations/{part(conversation_id)}/messages/{seq}"
