"""What is printed: nothing that steers a terminal, the right exit codes, times both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Problem
from eventlog.port import LogUnavailableError
from eventlog.sqlite import LogMismatchError
from ops.cli.failing import NO, UNAVAILABLE, WRONG_USE, CommandError, code_of, text_of
from ops.cli.output import safe
from ops.control import NoServerError
from ops.folder import FolderInUseError, FolderUnusableError
from ops.serving import AddressInUseError
from ops.settings import SettingsError
from ops.times import parse_time, rfc3339


@given(st.text())
def test_safe_text_steers_nothing(text: str) -> None:
    shown = safe(text)
    assert not any(ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 for sign in shown)
    assert not any(0x202A <= ord(sign) <= 0x202E or 0x2066 <= ord(sign) <= 0x2069 for sign in shown)


def test_safe_text_shows_what_it_took() -> None:
    assert safe("a\x1b[31mred") == "a\\u001b[31mred"
    assert safe("one\ntwo") == "one ⏎ two"


@pytest.mark.parametrize(
    "error,code",
    [
        (SettingsError("port: wrong"), WRONG_USE),
        (LogMismatchError("no log"), WRONG_USE),
        (FolderInUseError("in use"), UNAVAILABLE),
        (FolderUnusableError("not writable"), UNAVAILABLE),
        (AddressInUseError("busy"), UNAVAILABLE),
        (LogUnavailableError("full"), UNAVAILABLE),
        (NoServerError("none"), UNAVAILABLE),
        (PermissionError(13, "Permission denied", "/x"), UNAVAILABLE),
        (Problem("not_found", "nothing"), NO),
        (Problem("validation_failed", "wrong"), WRONG_USE),
        (Problem("unavailable", "away"), UNAVAILABLE),
        (CommandError("no", NO), NO),
        (KeyError("a defect"), None),
    ],
)
def test_every_expected_error_has_its_exit_code(error: Exception, code: int | None) -> None:
    assert code_of(error) == code
    assert text_of(error)


def test_times_are_read_in_every_usual_form() -> None:
    at = 1_104_000_000_123
    for text in (
        "2004-12-25T18:40:00.123Z",
        "2004-12-25T19:40:00.123+01:00",
        "2004-12-25 18:40:00.123",
        str(at),
    ):
        assert parse_time(text) == at
    assert parse_time("2004-12-25") == 1_103_932_800_000
    with pytest.raises(ValueError, match="is no time"):
        parse_time("christmas")


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_a_time_comes_back_as_it_was(at_ms: int) -> None:
    assert parse_time(rfc3339(at_ms)) == at_ms


def test_what_is_no_time_of_ours_stays_a_number() -> None:
    assert rfc3339(-1) == "-1"
    assert rfc3339(10**18) == str(10**18)
