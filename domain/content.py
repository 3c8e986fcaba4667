"""What a message may say: the content kinds that clients send. Content is checked here and stays the
client's own JSON everywhere.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain import text
from domain.errors import FieldError, Problem, invalid
from domain.event import Limits, Place

CONTENT_DEPTH_MAX = 32
ENTITIES_MAX = 100
SERVER_KINDS = frozenset({"notification", "system", "group_event", "revoke"})

OpaqueId = Annotated[str, Meta(pattern=text.OPAQUE_ID_PATTERN)]
UserId = Annotated[str, Meta(pattern=text.USER_ID_PATTERN)]
Line = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seq = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of a content; fields it does not know are refused."""


class _Kind(_Part, frozen=True, tag_field="kind"):
    """A content kind."""


class Entity(_Part, frozen=True):
    """A stretch of a text that means something; offset and length count characters (code points)."""

    type: Literal["link", "mention", "hashtag"]
    offset: Count
    length: Annotated[int, Meta(ge=1, le=2**53)]
    value: Annotated[str, Meta(max_length=2048)]


class Text(_Kind, frozen=True, tag="text"):
    """Plain text."""

    text: str
    entities: Annotated[tuple[Entity, ...], Meta(max_length=ENTITIES_MAX)] | UnsetType = UNSET


class _Media(_Kind, frozen=True):
    media_id: OpaqueId
    name: Line | UnsetType = UNSET
    caption: Annotated[str, Meta(max_length=4096)] | UnsetType = UNSET
    width: Count | UnsetType = UNSET
    height: Count | UnsetType = UNSET
    duration_ms: Count | UnsetType = UNSET


class Image(_Media, frozen=True, tag="image"):
    """A picture."""


class Audio(_Media, frozen=True, tag="audio"):
    """A recording."""


class Video(_Media, frozen=True, tag="video"):
    """A film."""


class File(_Media, frozen=True, tag="file"):
    """Any file."""


class Location(_Kind, frozen=True, tag="location"):
    """A place, in degrees."""

    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    title: Line | UnsetType = UNSET
    address: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET


class ContactCard(_Kind, frozen=True, tag="contact_card"):
    """Another user's card."""

    user_id: UserId


class Quote(_Kind, frozen=True, tag="quote"):
    """A message of another conversation, with a text."""

    conversation_id: OpaqueId
    seq: Seq
    text: str | UnsetType = UNSET


class ForwardedMessage(_Part, frozen=True):
    """Where a forwarded message stands."""

    conversation_id: OpaqueId
    seq: Seq


class Forward(_Kind, frozen=True, tag="forward"):
    """Messages passed on."""

    messages: Annotated[tuple[ForwardedMessage, ...], Meta(min_length=1, max_length=100)]
    title: Line | UnsetType = UNSET


class Emoji(_Kind, frozen=True, tag="emoji"):
    """A sticker or big emoji."""

    code: Annotated[str, Meta(min_length=1, max_length=128)]


class Html(_Kind, frozen=True, tag="html"):
    """HTML, to be sanitised by the reader."""

    html: str


class Call(_Kind, frozen=True, tag="call"):
    """A step of a call."""

    action: Literal["invite", "accept", "reject", "cancel", "end", "timeout"]
    media: Literal["audio", "video"]
    call_id: OpaqueId


class Voip(_Kind, frozen=True, tag="voip"):
    """Signalling between devices; the payload is passed on untouched."""

    session_id: OpaqueId
    payload: msgspec.Raw


class Vote(_Kind, frozen=True, tag="vote"):
    """A question with options."""

    question: Annotated[str, Meta(max_length=1024)]
    options: Annotated[tuple[Line, ...], Meta(min_length=2, max_length=20)]
    multiple: bool


class Reminder(_Kind, frozen=True, tag="reminder"):
    """Something to be reminded of, at a time (RFC 3339)."""

    text: str
    at: Annotated[datetime.datetime, Meta(tz=True)]


class RedEnvelope(_Kind, frozen=True, tag="red_envelope"):
    """A gift, handled elsewhere."""

    envelope_id: OpaqueId
    title: Line | UnsetType = UNSET


class Action(_Kind, frozen=True, tag="action"):
    """What somebody does (`/me`)."""

    text: str


class Custom(_Kind, frozen=True, tag="custom"):
    """Any JSON, passed on untouched."""

    data: msgspec.Raw


Content = (
    Text | Image | Audio | Video | File | Location | ContactCard | Quote | Forward | Emoji | Html | Call |
    Voip | Vote | Reminder | RedEnvelope | Action | Custom
)  # fmt: skip

