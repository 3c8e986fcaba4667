"""The user directory: public profiles, search by the beginning of an id or a name, and who blocks whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from domain.streams import StreamKind, split
from eventlog.record import Recorded
from projections.cursors import cursor_of, place_of
from projections.reading import LIMIT_DEFAULT, Reader, checked_limit
from projections.shapes import BlockRow, Page, UserRow
from projections.store import SCAN_ROWS_MAX, Row, Schema, Snapshot, Table, UnitOfWork
from projections.wire import wire_time

USERS = Table(
    name="users",
    columns=("tenant text", "user_id text", "name text", "avatar text", "bio text", "registered_at int"),
    key_size=2,
)
WORDS = Table(name="words", columns=("tenant text", "word text", "user_id text"), key_size=3)
"""Beginnings to find a user by: the id, the name and each word of it, in lower case, ended by `_END`."""
BLOCKS = Table(name="blocks", columns=("tenant text", "blocker text", "blocked text", "at int"), key_size=3)
SCHEMA = Schema(name="directory", version=1, tables=(USERS, WORDS, BLOCKS))
KINDS = frozenset({StreamKind.USER, StreamKind.DIRECT})
TYPES = frozenset({"user_registered", "user_profile_changed", "direct_blocked", "direct_unblocked"})

_END = "\x1f"
_LAST = "\U0010ffff"
_encode = msgspec.json.Encoder().encode


def apply(view: UnitOfWork, row: Recorded) -> None:
    """Apply one event of a user or a pair; others change nothing."""
    event: Any = row.event
    kind = event.TYPE
    tenant, name = split(row.stream)
    if kind == "user_registered":
        user_id = name.removeprefix("user:")
        _put_user(view, (tenant, user_id, event.name, None, None, event.at))
    elif kind == "user_profile_changed":
        _change_profile(view, tenant, name.removeprefix("user:"), msgspec.to_builtins(event.changes))
    elif kind == "direct_blocked":
        view.insert(BLOCKS, (tenant, event.actor, event.user_id, event.at))
    elif kind == "direct_unblocked":
        view.delete(BLOCKS, (tenant, event.actor, event.user_id))


def _change_profile(view: UnitOfWork, tenant: str, user_id: str, changes: dict[str, Any]) -> None:
    user = view.get(USERS, (tenant, user_id))
    if user is None:
        return
    _, _, name, avatar, bio, registered_at = user
    new_name = changes.get("name", name)
    if new_name != name:
        for word in _words(user_id, str(name)):
            view.delete(WORDS, (tenant, word, user_id))
    _put_user(
        view,
        (tenant, user_id, new_name, changes.get("avatar", avatar), changes.get("bio", bio), registered_at),
    )


def _put_user(view: UnitOfWork, user: Row) -> None:
    view.put(USERS, user)
    for word in _words(str(user[1]), str(user[2])):
        view.put(WORDS, (user[0], word, user[1]))


def _words(user_id: str, name: str) -> set[str]:
    folded = name.casefold()
    return {word + _END for word in (user_id, folded, *folded.split())}


class Directory(Reader):
    """Reads profiles and blocks."""

    async def user(self, tenant: str, user_id: str) -> UserRow | None:
        """A public profile."""

        def answer(snapshot: Snapshot) -> UserRow | None:
            row = snapshot.get(USERS, (tenant, user_id))
            return None if row is None else _user_row(row)

        return await self._read(answer)

    async def users(
        self, tenant: str, query: str, limit: int = LIMIT_DEFAULT, cursor: str | None = None
    ) -> Page:
        """Profiles whose id, name or a word of the name begins with `query`, by user id; all for an empty one."""
        checked_limit(limit)
        after = None if cursor is None else place_of("users", cursor, str)

        def answer(snapshot: Snapshot) -> Page:
            rows = _found_users(snapshot, tenant, query.strip().casefold(), after, limit + 1)
            following = cursor_of("users", rows[limit - 1][1]) if len(rows) > limit else None
            return Page([msgspec.Raw(_encode(_user_row(row))) for row in rows[:limit]], following)

        return await self._read(answer)

    async def names(self, tenant: str, user_ids: Sequence[str]) -> dict[str, str]:
        """The names of users; an unknown one is called by his id."""
        return await self._reads.run(lambda: self.names_now(tenant, user_ids))

    def names_now(self, tenant: str, user_ids: Sequence[str]) -> dict[str, str]:
        """`names`, blocking: for reader threads."""
        with self._source().snapshot() as snapshot:
            rows = ((user_id, snapshot.get(USERS, (tenant, user_id))) for user_id in user_ids)
            return {user_id: user_id if row is None else str(row[2]) for user_id, row in rows}

    async def blocks(
        self, tenant: str, user_id: str, limit: int = LIMIT_DEFAULT, cursor: str | None = None
    ) -> Page:
        """Whom the user blocks, by user id."""
        checked_limit(limit)
        after = None if cursor is None else place_of("blocks", cursor, str)

        def answer(snapshot: Snapshot) -> Page:
            rows = snapshot.scan(BLOCKS, (tenant, user_id), after=after, limit=limit + 1)
            following = cursor_of("blocks", rows[limit - 1][2]) if len(rows) > limit else None
            return Page([_block_row(snapshot, row) for row in rows[:limit]], following)

        return await self._read(answer)

    async def blocked(self, tenant: str, one: str, other: str) -> bool:
        """Whether a block stands between the two, either way."""
        return await self._read(lambda snapshot: blocked_between(snapshot, tenant, one, other))


def blocked_between(snapshot: Snapshot, tenant: str, one: str, other: str) -> bool:
    """Whether a block stands between the two, either way."""
    return any(snapshot.get(BLOCKS, (tenant, *pair)) is not None for pair in ((one, other), (other, one)))


def _found_users(snapshot: Snapshot, tenant: str, query: str, after: str | None, limit: int) -> list[Row]:
    if not query:
        return snapshot.scan(USERS, (tenant,), after=after, limit=limit)
    words = snapshot.scan(WORDS, (tenant,), after=query, before=query + _LAST, limit=SCAN_ROWS_MAX)
    ids = sorted({str(row[2]) for row in words})
    found = (snapshot.get(USERS, (tenant, user_id)) for user_id in ids if after is None or user_id > after)
    return [row for _, row in zip(range(limit), found, strict=False) if row is not None]


def _user_row(row: Row) -> UserRow:
    _, user_id, name, avatar, bio, _ = row
    return UserRow(
        user_id=str(user_id),
        name=str(name),
        avatar=None if avatar is None else str(avatar),
        bio=None if bio is None else str(bio),
    )


def _block_row(snapshot: Snapshot, row: Row) -> msgspec.Raw:
    tenant, _, blocked, at = row
    user = snapshot.get(USERS, (tenant, blocked))
    assert isinstance(at, int)
    name = str(blocked if user is None else user[2])
    return msgspec.Raw(_encode(BlockRow(str(blocked), name, wire_time(at))))
