"""How the wire writes what the house keeps: times, and strict readings of path and query texts."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from domain.errors import invalid

USER_ID_PATTERN = r"^[a-z0-9][a-z0-9_.@-]{0,63}$"
OPAQUE_ID_PATTERN = r"^[A-Za-z0-9_.:~-]{1,128}$"
"""In the dialect of JSON Schema; pydantic's `$` matches at the very end only."""
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
    if not 1970 <= parsed.year < _YEAR_MAX:
        raise ValueError("must be a time between 1970 and 9000")
    return int(parsed.timestamp()) * 1000 + parsed.microsecond // 1000


def positions_of(text: str, shard_count: int) -> dict[int, int]:
    """The `min_position` of a read, `shard:position,…`.

    Unreadable ones and unknown shards are `validation_failed`.
    """
    positions: dict[int, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6}):(\d{1,18})", part.strip(), re.ASCII)
        if match is None:
            raise invalid("min_position", "must be shard:position, separated by commas")
        shard, position = int(match[1]), int(match[2])
        if shard >= shard_count:
            raise invalid("min_position", f"there is no shard {shard}")
        positions[shard] = max(position, positions.get(shard, 0))
    return positions
