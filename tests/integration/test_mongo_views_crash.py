"""Projectors and servers killed at any moment: every view on MongoDB stands exactly at its positions."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from docker.local.mongodb import MongoReplicaSet
from eventlog.record import Committed
from projections.memory import MemoryShelf
from projections.mongo_driver import MongoUnfitError, ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.projection import HoleError, Projection
from projections.shelf import ViewShelf
from projections.store import ViewUnavailableError
from projections.views import READ_MODELS
from tests.histories import History, missing, up_to

_log = logging.getLogger(__name__)
LOG = "log-1"
ROOT = Path(__file__).parents[2]
KILLS = 20
CHECK_EVERY = 5
COMMITS = 500
BATCHES_MAX = 15
SPIN_MAX_S = 0.008
SERVER_KILLS = 3
SERVER_COMMITS = 250

pytestmark = [pytest.mark.services, pytest.mark.crash]


class References:
    """The same views in memory, brought to the positions that are asked for; they only grow."""

    def __init__(self, history: Sequence[Committed]) -> None:
        self._history = history
        self._shelf = MemoryShelf()
        self._projections = {name: opened(self._shelf, name) for name in READ_MODELS}

    def check(self, shelf: ViewShelf) -> int:
        """Every view is exactly what its positions say; the number of commits in all of them."""
        total = 0
        for name, reference in self._projections.items():
            store = shelf.open(READ_MODELS[name].schema, 1, LOG)
            with store.snapshot() as snapshot:
                positions = dict(snapshot.positions())
                reference.take(missing(up_to(self._history, positions), reference.positions))
                with reference.store.snapshot() as expected:
                    assert list(snapshot.dump()) == list(expected.dump()), name
            store.close()
            total += sum(positions.values())
        return total


def opened(shelf: ViewShelf, name: str) -> Projection:
    model = READ_MODELS[name]
    return model.over(shelf.open(model.schema, 1, LOG), parks=False)


def kill_one(child: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Start a projector and kill it after some batches, most likely amid the next one; whether it had nothing left to do."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    wanted, pid, done = chance.randint(0, BATCHES_MAX), 0, False
    while True:
        line = child.stdout.readline()
        if line.startswith(b"ended"):
            assert line == b"ended %d\n" % -signal.SIGKILL
            return done
        if line[:1].isdigit():
            pid = int(line)
        else:
            wanted -= 1
        if line == b"done\n":
            done, wanted = True, -1
        if pid and wanted < 0:
            until = time.perf_counter() + chance.uniform(0, SPIN_MAX_S)
            while time.perf_counter() < until:
                pass  # A random moment of the next transaction; sleeping would be too coarse.
            os.kill(pid, signal.SIGKILL)
            wanted = 1 << 30


@pytest.mark.timeout(240)
def test_a_projector_killed_at_any_moment_leaves_every_view_at_its_positions(
    mongodb_uri: str, mongodb_database: str
) -> None:
    seed = random.randrange(1 << 30)
    _log.warning("seed %d", seed)
    references = References(History(seed).grow(COMMITS))
    command = [sys.executable, "-m", "tests.integration.view_child", mongodb_uri, mongodb_database]
    child = subprocess.Popen(
        [*command, str(seed), str(COMMITS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    database = ViewDatabase.connect(mongodb_uri, mongodb_database)
    try:
        chance = random.Random(seed)
        for kill in range(1, KILLS + 1):
            kill_one(child, chance)
            if kill % CHECK_EVERY == 0:
                references.check(MongoShelf(database))
        while not kill_one(child, chance):
            pass
        assert references.check(MongoShelf(database)) == COMMITS * len(READ_MODELS)
    finally:
        database.close()
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def project(
    projections: Sequence[Projection], history: Sequence[Committed], chance: random.Random, batch_done: threading.Semaphore
) -> bool:  # fmt: skip
    """Take what is missing in small batches; False when the store went away."""
    behind = True
    while behind:
        behind = False
        for projection in projections:
            batch = missing(history, projection.positions)[: chance.randint(1, BATCHES_MAX)]
            behind = behind or bool(batch)
            try:
                projection.take(batch)
            except ViewUnavailableError:
                return False
            except HoleError:
                behind = True  # What changed nothing was not durable: it is read from the log again.
            batch_done.release()
    return True


@pytest.mark.timeout(240)
def test_a_server_killed_at_any_moment_leaves_every_view_at_its_positions(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    _log.warning("seed %d", seed)
    chance = random.Random(seed)
    history = History(seed).grow(SERVER_COMMITS)
    references = References(history)
    with MongoReplicaSet(tmp_path) as servers:
        database = ViewDatabase.connect(servers.uri, "views", timeout_ms=2_000)
        shelf = MongoShelf(database)
        projections = [opened(shelf, name) for name in READ_MODELS]
        for _ in range(SERVER_KILLS):
            batch_done = threading.Semaphore(0)
            outcome: list[bool] = []
            thread = threading.Thread(
                target=lambda done=batch_done, told=outcome: told.append(
                    project(projections, history, random.Random(seed), done)
                )
            )
            thread.start()
            for _ in range(chance.randint(1, 40)):
                batch_done.acquire(timeout=10)
            servers.kill()
            thread.join()
            servers.start()
            references.check(shelf)
        assert project(projections, history, chance, threading.Semaphore(0))
        for projection in projections:
            projection.flush_positions()
        assert references.check(shelf) == len(history) * len(READ_MODELS)
        database.close()


def test_a_server_outside_any_replica_set_is_refused(tmp_path: Path) -> None:
    with (
        MongoReplicaSet(tmp_path, replica_set=None) as servers,
        pytest.raises(MongoUnfitError, match="--replSet"),
    ):
        ViewDatabase.connect(servers.uri, "views")
