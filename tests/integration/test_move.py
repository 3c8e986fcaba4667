"""`minutebook move` between a data folder and real MongoDB: as somebody types it, and killed at every point of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from eventlog import mongo_moving as moving
from eventlog.mongo import MongoLog
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_schema import COMMITS, document_of
from eventlog.mongo_secrets import MongoSecrets
from eventlog.mongo_server import connected
from eventlog.port import LogMismatchError, LogUnavailableError, OutcomeUnknownError
from eventlog.record import Commit
from eventlog.secrets import Secrets
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_schema import renew_log_id
from eventlog.sqlite_secrets import SqliteSecrets
from ops.audit.verifying import Verification
from ops.cli.app import app
from ops.folder import DataFolder, held_folder
from ops.settings import load_settings
from ops.stores import embedded_stores
from tests.contract.log_samples import LOG_ID, ShardMaker, whole_log
from tests.integration.recorded import story, write
from tests.unit.projections.world import SHARDS

pytestmark = [pytest.mark.services, pytest.mark.slow]

Everything = tuple[str, Mapping[int, Sequence[Commit]], Mapping[tuple[str, str, str], bytes]]
"""What a place holds: the log's id, its commits, the secrets."""
SECRETS = {("password", f"default/u_{number}", "main"): b"hash %d" % number for number in range(150)}
SECRETS |= {("refresh", "default/u_1", "s_1"): b"\x00family", ("server", "minutebook", "payload"): bytes(32)}
SECRETS |= {("of a later release", "x", ""): b"kept all the same"}


