"""Logging: structlog and the standard library's loggers to stderr, as lines for people or as JSON; what looks like a secret is masked.

Every line says of which process it is. Nothing is logged per message or per request, unless at the level `debug`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, TextIO

import structlog

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS = ("auto", "console", "json")
"""`auto`: lines for people where people look, at a terminal, else JSON."""
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
    if isinstance(value, (list, tuple)):
        return [_masked_value(key, inner) for inner in value]
    if isinstance(value, str) and len(value) > VALUE_LENGTH_MAX:
        return f"{value[:VALUE_LENGTH_MAX]}… ({len(value)} characters)"
    return value


def set_up_logs(
    level: str = "info",
    style: str = "auto",
    stream: TextIO | None = None,
    *,
    node: str | None = None,
    roles: Sequence[str] = (),
) -> None:
    """Send structlog and the standard library's loggers to stderr (or `stream`), and uncaught failures and warnings too.

    With a `node` each line names it and its roles. Raises ValueError for an unknown level or style.
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
        *([] if node is None else [_of_process(node, roles)]),
        masked,
    ]
    ending = _ending(style, target)
    structlog.configure(
        processors=[*before, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)


def catch_what_nobody_caught() -> None:
    """Log warnings, and failures of threads and of the process, like everything else; and have gRPC's core, which writes past all
    loggers, say nothing (what it would say comes as an error of a call). For a process of the server's own, before gRPC is imported.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.captureWarnings(capture=True)
    log = structlog.get_logger("minutebook.process")

    def of_process(kind: type[BaseException], error: BaseException, _trace: TracebackType | None, /) -> None:
        log.critical("process failed", error=kind.__name__, exc_info=error)

    def of_thread(told: threading.ExceptHookArgs, /) -> None:
        name = None if told.thread is None else told.thread.name
        log.error("thread failed", thread=name, error=told.exc_type.__name__, exc_info=told.exc_value)

    sys.excepthook = of_process
    threading.excepthook = of_thread


def _of_process(node: str, roles: Sequence[str]) -> structlog.typing.Processor:
    """Names the process in each line."""
    named = ",".join(sorted(roles)) or "all"

    def add(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        entry["node"], entry["roles"] = node, named
        return entry

    return add


def _ending(style: str, target: TextIO) -> list[structlog.typing.Processor]:
    """How an entry becomes a line."""
    if style == "json" or (style == "auto" and not target.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
