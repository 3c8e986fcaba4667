"""Cursors: opaque to clients, validated when they come back, never trusted."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from domain.errors import invalid

VERSION = 1
CURSOR_CHARACTERS_MAX = 1_024

T = TypeVar("T")


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    purpose: str
    place: msgspec.Raw


_decode = msgspec.json.Decoder(_Cursor).decode


def cursor_of(purpose: str, place: Any) -> str:
    """The cursor of a place; `purpose` names the list, so that a cursor of another list is refused."""
    text = msgspec.json.encode(_Cursor(VERSION, purpose, msgspec.Raw(msgspec.json.encode(place))))
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def place_of(purpose: str, cursor: str, shape: type[T]) -> T:
    """The place of a cursor. Raises `validation_failed` for anything that this list did not give out."""
    try:
        if len(cursor) > CURSOR_CHARACTERS_MAX:
            raise ValueError("too long")
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        decoded = _decode(text)
        if decoded.version != VERSION or decoded.purpose != purpose:
            raise ValueError("of another list")
        return msgspec.json.decode(decoded.place, type=shape)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise invalid("cursor", "is none of this list") from None
