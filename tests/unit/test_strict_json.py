"""Strict JSON against a plain, slow reader written from the grammar."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.errors import Problem
from gateways.json import canonical_json, strict_decode, strict_json

DEPTH = 32
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class RefusedError(Exception):
    """The oracle does not take the text."""


class Oracle:
    """Recursive descent, one character at a time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def whole(self) -> Any:
        """The value, and nothing behind it."""
        value = self.value(0)
        self.space()
        if self.place != len(self.text):
            raise RefusedError
        return value

    def space(self) -> None:
        """Skip whitespace."""
        while self.place < len(self.text) and self.text[self.place] in " \t\n\r":
            self.place += 1

    def take(self, wanted: str) -> None:
        """Exactly these characters."""
        if not self.text.startswith(wanted, self.place):
            raise RefusedError
        self.place += len(wanted)

    def peek(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.place : self.place + 1]

    def value(self, depth: int) -> Any:
        """Any value."""
        self.space()
        start = self.peek()
        if start in ("[", "{") and depth >= DEPTH:
            raise RefusedError
        if start == "{":
            return self.members(depth + 1)
        if start == "[":
            return self.items(depth + 1)
        if start == '"':
            return self.string()
        for word, constant in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.place):
                self.place += len(word)
                return constant
        return self.number()

    def members(self, depth: int) -> dict[str, Any]:
        """An object."""
        found: dict[str, Any] = {}
        self.take("{")
        self.space()
        if self.peek() == "}":
            self.take("}")
            return found
        while True:
            self.space()
            key = self.string()
            if key in found:
                raise RefusedError
            self.space()
            self.take(":")
            found[key] = self.value(depth)
            self.space()
            if self.peek() == "}":
                self.take("}")
                return found
            self.take(",")

    def items(self, depth: int) -> list[Any]:
        """An array."""
        found: list[Any] = []
        self.take("[")
        self.space()
        if self.peek() == "]":
            self.take("]")
            return found
        while True:
            found.append(self.value(depth))
            self.space()
            if self.peek() == "]":
                self.take("]")
                return found
            self.take(",")

    def string(self) -> str:
        """A string without lone surrogates."""
        self.take('"')
        units: list[str] = []
        while (character := self.peek()) != '"':
            if not character or ord(character) < 0x20:
                raise RefusedError
            self.place += 1
            units.append(self.escaped() if character == "\\" else character)
        self.take('"')
        try:
            return "".join(units).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise RefusedError from None

    def escaped(self) -> str:
        """What stands behind a backslash."""
        kind = self.peek()
        self.place += 1
        if kind != "u":
            if kind not in _ESCAPES:
                raise RefusedError
            return _ESCAPES[kind]
        digits = self.text[self.place : self.place + 4]
        if re.fullmatch(r"[0-9a-fA-F]{4}", digits) is None:
            raise RefusedError
        self.place += 4
        return chr(int(digits, 16))

    def number(self) -> int | float:
        """A number within 64 bits or a finite one."""
        match = _NUMBER.match(self.text, self.place)
        if match is None:
            raise RefusedError
        self.place = match.end()
        if match[1] is None and match[2] is None:
            integer = int(match[0])
            if not -(2**63) <= integer < 2**63:
                raise RefusedError
            return integer
        value = float(match[0])
        if value in (float("inf"), float("-inf")):
            raise RefusedError
        return value


def oracle(body: bytes) -> Any:
    """The value of a body, or RefusedError."""
    try:
        return Oracle(body.decode("utf-8")).whole()
    except UnicodeDecodeError:
        raise RefusedError from None


_PIECES = st.sampled_from(
    [
        "a",
        "b",
        "aa",
        "",
        "é",
        "👍",
        "\\n",
        "\\u0061",
        "\\ud83d\\ude00",
        "\\ud800",
        '\\"',
        "1",
        ":",
        ",",
        "{",
        "[",
    ]
)
_STRINGS = st.lists(_PIECES, max_size=3).map(lambda pieces: '"' + "".join(pieces) + '"')
_NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(
        ["0", "-0", "1.0", "1e5", "1E400", "-1e-400", "01", "1.", "NaN", "Infinity", "+1", "0.1"]
    ),
)
_LEAVES = st.one_of(_STRINGS, _NUMBERS, st.sampled_from(["true", "false", "null", "nul"]))
_SPACES = st.sampled_from(["", "", "", " ", "\n"])


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(_STRINGS, _SPACES, inner).map(lambda parts: f"{parts[0]}:{parts[1]}{parts[2]}")
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(member, max_size=4).map(lambda items: "{" + ",".join(items) + "}"),
    )


