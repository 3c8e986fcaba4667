"""Times as clients write them: one rule for every face."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$"
_TIME = re.compile(TIME_PATTERN, re.ASCII)
TIMES_KEPT = 1_024
"""Imported messages come with the same few times, minute by minute."""
_YEAR_MAX = 9000
"""Times near the last year of `datetime` cannot be shifted to UTC."""


@lru_cache(maxsize=TIMES_KEPT)
def milliseconds_of(text: str) -> int:
    """An RFC 3339 time as milliseconds since 1970 UTC, finer digits cut off. Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError("must be an RFC 3339 time")
    parsed = datetime.fromisoformat(text.upper())
    if not 1970 <= parsed.year < _YEAR_MAX or parsed.timestamp() < 0:
        raise ValueError("must be a time between 1970 and 9000")
    return int(parsed.timestamp()) * 1000 + parsed.microsecond // 1000
