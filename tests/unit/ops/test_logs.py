"""What logging masks, and where it goes."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog

from ops.logs import MASK, VALUE_LENGTH_MAX, catch_what_nobody_caught, set_up_logs

NAMES = ("password", "refresh_token", "app_secret", "body", "Authorization")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A place for log lines; the usual set-up comes back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_secrets_and_contents_are_masked_at_every_depth(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream)
    structlog.get_logger().info("asked", **dict.fromkeys(NAMES, "shown?"))
    structlog.get_logger().info(
        "asked", headers={"x-signature": "s", "accept": "*"}, inner={"text": {"a": 1}}
    )
    first, second = lines(stream)
    assert {first[name] for name in NAMES} == {MASK}
    assert second["headers"] == {"x-signature": MASK, "accept": "*"}
    assert second["inner"] == {"text": MASK}


def test_secrets_inside_of_lists_are_masked(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream)
    structlog.get_logger().info(
        "asked", calls=[{"password": "p", "path": "/"}], pairs=({"x": [{"body": "b"}]},)
    )
    (line,) = lines(stream)
    assert line["calls"] == [{"password": MASK, "path": "/"}]
    assert line["pairs"] == [{"x": [{"body": MASK}]}]


def test_what_only_sounds_like_a_secret_is_shown(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream)
    structlog.get_logger().info("password changed", token_id="t1", body_bytes=7)
    (line,) = lines(stream)
    assert (line["event"], line["token_id"], line["body_bytes"]) == ("password changed", "t1", 7)
    assert str(line["timestamp"]).endswith("Z")
    assert line["level"] == "info"


def test_long_values_are_cut(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream)
    structlog.get_logger().info("asked", path="x" * (VALUE_LENGTH_MAX + 1))
    (line,) = lines(stream)
    assert len(str(line["path"])) < VALUE_LENGTH_MAX + 40


def test_the_level_holds(stream: io.StringIO) -> None:
    set_up_logs("warning", "json", stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    logging.getLogger("somebody").error("from %s", "elsewhere")
    assert [line["event"] for line in lines(stream)] == ["loud", "from elsewhere"]


def test_the_console_style_has_no_colours_for_a_file(stream: io.StringIO) -> None:
    set_up_logs("info", "console", stream)
    structlog.get_logger().info("listening", port=1)
    assert "\x1b" not in stream.getvalue()
    assert "listening" in stream.getvalue()


def test_a_failure_keeps_its_trace(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream)
    try:
        raise ValueError("why")
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)
    assert "ValueError: why" in str(lines(stream)[0]["exception"])


@pytest.mark.parametrize("level,style", [("loud", "json"), ("info", "xml")])
def test_unknown_words_are_refused(level: str, style: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        set_up_logs(level, style, io.StringIO())


def test_each_line_says_of_which_process_it_is(stream: io.StringIO) -> None:
    set_up_logs("info", "json", stream, node="owner-1", roles=("relay", "owner"))
    structlog.get_logger().info("listening")
    logging.getLogger("uvicorn.error").error("from a library")
    assert [(line["node"], line["roles"]) for line in lines(stream)] == [("owner-1", "owner,relay")] * 2


def test_auto_is_json_where_nobody_looks(stream: io.StringIO) -> None:
    set_up_logs("info", "auto", stream, node="embedded")
    structlog.get_logger().info("listening")
    assert lines(stream)[0]["roles"] == "all"


def test_what_nobody_caught_is_logged_like_the_rest(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((sys, "excepthook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    set_up_logs("info", "json", stream, node="n")
    catch_what_nobody_caught()
    try:
        raise KeyError("k")
    except KeyError as error:
        sys.excepthook(KeyError, error, None)
    thread = threading.Thread(target=lambda: int("x"), name="t1")
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
    logging.captureWarnings(capture=False)
    failed, of_thread, warned = lines(stream)
    assert (failed["event"], failed["error"]) == ("process failed", "KeyError")
    assert (of_thread["event"], of_thread["thread"], of_thread["error"]) == (
        "thread failed",
        "t1",
        "ValueError",
    )
    assert "UserWarning: old" in str(warned["event"])
