"""States as parts of bytes and back: caches of folds, never the truth.

Every part but `head` is a bucket of one big map, so that what did not change encodes to the same bytes.
`head` holds the rest and the digest of every part; a part that is missing, changed or from another snapshot
is found.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, get_args, get_origin

import immutables
import msgspec

from domain.direct import DirectState
from domain.event import Message, State
from domain.group import GroupState
from domain.group_roster import Member, Roster
from domain.inbox import InboxState
from domain.shard import ShardState
from domain.streams import StreamKind
from domain.talk import Messages, Talk
from domain.tenant import TenantState
from domain.user import UserState

PEOPLE_PER_PART = 1_000
MESSAGES_PER_PART = 1_024
HEAD = "head"
_DIGEST_BYTES = 16

SCHEMAS: Mapping[StreamKind, int] = {
    StreamKind.GROUP: 3,
    StreamKind.DIRECT: 2,
    StreamKind.USER: 1,
    StreamKind.INBOX: 1,
    StreamKind.TENANT: 1,
    StreamKind.SHARD: 1,
}
"""Raised whenever a state changes its shape or its meaning; a snapshot of another schema is thrown away."""


class SnapshotDamagedError(Exception):
    """The parts are not those of one snapshot, or not of this kind: fold the stream from its start."""


def snapshot_parts(kind: StreamKind, state: State) -> tuple[int, dict[str, bytes]]:
    """(schema, parts by name) of a state.

    Takes time in the order of the state's size; touches nothing but the state.
    """
    light, parts = _SPLIT.get(type(state), _whole)(state)
    digests = {name: _digest(part) for name, part in parts.items()}
    head = _encode(_Head(_encode(light), digests))
    return SCHEMAS[kind], {HEAD: _digest(head).encode() + head, **parts}


def restore(kind: StreamKind, schema: int, parts: Mapping[str, bytes]) -> State | None:
    """The state, or None for a snapshot that is stale or damaged: a snapshot is a cache and is thrown away
    then.
    """
    if SCHEMAS.get(kind) != schema:
        return None
    try:
        return joined(kind, parts)
    except SnapshotDamagedError:
        return None


def joined(kind: StreamKind, parts: Mapping[str, bytes]) -> State:
    """The state that the parts are of.

    Raises SnapshotDamagedError; never gives a state that is not exactly the one that was split.
    """
    try:
        sealed = parts[HEAD]
        head_digest, head_json = sealed[: 2 * _DIGEST_BYTES], sealed[2 * _DIGEST_BYTES :]
        if _digest(head_json).encode() != head_digest:
            raise SnapshotDamagedError("the head does not fit its digest")
        head = _decode_head(head_json)
        if {name: _digest(part) for name, part in parts.items() if name != HEAD} != head.parts:
            raise SnapshotDamagedError("a part does not fit its digest")
        light = msgspec.json.decode(head.state, type=_STATES[kind], dec_hook=_map_back)
        return _JOIN.get(kind, _as_it_is)(light, parts)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise SnapshotDamagedError(f"{kind} snapshot cannot be read: {type(error).__name__}") from error


class _Head(msgspec.Struct, frozen=True):
    state: bytes
    parts: dict[str, str]


def _sorted_map(value: Any) -> Any:
    if isinstance(value, immutables.Map):
        return dict(value)
    raise TypeError(f"a state holds no {type(value).__name__}")


def _map_back(wanted: Any, value: Any) -> Any:
    if get_origin(wanted) is immutables.Map:
        key, item = get_args(wanted)
        shape: Any = dict[key, item]  # type: ignore[valid-type]
        return immutables.Map(msgspec.convert(value, shape, str_keys=True, dec_hook=_map_back))
    raise TypeError(f"a state holds no {wanted}")


_encode = msgspec.json.Encoder(enc_hook=_sorted_map, order="deterministic").encode
_decode_head = msgspec.json.Decoder(_Head).decode
_STATES: Mapping[StreamKind, type[State]] = {
    StreamKind.GROUP: GroupState,
    StreamKind.DIRECT: DirectState,
    StreamKind.USER: UserState,
    StreamKind.INBOX: InboxState,
    StreamKind.TENANT: TenantState,
    StreamKind.SHARD: ShardState,
}


def _digest(part: bytes) -> str:
    return hashlib.blake2b(part, digest_size=_DIGEST_BYTES).hexdigest()


# Buckets


def _buckets(prefix: str, items: Mapping[str, Any]) -> dict[str, bytes]:
    """A map by user or conversation id, in a power of two of parts.

    One more or less changes one part, until the number doubles.
    """
    count = 1 << max(0, (len(items) - 1) // PEOPLE_PER_PART).bit_length()
    buckets: dict[int, dict[str, Any]] = {}
    for key, value in items.items():
        buckets.setdefault(zlib.crc32(key.encode()) % count, {})[key] = value
    return {f"{prefix}.{number}": _encode(bucket) for number, bucket in buckets.items()}


def _message_parts(talk: Talk) -> dict[str, bytes]:
    """The messages by number, so that only the newest part and those with late changes differ from the last
    snapshot's.
    """
    buckets: dict[int, list[tuple[int, Message]]] = {}
    for seq, message in sorted((*talk.old.items(), *talk.young.items()), key=itemgetter(0)):
        buckets.setdefault(message.ordinal // MESSAGES_PER_PART, []).append((seq, message))
    return {f"messages.{number}": _encode(bucket) for number, bucket in buckets.items()}


def _joined_map(prefix: str, parts: Mapping[str, bytes], shape: Any) -> dict[Any, Any]:
    whole: dict[Any, Any] = {}
    for name in _named(prefix, parts):
        whole.update(msgspec.json.decode(parts[name], type=shape, dec_hook=_map_back))
    return whole


def _named(prefix: str, parts: Iterable[str]) -> list[str]:
    return [name for name in parts if name.startswith(f"{prefix}.")]


def _light_talk(talk: Talk) -> Talk:
    return msgspec.structs.replace(talk, young=_NO_MESSAGES, old=_NO_MESSAGES)


def _joined_talk(talk: Talk, parts: Mapping[str, bytes]) -> Talk:
    messages = _joined_map("messages", parts, list[tuple[int, Message]])
    young = {seq: message for seq, message in messages.items() if seq >= talk.young_start}
    old = {seq: message for seq, message in messages.items() if seq < talk.young_start}
    return msgspec.structs.replace(talk, young=immutables.Map(young), old=immutables.Map(old))


# States


def _whole(state: Any) -> tuple[State, dict[str, bytes]]:
    return state, {}


def _as_it_is(state: Any, _parts: Mapping[str, bytes]) -> State:
    light: State = state
    return light


def _split_group(state: GroupState) -> tuple[State, dict[str, bytes]]:
    light = msgspec.structs.replace(state, roster=Roster(), talk=_light_talk(state.talk))
    return light, {
        **_buckets("members", state.members),
        **_buckets("former", state.former),
        **_message_parts(state.talk),
    }


def _join_group(state: GroupState, parts: Mapping[str, bytes]) -> GroupState:
    members = immutables.Map(_joined_map("members", parts, dict[str, Member]))
    former = immutables.Map(_joined_map("former", parts, dict[str, int]))
    return msgspec.structs.replace(
        state, roster=Roster(members, former), talk=_joined_talk(state.talk, parts)
    )


def _split_direct(state: DirectState) -> tuple[State, dict[str, bytes]]:
    return msgspec.structs.replace(state, talk=_light_talk(state.talk)), _message_parts(state.talk)


def _join_direct(state: DirectState, parts: Mapping[str, bytes]) -> DirectState:
    return msgspec.structs.replace(state, talk=_joined_talk(state.talk, parts))


def _split_inbox(state: InboxState) -> tuple[State, dict[str, bytes]]:
    return msgspec.structs.replace(state, reads=immutables.Map()), _buckets("reads", state.reads)


def _join_inbox(state: InboxState, parts: Mapping[str, bytes]) -> InboxState:
    return msgspec.structs.replace(state, reads=immutables.Map(_joined_map("reads", parts, dict[str, int])))


_NO_MESSAGES: Messages = immutables.Map()
_SPLIT: Mapping[type[State], Callable[[Any], tuple[State, dict[str, bytes]]]] = {
    GroupState: _split_group,
    DirectState: _split_direct,
    InboxState: _split_inbox,
}
_JOIN: Mapping[StreamKind, Callable[[Any, Mapping[str, bytes]], State]] = {
    StreamKind.GROUP: _join_group,
    StreamKind.DIRECT: _join_direct,
    StreamKind.INBOX: _join_inbox,
}
