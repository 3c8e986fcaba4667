"""Every acknowledgement follows the sync of its bytes, and what was synced alone holds every acknowledged commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import SHARD_COUNT

ACKS = 1_000
COPY_EVERY = 100
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "shim" / "fsync_order.c"


def compiled(folder: Path) -> Path:
    """The shim; without a compiler the test fails, since then nothing is proved."""
    compiler = shutil.which("gcc")
    assert compiler is not None, (
        "gcc is needed to compile tests/shim/fsync_order.c, which watches what is synced"
    )
    library = folder / "fsync_order.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        str(library),
        str(SOURCE),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


def run_child(tmp_path: Path) -> None:
    """A writer under the shim; it ends without closing the log."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(compiled(tmp_path)),
        "SHIM_DIR": str(tmp_path / "log"),
        "SHIM_SHADOW": str(tmp_path / "shadow"),
        "SHIM_ORDER": str(tmp_path / "order"),
        "SHIM_ACK": str(tmp_path / "acks"),
    }
    (tmp_path / "log").mkdir()
    (tmp_path / "shadow").mkdir()
    command = [sys.executable, "-m", "tests.integration.log_child", "sync", str(tmp_path / "log" / "log.db")]
    command += [str(ACKS), str(tmp_path / "acks"), str(tmp_path / "shadow"), str(COPY_EVERY)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


async def missing(folder: Path, acks: list[str]) -> list[str]:
    """Acknowledged commits that a log of synced bytes only does not hold."""
    log = await SqliteLog.open(folder / "log.db", SHARD_COUNT)
    places = [(shard, position, key) for line in acks for shard, position, key in json.loads(line)]
    found = await log.find_keys([(shard, bytes.fromhex(key)) for shard, _, key in places])
    await log.close()
    return [
        f"{shard}:{position}"
        for shard, position, key in places
        if (commit := found.get((shard, bytes.fromhex(key)))) is None or commit.position != position
    ]


@pytest.mark.slow
@pytest.mark.crash
async def test_a_thousand_acknowledgements_follow_their_syncs(tmp_path: Path) -> None:
    run_child(tmp_path)

    acked = syncs = writes = 0
    unsynced: set[str] = set()
    for line in (tmp_path / "order").read_text().splitlines():
        what, name = line.split()
        if what == "W":
            unsynced.add(name)
            writes += name == "log.db-wal"
        elif what == "S":
            unsynced.discard(name)
            syncs += name == "log.db-wal"
        else:
            acked += 1
            assert "log.db-wal" not in unsynced, f"acknowledgement {acked} came before the sync of its bytes"
            assert syncs >= acked, "an acknowledgement without a sync of its own"
    assert acked == ACKS
    assert writes > ACKS

    acks = (tmp_path / "acks").read_text().splitlines()
    for number in range(COPY_EVERY, ACKS + 1, COPY_EVERY):
        assert await missing(tmp_path / f"shadow-{number}", acks[:number]) == []
