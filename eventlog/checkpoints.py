"""Checkpoints of followers that can afford to lag, {shard: position}: the port, and one in a small file, void for another log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec


class Checkpoint(Protocol):
    """Where one follower of the log was. It may lag: what is looked at again changes nothing."""

    async def load(self) -> Mapping[int, int]:
        """{shard: position}, empty when there is none for this log. Raises LogUnavailableError."""
        ...

    async def save(self, positions: Mapping[int, int]) -> None:
        """Remember these shards' positions, also lower ones. Raises OSError, LogUnavailableError; it may have happened then."""
        ...


class _Stored(msgspec.Struct, frozen=True):
    log_id: str
    positions: dict[int, int]


_decode = msgspec.json.Decoder(_Stored).decode
_encode = msgspec.json.Encoder().encode


class FileCheckpoint:
    """One follower's checkpoint.

    A lost or damaged file only means that events are looked at again, so it is not synced to disk.
    """

    def __init__(self, path: Path, log_id: str) -> None:
        self._path = path
        self._log_id = log_id

    async def load(self) -> Mapping[int, int]:
        """The positions, empty when there are none for this log."""
        return await asyncio.to_thread(self._load)

    async def save(self, positions: Mapping[int, int]) -> None:
        """Replace the positions, whole or not at all. Raises OSError."""
        await asyncio.to_thread(self._save, dict(positions))

    def _load(self) -> Mapping[int, int]:
        try:
            stored = _decode(self._path.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return stored.positions if stored.log_id == self._log_id else {}

    def _save(self, positions: dict[int, int]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(_encode(_Stored(self._log_id, positions)))
        new.replace(self._path)
