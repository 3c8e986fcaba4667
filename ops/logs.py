"""Logging: structlog to stderr, as lines for people or as JSON; what looks like a secret is masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS = ("console", "json")
MASK = "********"
VALUE_LENGTH_MAX = 2_000
"""Longer strings are cut: a log line is no place for content."""

_SECRET_KEY = re.compile(
    r"password|passwd|secret|token|authorization|credential|signature|cookie|api_?key|app_secret",
    re.IGNORECASE,
)
_CONTENT_KEY = re.compile(r"^(body|bodies|content|text|payload|frame)$", re.IGNORECASE)
_HARMLESS_END = re.compile(r"_(id|count|bytes|ms|s|kind|length|size)$", re.IGNORECASE)


def masked(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: values of keys that name a secret or a content are masked, at every depth."""
    for key in list(entry):
        entry[key] = _masked_value(key, entry[key])
    return entry


def _masked_value(key: str, value: Any) -> Any:
    if (
        key != "event"
        and not _HARMLESS_END.search(key)
        and (_SECRET_KEY.search(key) or _CONTENT_KEY.match(key))
    ):
        return MASK
    if isinstance(value, Mapping):
        return {name: _masked_value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, str) and len(value) > VALUE_LENGTH_MAX:
        return f"{value[:VALUE_LENGTH_MAX]}… ({len(value)} characters)"
    return value


def set_up_logs(level: str = "info", style: str = "console", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's loggers to stderr (or `stream`).

    Raises ValueError for an unknown level or style.
    """
    if level not in LEVELS:
        raise ValueError(f"log_level: must be one of {', '.join(LEVELS)}")
    if style not in FORMATS:
        raise ValueError(f"log_format: must be one of {', '.join(FORMATS)}")
    target = stream or sys.stderr
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        masked,
    ]
    structlog.configure(
        processors=[*before, *_ending(style, target)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_ending(style, target)],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)


def _ending(style: str, target: TextIO) -> list[structlog.typing.Processor]:
    """How an entry becomes a line."""
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
