"""What every test gets."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

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


SLOW_MARKS = ("slow", "e2e", "crash")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast lane runs first: what fails soon is told soon."""
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in SLOW_MARKS))