class Places:
    """A folder with a history, and the databases of a cluster that hold nothing yet."""

    def __init__(self, path: Path, uri: str, database: str, kafka: str) -> None:
        self.folder = DataFolder(path / "data")
        self.back = DataFolder(path / "back")
        self.uri = uri
        self.database = database
        self.cluster_id = database
        names = {"MONGODB_URI": uri, "MONGODB_DATABASE": database, "KAFKA_BOOTSTRAP": kafka}
        names |= {"CLUSTER_ID": database, "REDIS_URL": "redis://127.0.0.1:1/0"}
        self.environment = {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in names.items()}

    def type(
        self, source: str | DataFolder, target: str | DataFolder, *more: str, database: str | None = None
    ) -> Result:
        """The command, in this process."""
        environment = {**self.environment, "MINUTEBOOK_CLUSTER__MONGODB_DATABASE": database or self.database}
        words = [place if isinstance(place, str) else str(place.root) for place in (source, target)]
        return CliRunner().invoke(app, ["move", "--from", words[0], "--to", words[1], *more], env=environment)

    def move(self, source: str | DataFolder, target: str | DataFolder) -> Any:
        """What it prints of a move that is done."""
        result = self.type(source, target, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def refused(
        self,
        source: str | DataFolder,
        target: str | DataFolder,
        *more: str,
        code: int = 2,
        database: str | None = None,
    ) -> str:
        """The one line of a move that is not made."""
        result = self.type(source, target, *more, database=database)
        assert result.exit_code == code, result.output
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr

    async def in_folder(self, folder: DataFolder) -> Everything:
        """What a folder holds."""
        log = await SqliteLog.open_read_only(folder.log)
        secrets = await SqliteSecrets.open(folder.secrets)
        try:
            return log.log_id, await whole_log(log), await everything_in(secrets)
        finally:
            await log.close()
            await secrets.close()

    async def in_cluster(self) -> Everything:
        """What the databases hold."""
        log = await MongoLog.open_read_only(self.uri, self.database)
        secrets = await MongoSecrets.open(self.uri, f"{self.database}_secrets")
        try:
            return log.log_id, await whole_log(log), await everything_in(secrets)
        finally:
            await log.close()
            await secrets.close()

    async def open_cluster(self) -> MongoLog:
        """As a server would."""
        return await MongoLog.open(self.uri, self.database, SHARDS, cluster_id=self.cluster_id)


async def everything_in(secrets: Secrets) -> Mapping[tuple[str, str, str], bytes]:
    """All secrets."""
    return {
        (kind, *place): value
        for kind in await secrets.kinds()
        for place, value in (await secrets.list(kind)).items()
    }


async def fill(folder: DataFolder) -> None:
    """A history, and secrets."""
    await write(await story(), folder)
    secrets = await SqliteSecrets.open(folder.secrets)
    await asyncio.gather(*[secrets.put(*place, value) for place, value in SECRETS.items()])
    await secrets.close()


@pytest.fixture
def places(
    tmp_path: Path,
    mongodb_uri: str,
    mongodb_database: str,
    kafka_bootstrap: str,
    request: pytest.FixtureRequest,
) -> Iterator[Places]:
    made = Places(tmp_path, mongodb_uri, mongodb_database, kafka_bootstrap)
    asyncio.run(fill(made.folder))
    yield made
    asyncio.run(drop_beside(made))


async def drop_beside(places: Places) -> None:
    """The databases that stand beside the log's."""
    for ending in ("_secrets", "_views"):
        driver = MongoDriver.connect(places.uri, places.database + ending)
        await driver.command({"dropDatabase": 1})
        await driver.close()


async def refuses_to_serve(folder: DataFolder) -> str:
    """Why a server does not start over a folder."""
    settings = load_settings(None, {"data": folder.root, "shards": SHARDS})
    with pytest.raises(LogMismatchError) as told:
        async with embedded_stores(settings, folder):
            pass
    return str(told.value)


def test_there_and_back_is_the_same_log(places: Places) -> None:
    before = asyncio.run(places.in_folder(places.folder))
    moved = places.move(places.folder, "cluster")
    assert (moved["log_id"], moved["shards"], moved["secrets"]) == (before[0], SHARDS, len(SECRETS))
    assert moved["copied"] == moved["commits"] == sum(len(commits) for commits in before[1].values())
    assert asyncio.run(places.in_cluster()) == before
    assert "was moved to the database" in asyncio.run(refuses_to_serve(places.folder))
    # Once more is no harm, and says the same.
    assert places.move(places.folder, "cluster") == {**moved, "copied": 0, "secrets": 0}

    result = places.type("cluster", places.back)
    assert result.exit_code == 0, result.output
    assert "shards to 4 where the log is served now" in result.stdout
    assert asyncio.run(places.in_folder(places.back)) == before
    assert list(Verification(places.back).faults()) == []
    with pytest.raises(LogMismatchError, match="was moved to the folder"):
        asyncio.run(places.open_cluster())
    assert {path.name for path in places.back.root.iterdir()} == {"lock", "log.db", "secrets.db"}
    # Neither of the places that it left takes it again.
    assert "drop" in places.refused(places.back, "cluster")
    assert "already" in places.refused("cluster", places.folder)


def test_what_was_moved_away_is_served_again_as_another_log(places: Places) -> None:
    moved = places.move(places.folder, "cluster")
    places.move("cluster", places.back)
    result = CliRunner().invoke(app, ["restore", "--in-place", "--json"], env=places.environment)
    assert result.exit_code == 0, result.output

    async def look() -> tuple[str, Sequence[str]]:
        log = await places.open_cluster()
        await log.close()
        await _writable(places)
        return log.log_id, log.former_log_ids

    log_id, former = asyncio.run(look())
    assert log_id != moved["log_id"]
    assert list(former) == [moved["log_id"]]


def test_a_restored_log_keeps_its_former_ids(places: Places) -> None:
    former, log_id = renew_log_id(places.folder.log)
    assert places.move(places.folder, "cluster")["log_id"] == log_id

    async def look() -> Sequence[str]:
        log = await places.open_cluster()
        await log.close()
        return log.former_log_ids

    assert list(asyncio.run(look())) == [former]
    places.move("cluster", places.back)
    assert list(Verification(places.back).faults()) == []


async def test_a_closed_log_is_refused_to_who_has_it_open(places: Places) -> None:
    await asyncio.to_thread(places.move, places.folder, "cluster")
    owner = await places.open_cluster()
    shard, commits = next((shard, found) for shard, found in (await whole_log(owner)).items() if found)
    await owner.append({shard: commits[-1:]})
    driver = await connected(places.uri, places.database, None, {})
    await moving.close_for_writing(driver, "elsewhere")
    newest = commits[-1]
    following = Commit(
        *(
            shard,
            newest.position + 1,
            99,
            "g_x",
            1,
            newest.first_number + 1,
            b"k" * 16,
            b"",
            newest.at,
            1,
            b"{}",
        )
    )
    # The server refuses it by itself, whatever this process believes, and then the process looks.
    with pytest.raises(OutcomeUnknownError, match="code 121"):
        await owner.append({shard: [following]})
    with pytest.raises(LogUnavailableError, match="was moved to elsewhere"):
        await owner.append({shard: [following]})
    assert await driver.find_one(COMMITS, {"_id": document_of(following)["_id"]}) is None
    await moving.open_for_writing(driver)
    await owner.append({shard: [following]})
    await owner.close()
    await driver.close()


def test_a_place_that_is_in_use_is_not_moved(places: Places) -> None:
    with held_folder(places.folder.root):
        assert "in use by the server with process id" in places.refused(places.folder, "cluster", code=3)
    asyncio.run(places.in_folder(places.folder))
    assert "must be `cluster`" in places.type(places.folder, places.back).output
    assert "there is no log" in places.refused(places.back, "cluster")
    assert "holds no log" in places.refused("cluster", places.back)
    places.move(places.folder, "cluster")

    async def served() -> str:
        name = moving.serving_as(places.database)
        driver = await connected(places.uri, places.database, None, {"application": name})
        try:
            return await asyncio.to_thread(places.refused, "cluster", places.back)
        finally:
            await driver.close()

    assert "stop all of its roles" in asyncio.run(served())
    places.move("cluster", places.back)


@pytest.mark.parametrize("ending", ["", "_secrets", "_views"])
def test_a_database_that_holds_anything_is_refused(places: Places, ending: str) -> None:
    async def spoil() -> None:
        driver = MongoDriver.connect(places.uri, places.database + ending)
        await driver.update_one("of_others", {"_id": 1}, {"$set": {"x": 1}}, upsert=True)
        await driver.close()

    asyncio.run(spoil())
    line = places.refused(places.folder, "cluster")
    assert f"{places.database}{ending} is not empty (it holds of_others)" in line
    asyncio.run(places.in_folder(places.folder))
    settings = load_settings(None, {"data": places.folder.root, "shards": SHARDS})

    async def serve() -> None:
        async with embedded_stores(settings, places.folder):
            pass

    asyncio.run(serve())


def test_other_things_in_the_way_are_told_in_a_line(places: Places) -> None:
    (places.back.root).mkdir()
    (places.back.root / "notes.txt").touch()
    places.move(places.folder, "cluster")
    assert "is not empty (it holds notes.txt)" in places.refused("cluster", places.back)
    places.environment["MINUTEBOOK_CLUSTER__CLUSTER_ID"] = "another"
    assert "belongs to the cluster" in places.refused("cluster", DataFolder(places.back.root / "new"))


def test_a_topic_of_another_log_is_refused(places: Places, tmp_path: Path) -> None:
    other = DataFolder(tmp_path / "other")

    async def make() -> None:
        other.prepare()
        log = await SqliteLog.open(other.log, SHARDS, log_id=LOG_ID)
        await log.append({1: ShardMaker(1).batch(3)})
        await log.close()

    def repair(folder: DataFolder) -> None:
        words = ["repair", "kafka", "--data", str(folder.root)]
        assert CliRunner().invoke(app, words, env=places.environment).exit_code == 0

    asyncio.run(make())
    repair(other)
    assert "which this cluster never had: set cluster.cluster_id" in places.refused(places.folder, "cluster")
    # Its own records are welcome: the relay goes on behind them.
    repair(places.folder)
    assert places.move(places.folder, "cluster")["commits"] > 0


POINTS = [("copying", 1), ("copying", 4), ("verifying", 2), ("closed", 1), ("secrets", 2)]


def killed(places: Places, source: str, target: str, stage: str, count: int) -> None:
    """A move that a kill -9 ends."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.integration.move_child", source, target, stage, str(count)],
        env={**os.environ, **places.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.crash
@pytest.mark.parametrize("stage, count", POINTS)
def test_killed_on_the_way_to_a_cluster(places: Places, stage: str, count: int) -> None:
    before = asyncio.run(places.in_folder(places.folder))
    killed(places, str(places.folder.root), "cluster", stage, count)
    with pytest.raises(LogMismatchError, match="is being moved there and is not whole"):
        asyncio.run(places.open_cluster())
    with pytest.raises(LogMismatchError, match="is being moved there and is not whole"):
        asyncio.run(places.in_cluster())
    if stage in ("closed", "secrets"):
        assert "was moved to the database" in asyncio.run(refuses_to_serve(places.folder))
        assert "was moved to the database" in places.refused(
            places.folder, "cluster", database=f"{places.database}x"
        )
    else:
        # It may be served in the meantime: what happens there then is moved, too.
        asyncio.run(_live_on(places.folder))
        before = asyncio.run(places.in_folder(places.folder))
    moved = places.move(places.folder, "cluster")
    assert stage == "copying" or moved["copied"] <= 1
    assert asyncio.run(places.in_cluster()) == before


async def _live_on(folder: DataFolder) -> None:
    secrets = await SqliteSecrets.open(folder.secrets)
    await secrets.delete("password", "default/u_7", "main")
    await secrets.put("password", "default/u_8", "main", b"changed")
    await secrets.close()
    log = await SqliteLog.open(folder.log)
    await log.close()


@pytest.mark.crash
@pytest.mark.parametrize("stage, count", [*POINTS, ("renaming", 1)])
def test_killed_on_the_way_to_a_folder(places: Places, stage: str, count: int) -> None:
    before = asyncio.run(places.in_folder(places.folder))
    places.move(places.folder, "cluster")
    killed(places, "cluster", str(places.back.root), stage, count)
    assert "is being moved there and is not whole" in asyncio.run(refuses_to_serve(places.back))
    if stage in ("closed", "secrets", "renaming"):
        with pytest.raises(LogMismatchError, match="was moved to the folder"):
            asyncio.run(places.open_cluster())
    else:
        log = asyncio.run(places.in_cluster())
        assert log == before
    places.move("cluster", places.back)
    assert asyncio.run(places.in_folder(places.back)) == before
    assert list(Verification(places.back).faults()) == []


def test_a_move_that_was_broken_off_is_given_up(places: Places) -> None:
    killed(places, str(places.folder.root), "cluster", "closed", 1)
    assert places.type(places.folder, "cluster", "--give-up").exit_code == 0
    asyncio.run(_live_on(places.folder))
    places.move(places.folder, "cluster")
    killed(places, "cluster", str(places.back.root), "closed", 1)
    assert places.type("cluster", places.back, "--give-up").exit_code == 0
    asyncio.run(_writable(places))
    places.move("cluster", places.back)
    assert "may have gone on there" in places.refused("cluster", places.back, "--give-up")


async def _writable(places: Places) -> None:
    """A commit that stands already is appended: the server takes commits."""
    log = await places.open_cluster()
    (shard, head), *_ = (await log.heads()).items()
    await log.append({shard: await log.read_shard(shard, head.position - 1, 1)})
    await log.close()
