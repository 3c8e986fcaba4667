"""Strings that people give: names, message text, ids, emoji. Every function returns the accepted value or
raises a `Problem`.
"""

from __future__ import annotations

import re
import unicodedata

from domain.errors import invalid

NAME_LENGTH_MAX = 128
EMOJI_BYTES_MAX = 32
DESCRIPTION_LENGTH_MAX = 2_048
ANNOUNCEMENT_LENGTH_MAX = 4_096
ADDRESS_LENGTH_MAX = 512
OPAQUE_ID_PATTERN = r"^[A-Za-z0-9_.:~-]{1,128}\Z"
USER_ID_PATTERN = r"^[a-z0-9][a-z0-9_.@-]{0,63}\Z"
RESERVED_USER_IDS = frozenset({"me"})

_opaque_id = re.compile(OPAQUE_ID_PATTERN).match
_user_id = re.compile(USER_ID_PATTERN).match
_ascii_visible = re.compile("[!-~]").search
_surrogate = re.compile("[\ud800-\udfff]").search
_BIDIRECTIONAL_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BLANK_LETTERS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")
"""Characters that count as letters or symbols but show nothing: the Hangul fillers, the empty Braille
pattern and their like.
"""
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Zs", "Zl", "Zp", "Mn", "Me"})


def visible(text: str) -> bool:
    """Whether something can be seen: a character that is no space, control, format or lone combining mark."""
    if "!" <= text[:1] <= "~" or _ascii_visible(text):
        return True
    category = unicodedata.category
    return any(
        category(character) not in _INVISIBLE_CATEGORIES and character not in _BLANK_LETTERS
        for character in text
    )


def clean(field: str, text: str) -> str:
    """The text, if it can be stored: no NUL and no lone surrogate."""
    if "\x00" in text:
        raise invalid(field, "must not contain NUL")
    if not text.isascii() and _surrogate(text):
        raise invalid(field, "must not contain lone surrogates")
    return text


def name(field: str, text: str) -> str:
    """A name, trimmed: 1-128 characters, visible, without control characters and bidirectional overrides."""
    trimmed = clean(field, text).strip()
    if not 1 <= len(trimmed) <= NAME_LENGTH_MAX:
        raise invalid(field, f"must have 1 to {NAME_LENGTH_MAX} characters after trimming")
    _refuse_controls(field, trimmed)
    if not trimmed.isascii() and not _BIDIRECTIONAL_OVERRIDES.isdisjoint(trimmed):
        raise invalid(field, "must not contain bidirectional overrides")
    if not visible(trimmed):
        raise invalid(field, "must have a visible character")
    return trimmed


def message_text(field: str, text: str) -> str:
    """A message's text: at least one visible character; everything else but NUL stays as it is."""
    if not visible(clean(field, text)):
        raise invalid(field, "must have a visible character")
    return text


def prose(field: str, text: str | None, length_max: int) -> str | None:
    """Free text of several lines; empty or None: nothing."""
    if text is None:
        return None
    if len(clean(field, text)) > length_max:
        raise invalid(field, f"must have at most {length_max} characters")
    return text or None


def address(field: str, text: str | None) -> str | None:
    """A media id or address, on one line; empty or None: nothing."""
    accepted = prose(field, text, ADDRESS_LENGTH_MAX)
    if accepted is not None:
        _refuse_controls(field, accepted)
    return accepted


def is_user_id(text: str) -> bool:
    """Whether it can be the id of a user."""
    return _user_id(text) is not None and text not in RESERVED_USER_IDS


def user_id(field: str, text: str) -> str:
    """A user id; `me` is reserved."""
    if not is_user_id(text):
        raise invalid(field, "is no user id")
    return text


def opaque_id(field: str, text: str) -> str:
    """Any other id: at most 128 characters of `[A-Za-z0-9_.:~-]`."""
    if not _opaque_id(text):
        raise invalid(field, "must have 1 to 128 characters of A-Z a-z 0-9 _ . : ~ -")
    return text


def client_key(field: str, text: str) -> str:
    """A key that a client chose: 1-128 characters."""
    if not 1 <= len(text) <= NAME_LENGTH_MAX:
        raise invalid(field, "must have 1 to 128 characters")
    return text if text.isascii() and "\x00" not in text else clean(field, text)


def emoji(field: str, text: str) -> str:
    """A reaction: 1-32 bytes, visible, without control characters."""
    if not 1 <= len(clean(field, text).encode()) <= EMOJI_BYTES_MAX:
        raise invalid(field, f"must have 1 to {EMOJI_BYTES_MAX} bytes")
    _refuse_controls(field, text)
    if not visible(text):
        raise invalid(field, "must have a visible character")
    return text


def _refuse_controls(field: str, text: str) -> None:
    if text.isascii() and text.isprintable():
        return
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise invalid(field, "must not contain control characters")
