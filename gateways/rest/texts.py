"""Strict readings of path and query texts."""

from __future__ import annotations

import re

from domain.errors import invalid

USER_ID_PATTERN = r"^[a-z0-9][a-z0-9_.@-]{0,63}$"
OPAQUE_ID_PATTERN = r"^[A-Za-z0-9_.:~-]{1,128}$"
"""In the dialect of JSON Schema; pydantic's `$` matches at the very end only."""


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
