"""What messages may say, kind by kind, and what they may not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.content import SERVER_KINDS, Text, canonical, parse_content
from domain.errors import Problem
from domain.event import Limits

LIMITS = Limits()
GOOD: list[dict[str, Any]] = [
    {"kind": "text", "text": "hi"},
    {
        "kind": "text",
        "text": "hi @bob",
        "entities": [{"type": "mention", "offset": 3, "length": 4, "value": "bob"}],
    },
    {"kind": "text", "text": "a\\u0000b"},
    {"kind": "image", "media_id": "m1", "name": "a.png", "caption": "c", "width": 1, "height": 2},
    {"kind": "audio", "media_id": "m1", "duration_ms": 3},
    {"kind": "video", "media_id": "m1"},
    {"kind": "file", "media_id": "m1", "name": "a.pdf"},
    {"kind": "location", "latitude": -90, "longitude": 180.0, "title": "t", "address": "a"},
    {"kind": "contact_card", "user_id": "bob"},
    {"kind": "quote", "conversation_id": "g_1", "seq": 3, "text": "so"},
    {"kind": "quote", "conversation_id": "g_1", "seq": 3},
    {"kind": "forward", "messages": [{"conversation_id": "g_1", "seq": 3}], "title": "t"},
    {"kind": "emoji", "code": "party"},
    {"kind": "html", "html": "<b>x</b>"},
    {"kind": "call", "action": "invite", "media": "video", "call_id": "c1"},
    {"kind": "voip", "session_id": "s1", "payload": {"sdp": ["v=0", 1, None]}},
    {"kind": "vote", "question": "tea?", "options": ["yes", "no"], "multiple": False},
    {"kind": "reminder", "text": "tea", "at": "2024-01-01T00:00:00.000Z"},
    {"kind": "red_envelope", "envelope_id": "e1", "title": "luck"},
    {"kind": "action", "text": "waves"},
    {"kind": "custom", "data": {"any": [1, 2.5, "x", None, {"deep": True}]}},
    {"kind": "custom", "data": None},
]
BAD: list[tuple[Any, str]] = [
    ({}, "content.kind"),
    ([], "content"),
    ("text", "content"),
    (None, "content"),
    ({"kind": "nonsense"}, "content.kind"),
    ({"kind": 7}, "content.kind"),
    ({"kind": "text"}, "content.text"),
    ({"kind": "text", "text": 7}, "content.text"),
    ({"kind": "text", "text": None}, "content.text"),
    ({"kind": "text", "text": ""}, "content.text"),
    ({"kind": "text", "text": " \u200b"}, "content.text"),
    ({"kind": "text", "text": "a\x00"}, "content.text"),
    ({"kind": "text", "text": "a", "more": 1}, "content.more"),
    ({"kind": "text", "text": "a", "entities": None}, "content.entities"),
    ({"kind": "text", "text": "a", "entities": [{"type": "link", "offset": 0, "length": 2, "value": "u"}]},
     "content.entities[0]"),
    ({"kind": "text", "text": "a", "entities": [{"type": "link", "offset": 0, "length": 0, "value": "u"}]},
     "content.entities[0].length"),
    ({"kind": "text", "text": "a", "entities": [{"type": "bold", "offset": 0, "length": 1, "value": "u"}]},
     "content.entities[0].type"),
    ({"kind": "text", "text": "a", "entities": [{"type": "link", "offset": 0, "length": 1, "value": "a\x00"}]},
     "content.entities"),
    ({"kind": "image"}, "content.media_id"),
    ({"kind": "image", "media_id": "a b"}, "content.media_id"),
    ({"kind": "image", "media_id": "m", "width": -1}, "content.width"),
    ({"kind": "file", "media_id": "m", "name": "a\x00"}, "content.name"),
    ({"kind": "location", "latitude": 91, "longitude": 0}, "content.latitude"),
    ({"kind": "location", "latitude": 0, "longitude": -180.5}, "content.longitude"),
    ({"kind": "contact_card", "user_id": "Bob"}, "content.user_id"),
    ({"kind": "quote", "conversation_id": "g_1", "seq": 0}, "content.seq"),
    ({"kind": "quote", "conversation_id": "g_1", "seq": 2**63}, "content.seq"),
    ({"kind": "forward", "messages": []}, "content.messages"),
    ({"kind": "forward", "messages": [{"conversation_id": "g", "seq": 1}] * 101}, "content.messages"),
    ({"kind": "forward", "messages": [{"conversation_id": "g"}]}, "content.messages[0].seq"),
    ({"kind": "html", "html": "  "}, "content.html"),
    ({"kind": "call", "action": "hang", "media": "audio", "call_id": "c"}, "content.action"),
    ({"kind": "vote", "question": "q", "options": ["a"], "multiple": False}, "content.options"),
    ({"kind": "vote", "question": "q", "options": ["a"] * 21, "multiple": False}, "content.options"),
    ({"kind": "vote", "question": "q", "options": ["a", " "], "multiple": False}, "content.options[1]"),
    ({"kind": "vote", "question": "q", "options": ["a", "b"]}, "content.multiple"),
    ({"kind": "reminder", "text": "x", "at": "yesterday"}, "content.at"),
    ({"kind": "reminder", "text": "x", "at": "2024-01-01T00:00:00"}, "content.at"),
    ({"kind": "action", "text": ""}, "content.text"),
    ({"kind": "custom"}, "content.data"),
    ({"kind": "custom", "data": {"a": "\x00"}}, "content.data"),
    ({"kind": "custom", "data": {"\x00": 1}}, "content.data"),
    ({"kind": "voip", "session_id": "s", "payload": ["\x00"]}, "content.payload"),
]  # fmt: skip


def problem_of(raw: bytes) -> Problem:
    with pytest.raises(Problem) as refusal:
        parse_content(raw, LIMITS)
    return refusal.value


@pytest.mark.parametrize("value", GOOD, ids=lambda value: str(value["kind"]))
def test_good_content(value: dict[str, Any]) -> None:
    encoded = msgspec.json.encode(value)
    parse_content(encoded, LIMITS)
    parse_content(msgspec.Raw(encoded), LIMITS)


@pytest.mark.parametrize("value, field", BAD)
def test_bad_content_names_its_field(value: object, field: str) -> None:
    problem = problem_of(msgspec.json.encode(value))
    assert problem.code == "validation_failed"
    assert [error.field for error in problem.errors] == [field]


@pytest.mark.parametrize("kind", sorted(SERVER_KINDS))
def test_the_servers_own_kinds_are_refused(kind: str) -> None:
    problem = problem_of(msgspec.json.encode({"kind": kind, "text": "x"}))
    assert problem.code == "validation_failed"
    assert problem.errors[0].field == "content.kind"
    assert "server" in problem.errors[0].message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"kind":"text","text":"\xff"}',
        b'{"kind":"text","text":"\\ud800"}',
        b'{"kind":"text","text":"\\ud800x"}',
        b'{"kind":"custom","data":"\\udfff"}',
        b'{"kind":"custom","data":NaN}',
        b'{"kind":"custom","data":"\xed\xa0\x80"}',
        b'{"kind":"custom","data":1e999}',
        b'{"kind":"custom","data":[9223372036854775808]}',
        b'{"kind":"custom","data":' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"kind":"custom","data":' + b"[" * 4000 + b"]" * 4000 + b"}",
    ],
)
def test_what_is_no_clean_json_is_malformed(raw: bytes) -> None:
    assert problem_of(raw).code == "malformed"


def test_sizes() -> None:
    fits = b'{"kind":"text","text":"%b"}' % (b"x" * (16 * 1024 - 25))
    assert len(fits) == 16 * 1024
    parse_content(fits, LIMITS)
    assert problem_of(fits + b" ").code == "too_large"
    data = b'"%b"' % (b"x" * (8 * 1024 - 2))
    parse_content(b'{"kind":"custom","data":%b}' % data, LIMITS)
    assert (
        problem_of(b'{"kind":"custom","data":%b}' % (b" " * 9000 + b'"x"' + b"y" * 9000)).code == "too_large"
    )
    assert problem_of(b'{"kind":"custom","data":"x%b}' % data[1:]).code == "too_large"
    assert problem_of(b'{"kind":"voip","session_id":"s","payload":"x%b}' % data[1:]).code == "too_large"


def test_plain_text_decodes_to_its_struct() -> None:
    assert parse_content(b'{"text":"hi","kind":"text"}', LIMITS) == Text(text="hi")


@pytest.mark.parametrize(
    "one, other, equal",
    [
        (b'{"kind":"text","text":"x"}', b' {"text" : "\\u0078", "kind":"text"} ', True),
        (b'{"kind":"text","text":"x"}', b'{"kind":"text","text":"x","entities":[]}', False),
        (b'{"kind":"text","text":"x"}', b'{"kind":"text","text":"y"}', False),
        (b'{"kind":"custom","data":{"a":1,"b":[1.0]}}', b'{"data":{"b":[1],"a":1.0},"kind":"custom"}', True),
        (b'{"kind":"custom","data":[1,2]}', b'{"kind":"custom","data":[2,1]}', False),
        (b'{"kind":"custom","data":0}', b'{"kind":"custom","data":-0.0}', True),
        (b'{"kind":"custom","data":1}', b'{"kind":"custom","data":true}', False),
        (b'{"kind":"custom","data":1.5}', b'{"kind":"custom","data":1.50}', True),
        (b'"x"', b'"\\u0078"', True),
    ],
)
def test_contents_are_compared_as_json_values(one: bytes, other: bytes, *, equal: bool) -> None:
    assert (canonical(one) == canonical(other)) is equal


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(json_values)
def test_the_canonical_form_is_a_fixed_point(value: Any) -> None:
    once = canonical(msgspec.json.encode(value))
    assert canonical(once) == once
    assert msgspec.json.decode(once) == value


def refusal_of(raw: bytes) -> str | None:
    """The code with which content is refused."""
    try:
        parse_content(raw, LIMITS)
    except Problem as problem:
        return problem.code
    return None


@pytest.mark.slow
@given(st.binary(max_size=60) | json_values.map(msgspec.json.encode))
def test_arbitrary_bytes_are_refused_with_a_problem_or_accepted(raw: bytes) -> None:
    for candidate in (raw, b'{"kind":"custom","data":' + raw + b"}", b'{"kind":"text","text":' + raw + b"}"):
        refusal = refusal_of(candidate)
        assert refusal in {None, "malformed", "validation_failed", "too_large"}
        if refusal is None:
            canonical(candidate)
