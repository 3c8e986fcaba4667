"""Where things lie: programs in the user's cache, data in a run folder of each checkout."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from docker.local.failures import ServicesError

ROOT = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/minutebook`, or `~/.cache/minutebook`; made when it is not there, else ServicesError."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "minutebook"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServicesError(f"{folder} cannot be made ({error.strerror}): set XDG_CACHE_HOME.") from None
    return folder


def run_folder() -> Path:
    """Where `up` keeps data when it is not told: one folder for each checkout, so that two never share servers."""
    name = blake2b(str(ROOT).encode(), digest_size=6).hexdigest()
    return cache_folder() / "run" / name
