"""Strings that people give, hostile ones first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import text
from domain.errors import Problem


def refused(check: Callable[[str, str], object], value: str) -> bool:
    """Whether the value is refused, and the problem names the field."""
    try:
        check("field", value)
    except Problem as problem:
        found = problem
    else:
        return False
    assert found.code == "validation_failed"
    assert [error.field for error in found.errors] == ["field"]
    return True


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\t\n",
        "\x00",
        "hi\x00there",
        "\x07",
        "\u200b",
        "\u200b\u200d\ufeff\u2060",
        "\u00ad",
        "\u3164",
        "\u115f\u1160\uffa0",
        "\u2800",
        "\ufe0f",
        "\u0301" * 10_000,
        "\u2028\u2029",
        "\ud800",
        "a\udfff",
        "\U000e0041",
        "\u202e\u202c",
    ],
)
def test_texts_without_a_visible_character_or_with_nul_or_surrogates_are_refused(value: str) -> None:
    assert refused(text.message_text, value)


@pytest.mark.parametrize(
    "value",
    [
        "a",
        ".",
        " x ",
        "é",
        "日本語",
        "한",
        "👍",
        "👩‍👩‍👧",
        "a" + "\u0301" * 10_000,
        "\u202eevil",
        "a\tb\r\n\x07",
        "ا",
        "#️⃣",
        "−",
    ],
)
def test_texts_with_something_to_see_are_kept_as_they_are(value: str) -> None:
    assert text.message_text("field", value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "a" * 129,
        "a\nb",
        "a\x1bb",
        "\u202eabc",
        "a\u2066b",
        "a\x00",
        "\u200b",
        "a\u2028b",
        "\ud83d",
        "\x7fa",
    ],
)
def test_bad_names_are_refused(value: str) -> None:
    assert refused(text.name, value)


def test_names_are_trimmed_before_they_are_counted() -> None:
    assert text.name("field", "  Ada \u3000") == "Ada"
    assert text.name("field", " " + "a" * 128 + " ") == "a" * 128
    assert text.name("field", "Zoë 日本 👍🏽") == "Zoë 日本 👍🏽"


@pytest.mark.parametrize(
    "value", ["", "A", "Ada", "me", ".a", "-a", "a b", "a" * 65, "a\n", "ä", "a/b", "a:b", "a\x00"]
)
def test_bad_user_ids_are_refused(value: str) -> None:
    assert refused(text.user_id, value)
    assert not text.is_user_id(value)


@pytest.mark.parametrize("value", ["a", "0", "a.b_c@d-e", "a" * 64, "mea"])
def test_user_ids(value: str) -> None:
    assert text.user_id("field", value) == value
    assert text.is_user_id(value)


@pytest.mark.parametrize("value", ["", "a" * 129, "a b", "a/b", "a\n", "ä", "a\x00"])
def test_bad_opaque_ids_are_refused(value: str) -> None:
    assert refused(text.opaque_id, value)


def test_opaque_ids() -> None:
    assert text.opaque_id("field", "aZ09_.:~-") == "aZ09_.:~-"


@pytest.mark.parametrize("value", ["", "a" * 33, "👍" * 9, "a\n", "\x00", "\u200d", " ", "\ud83d"])
def test_bad_emoji_are_refused(value: str) -> None:
    assert refused(text.emoji, value)


@pytest.mark.parametrize("value", ["👍", "👍🏽", "❤️", "+1", "👩‍👩‍👧", "🏳️‍🌈", "a" * 32])
def test_emoji(value: str) -> None:
    assert text.emoji("field", value) == value


@pytest.mark.parametrize("value", ["", "k" * 129, "k\x00", "ü\x00", "\ud800"])
def test_bad_client_keys_are_refused(value: str) -> None:
    assert refused(text.client_key, value)


def test_empty_prose_is_none() -> None:
    assert text.prose("field", None, 10) is None
    assert text.prose("field", "", 10) is None
    assert text.prose("field", "a\nb", 10) == "a\nb"
    assert refused(lambda field, value: text.prose(field, value, 10), "a" * 11)
    assert refused(lambda field, value: text.prose(field, value, 10), "a\x00")
    assert refused(text.address, "a\nb")
    assert text.address("field", "https://example.org/a.png") == "https://example.org/a.png"


@pytest.mark.slow
@given(st.text())
def test_whatever_is_accepted_can_be_stored_and_seen(value: str) -> None:
    for check in (text.message_text, text.name, text.emoji):
        if not refused(check, value):
            accepted = check("field", value)
            assert text.visible(accepted)
            assert "\x00" not in accepted
            assert accepted.encode("utf-8").decode() == accepted
