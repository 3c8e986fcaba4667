"""Whether the views can follow the log, and what their operator hears about it."""

from __future__ import annotations

import structlog

from eventlog.port import LogUnavailableError
from projections.store import ViewUnavailableError

_log = structlog.get_logger(__name__)

_OF_A_STORE = (ViewUnavailableError, LogUnavailableError)


class ViewsHealth:
    """Remembers whether the newest attempt to apply failed. A store that is full or away is told of once, a defect each time."""

    def __init__(self) -> None:
        self.failing = False

    def failed(self, error: Exception) -> None:
        """An attempt failed; it will be made again."""
        if not isinstance(error, _OF_A_STORE):
            _log.error("views cannot follow", error=type(error).__name__, exc_info=error)
        elif not self.failing:
            _log.error(
                "views cannot follow",
                error=str(error),
                advice="make room on their disk, or make it writable again; they catch up by themselves",
            )
        self.failing = True

    def worked(self) -> None:
        """An attempt went through."""
        if self.failing:
            self.failing = False
            _log.info("views follow again")
