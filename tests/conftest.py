"""What every test gets."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.services import (
    end_services,
    kafka_bootstrap,
    mark_service_tests,
    mongodb_database,
    mongodb_uri,
    own_services,
    redis_prefix,
    redis_url,
    topic_prefix,
)

# Fixtures are known to every test by standing here.
__all__ = [
    "kafka_bootstrap",
    "mongodb_database",
    "mongodb_uri",
    "redis_prefix",
    "redis_url",
    "topic_prefix",
]

_UVICORN_LOGGERS = ("uvicorn", "uvicorn.access", "uvicorn.error")

# CI makes runs repeatable and patient; at home every run looks at new examples.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("home", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "home")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell may change a result."""
    for name in os.environ:
        if name.startswith("MINUTEBOOK_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """What a test sends logs to is closed after it; the next one's must not go there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    of_process, of_thread = sys.excepthook, threading.excepthook
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook = of_process, of_thread
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


SLOW_MARKS = ("slow", "e2e", "crash", "services")


def pytest_configure(config: pytest.Config) -> None:
    """The servers that tests ask for belong to the whole run."""
    own_services(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """They end with it."""
    end_services(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast lane runs first: what fails soon is told soon."""
    mark_service_tests(items)
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in SLOW_MARKS))