_TEXTS = st.recursive(_LEAVES, _nested, max_leaves=12)
_BODIES = st.one_of(
    st.tuples(_SPACES, _TEXTS, _SPACES).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")),
    st.binary(max_size=24),
    st.integers(30, 35).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(30, 35).map(lambda depth: b'{"[":' * depth + b"1" + b"}" * depth),
)
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


@pytest.mark.slow
@settings(max_examples=400)
@given(_BODIES)
@example(b'{"a":1,"a":1e9}')
@example(b'{"a":":","a":1}')
@example(b'{"a":1,"\\u0061":2}')
@example(b"\xef\xbb\xbf{}")
@example(b"")
@example(b" ")
@example(b"[1] 2")
def test_strict_json_agrees_with_the_grammar(body: bytes) -> None:
    try:
        wanted = oracle(body)
    except RefusedError:
        for read in (strict_json, lambda given: strict_decode(_anything, given)):
            with pytest.raises(Problem) as refused:
                read(body)
            assert refused.value.code == "malformed"
    else:
        assert _same(strict_json(body), wanted)
        assert _same(strict_decode(_anything, body), wanted)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and msgspec.json.encode(one) == msgspec.json.encode(other)


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """A small frame."""

    op: str
    seq: int | None = None
    content: msgspec.Raw = msgspec.Raw(b"null")


_frames = msgspec.json.Decoder(Frame)


@pytest.mark.parametrize(
    "payload, code",
    [
        (b'{"op":"a","op":"b"}', "malformed"),
        (b'{"op":"a","content":{"x":1,"x":2}}', "malformed"),
        (b'{"op":"a","content":9223372036854775808}', "malformed"),
        (b'{"op":"a","content":' + b"[" * 32 + b"]" * 32 + b"}", "malformed"),
        (b'{"op":"a","content":"\\udc00"}', "malformed"),
        (b'{"op":"a","content":NaN}', "malformed"),
        (b'{"op":"a","seq":"1"}', "validation_failed"),
        (b'{"op":"a","other":1}', "validation_failed"),
        (b'{"op":"a","seq":true}', "validation_failed"),
        (b"[]", "validation_failed"),
    ],
)
def test_frames_are_refused(payload: bytes, code: str) -> None:
    with pytest.raises(Problem) as refused:
        strict_decode(_frames, payload)
    assert refused.value.code == code


def test_a_frame_is_decoded_with_its_content_untouched() -> None:
    frame = strict_decode(_frames, b'{"op":"a", "content": {"text":"\\u0041\\n", "n":1.50}}')

    assert bytes(frame.content) == b'{"text":"\\u0041\\n", "n":1.50}'


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(_VALUES, st.randoms())
def test_canonical_json_is_the_same_for_the_same_value(value: Any, random: Any) -> None:
    assert canonical_json(_shuffled(value, random)) == canonical_json(value)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, _shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [_shuffled(item, random) for item in value]
    if type(value) is int and random.random() < 0.5:
        return float(value)
    return value


@pytest.mark.parametrize("one, other", [(1, True), ("1", 1), (1, 1.5), ([], {}), (None, 0), ([1, 2], [2, 1])])
def test_canonical_json_differs_for_different_values(one: Any, other: Any) -> None:
    assert canonical_json(one) != canonical_json(other)


def test_writing_a_character_back_is_never_longer() -> None:
    """What the short way rests on, for every way to write every character of the first plane that is short."""
    encode = msgspec.json.Encoder().encode
    for code in (*range(0x300), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF):
        sources = [b'"\\u%04x"' % code, b'"\\u%04X"' % code]
        if code >= 0x20 and chr(code) not in '"\\':
            sources.append(b'"' + chr(code).encode() + b'"')
        for source in sources:
            assert len(encode(_anything.decode(source))) <= len(source), source
    for escape in b'"\\/bfnrt':
        source = b'"\\%c"' % escape
        assert len(encode(_anything.decode(source))) <= len(source), source
