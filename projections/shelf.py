"""The shelf port: where the versions of views stand side by side, and which of each is current."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from projections.store import Schema, ViewStore

FIRST_VERSION = 1
"""What is current of a view that was never switched."""


class SwitchRefusedError(Exception):
    """Another version is current than the one that was to be followed: somebody else switched. Nothing changed."""


class ViewShelf(Protocol):
    """Versions of views by name: 1, then one more for each rebuild. All calls block, and may raise ViewUnavailableError."""

    def current(self) -> Mapping[str, int]:
        """The current versions of all views that are not at their first."""
        ...

    def open(self, schema: Schema, version: int, log_id: str) -> ViewStore:
        """Open a version, made anew when it is absent or belongs to another log or another schema. The caller closes it."""
        ...

    def versions(self, name: str) -> frozenset[int]:
        """The versions that stand there."""
        ...

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """Whether that version is of this log and this schema. Changes nothing."""
        ...

    def switch(self, name: str, old: int, new: int) -> None:
        """Make `new` current in place of `old`, durably and at once. Raises SwitchRefusedError when `old` is not current."""
        ...

    def remove(self, name: str, version: int) -> None:
        """Throw a version away. One that is still open may be read on, or answers that it is unavailable."""
        ...