_decode: Callable[[bytes | msgspec.Raw], Content] = msgspec.json.Decoder(Content).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def parse_content(raw: bytes | msgspec.Raw, limits: Limits) -> Content:
    """The content.

    Raises Problem: `too_large`, `malformed` (no JSON), `validation_failed` that names the field as
    `content.NAME`.
    """
    if len(memoryview(raw)) > limits.content_bytes:
        raise Problem("too_large", f"content takes at most {limits.content_bytes} bytes")
    try:
        content = _decode(raw)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), raw) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem("malformed", "content is no JSON") from None
    if type(content) is Text and content.entities is UNSET:
        # By far the most messages end here; the decoder has refused lone surrogates already.
        if "\x00" in content.text or not text.visible(content.text):
            text.message_text("content.text", content.text)
        return content
    if b"\\u0000" in bytes(raw):
        _check_value(_decode_any(raw))
    check = _CHECKS.get(type(content))
    if check is not None:
        check(content, limits)
    return content


def forwarded(raw: bytes | msgspec.Raw) -> tuple[Place, ...]:
    """The messages that a content passes on; none for every other content, and for what is no content."""
    written = bytes(raw)
    if b"forward" not in written and b"\\u" not in written:
        return ()
    try:
        content = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    if type(content) is not Forward:
        return ()
    return tuple((message.conversation_id, message.seq) for message in content.messages)


def canonical(raw: bytes | msgspec.Raw) -> bytes:
    """The JSON value as bytes that are equal for equal values: sorted keys, 1.0 as 1. Raises
    msgspec.DecodeError.
    """
    try:
        content = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    if type(content) is Text and content.entities is UNSET:
        return _encode(content)  # Its two keys stand in order already.
    return _encode_sorted(_plain(_decode_any(raw)))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


# What msgspec says about a wrong value, turned into the contract's words.

_place = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_missing = re.compile(r"(?:required|unknown) field `([^`]*)`")


def _refusal(message: str, raw: bytes | msgspec.Raw) -> Problem:
    place = _place.search(message)
    path = (place.group(1) if place else "").replace("[...]", "[]")
    words = message[: place.start()] if place else message
    named = _missing.search(words)
    if named:
        path += f".{named.group(1)}"
        words = "is missing" if "missing" in words else "is not a field of this kind"
    if path == ".kind" and _kind_of(raw) in SERVER_KINDS:
        words = "is made by the server only"
    field = f"content{path}"
    return Problem("validation_failed", f"{field}: {words}", errors=(FieldError(field, words),))


def _kind_of(raw: bytes | msgspec.Raw) -> Any:
    value = _decode_any(raw)
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None


def _check_value(value: Any, field: str = "content", depth: int = 1) -> None:
    """Walk a value; refuses NUL in any string or key, integers beyond 64 bits and more than 32 levels."""
    if isinstance(value, str):
        text.clean(field, value)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Problem("malformed", "content has an integer beyond 64 bits")
    elif isinstance(value, dict | list):
        if depth > CONTENT_DEPTH_MAX:
            raise Problem("malformed", f"content is deeper than {CONTENT_DEPTH_MAX}")
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str):
                text.clean(field, key)
            _check_value(item, f"{field}.{key}" if depth == 1 else field, depth + 1)


def _check_text(content: Text, _limits: Limits) -> None:
    text.message_text("content.text", content.text)
    length = len(content.text)
    for index, entity in enumerate(content.entities or ()):
        if entity.offset + entity.length > length:
            raise invalid(f"content.entities[{index}]", "lies outside of the text")


def _check_quote(content: Quote, _limits: Limits) -> None:
    if content.text:
        text.message_text("content.text", content.text)


def _check_action(content: Action | Reminder, _limits: Limits) -> None:
    text.message_text("content.text", content.text)


def _check_html(content: Html, _limits: Limits) -> None:
    text.message_text("content.html", content.html)


def _check_emoji(content: Emoji, _limits: Limits) -> None:
    text.message_text("content.code", content.code)


def _check_vote(content: Vote, _limits: Limits) -> None:
    text.message_text("content.question", content.question)
    for index, option in enumerate(content.options):
        text.message_text(f"content.options[{index}]", option)


def _check_custom(content: Custom, limits: Limits) -> None:
    _check_foreign("data", content.data, limits)


def _check_voip(content: Voip, limits: Limits) -> None:
    _check_foreign("payload", content.payload, limits)


def _check_foreign(field: str, raw: msgspec.Raw, limits: Limits) -> None:
    """JSON of others: small enough, and JSON indeed (decoding the rest of the content only skipped it)."""
    if len(memoryview(raw)) > limits.custom_bytes:
        raise Problem("too_large", f"content.{field} takes at most {limits.custom_bytes} bytes")
    try:
        value = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem("malformed", f"content.{field} is no JSON") from None
    _check_value(value, f"content.{field}", 2)


_CHECKS: dict[type[_Kind], Callable[[Any, Limits], None]] = {
    Text: _check_text,
    Quote: _check_quote,
    Action: _check_action,
    Reminder: _check_action,
    Html: _check_html,
    Emoji: _check_emoji,
    Vote: _check_vote,
    Custom: _check_custom,
    Voip: _check_voip,
}
