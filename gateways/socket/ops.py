"""The operations of the socket: one JSON object a frame, `op` names it. Shapes only; what they mean is the session's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from domain.errors import FieldError, Problem, invalid
from gateways.json import strict_decode

HAVE_NAMES_MAX = 1_000
PRESENCE_USERS_MAX = 500
REF_MAX = 256
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")
_NAMED = re.compile(r"field `([^`]*)`")


class Op(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """One frame from the client."""

    ref: str | None = None


class Hello(Op, tag="hello", frozen=True, kw_only=True):
    """The first frame."""

    token: str
    have: dict[str, int] | UnsetType = UNSET


class Sync(Op, tag="sync", frozen=True, kw_only=True):
    """Missed events, asked for."""

    have: dict[str, int]
    limit: int | None = None
    recent: int | None = None
    only: bool | None = None
    cursor: str | None = None


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an imported message comes from."""

    at: str
    id: str


class Send(Op, tag="send", frozen=True, kw_only=True):
    """A message. `origin` only in sessions of scope `import`."""

    conversation_id: str | UnsetType = UNSET
    to: str | UnsetType = UNSET
    client_msg_id: str
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: list[str] | None = None
    origin: Origin | None = None


class Edit(Op, tag="edit", frozen=True, kw_only=True):
    """New content for one's own message."""

    conversation_id: str
    seq: int
    content: msgspec.Raw
    key: str | None = None


class Aimed(Op, frozen=True, kw_only=True):
    """An op at one message."""

    conversation_id: str
    seq: int
    key: str | None = None


class Recall(Aimed, tag="recall", frozen=True, kw_only=True):
    """Take a message back."""


class Pin(Aimed, tag="pin", frozen=True, kw_only=True):
    """Pin a message."""


class Unpin(Aimed, tag="unpin", frozen=True, kw_only=True):
    """Unpin a message."""


class React(Aimed, tag="react", frozen=True, kw_only=True):
    """React with an emoji."""

    emoji: str


class Unreact(Aimed, tag="unreact", frozen=True, kw_only=True):
    """Take a reaction back."""

    emoji: str


class Read(Op, tag="read", frozen=True, kw_only=True):
    """Read up to seq. A mark only ever rises, so a repetition needs no `key`; one is taken and changes nothing."""

    conversation_id: str
    seq: int
    key: str | None = None


class Received(Op, tag="received", frozen=True, kw_only=True):
    """Received up to seq."""

    conversation_id: str
    seq: int


class Typing(Op, tag="typing", frozen=True, kw_only=True):
    """Typing, or no more."""

    conversation_id: str
    on: bool


class PresenceOf(Op, tag="presence", frozen=True, kw_only=True):
    """Whose presence to be told; replaces the earlier list."""

    users: list[str]


class Ping(Op, tag="ping", frozen=True, kw_only=True):
    """Are you there?"""


AnyOp = (
    Hello
    | Sync
    | Send
    | Edit
    | Recall
    | React
    | Unreact
    | Pin
    | Unpin
    | Read
    | Received
    | Typing
    | PresenceOf
    | Ping
)

_decoder: msgspec.json.Decoder[AnyOp] = msgspec.json.Decoder(AnyOp)


class _Reference(msgspec.Struct):
    ref: str | None = None


_reference = msgspec.json.Decoder(_Reference)


def read_op(payload: bytes) -> AnyOp:
    """The op of a frame. Raises Problem `malformed` (not strict JSON) or `validation_failed`, which names the field."""
    try:
        return strict_decode(_decoder, payload)
    except Problem as problem:
        if problem.code != "validation_failed":
            raise
        raise Problem(problem.code, problem.detail, errors=(_field_error(problem.detail),)) from None


def _field_error(detail: str) -> FieldError:
    """The field that msgspec's text names; `op` where it names none, since then the op itself is wrong."""
    place = _PLACE.search(detail)
    named = _NAMED.search(detail)
    path = "" if place is None else place[1]
    field = ".".join(part for part in (path, named[1] if named else "") if part)
    return FieldError(field or "op", detail)


def reference_of(payload: bytes) -> str | None:
    """The `ref` of a frame that could not be read otherwise, if it has a readable one."""
    try:
        return _reference.decode(payload).ref
    except (msgspec.DecodeError, RecursionError):
        return None


def check_have(have: Mapping[str, int]) -> None:
    """Raises `validation_failed` for what no client can have. Names that mean nothing to the caller are left out later."""
    if len(have) > HAVE_NAMES_MAX:
        raise invalid("have", f"at most {HAVE_NAMES_MAX} conversations")
    if any(not 0 <= seq < 2**63 for seq in have.values()):
        raise invalid("have", "every seq is 0 or more and fits 64 bits")


def bad_reference(ref: str | None) -> Problem | None:
    """`ref` is the client's choice, but it comes back in every answer, so it is bounded."""
    if ref is not None and len(ref) > REF_MAX:
        return invalid("ref", f"at most {REF_MAX} characters")
    return None
