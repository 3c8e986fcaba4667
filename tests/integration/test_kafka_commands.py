"""`audit compare`, `repair kafka` and `restore --from-kafka` over a real Kafka, as somebody types them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eventlog.kafka_admin import KafkaAdmin
from eventlog.kafka_driver import KafkaSender
from eventlog.kafka_record import record_of
from eventlog.kafka_settings import KafkaSettings
from eventlog.kafka_topic import ensure_topic, partitions_for, topic_name
from eventlog.mongo import MongoLog
from eventlog.sqlite import SqliteLog
from ops.audit.verifying import Verification
from ops.cli.app import app
from ops.folder import DataFolder
from tests.contract.log_samples import whole_log
from tests.integration.recorded import data_folder, story, write
from tests.unit.projections.world import SHARDS

pytestmark = [pytest.mark.services, pytest.mark.slow]


class House:
    """A data folder with a history, and a topic of its own that is not there yet."""

    def __init__(self, bootstrap: str, prefix: str, path: Path) -> None:
        self.bootstrap = bootstrap
        self.cluster_id = prefix.rstrip(".")
        self.folder = data_folder(path)
        self.kafka = KafkaSettings(bootstrap=bootstrap)
        self.topic = topic_name(self.cluster_id)
        self.path = path

    def run(self, *words: str, code: int = 0) -> list[Any]:
        """The lines of JSON that a command prints."""
        result = CliRunner().invoke(app, [*words, "--json"])
        assert result.exit_code == code, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def options(self, folder: DataFolder | None = None) -> tuple[str, ...]:
        data = str((folder or self.folder).root)
        return ("--data", data, "--kafka", self.bootstrap, "--cluster-id", self.cluster_id)

    def compare(self, code: int = 0) -> list[Any]:
        return self.run("audit", "compare", *self.options(), code=code)

    async def delete_topic(self) -> None:
        async with KafkaAdmin.connected(self.kafka) as admin:
            await admin.delete(self.topic)
            while await admin.describe(self.topic) is not None:
                pass


@pytest.fixture
def house(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> House:
    made = House(kafka_bootstrap, topic_prefix, tmp_path)
    asyncio.run(_fill(made.folder))
    return made


async def _fill(folder: DataFolder) -> None:
    await write(await story(), folder)


async def _commits(folder: DataFolder) -> Any:
    log = await SqliteLog.open_read_only(folder.log)
    try:
        return await whole_log(log)
    finally:
        await log.close()


def test_an_emptied_topic_is_repaired_and_compares_equal(house: House) -> None:
    result = CliRunner().invoke(app, ["audit", "compare", *house.options()])
    assert result.exit_code == 2
    assert "there is no topic" in result.stderr
    assert result.stderr.count("\n") == 1
    (sent,) = house.run("repair", "kafka", *house.options())
    assert sent["commits"] > 20
    (summary,) = house.compare()
    assert summary["same"]
    assert summary["held"] == summary["positions"] == sent["commits"]
    asyncio.run(house.delete_topic())
    assert asyncio.run(ensure_topic(house.kafka, house.topic, partitions_for(SHARDS)))
    *missing, summary = house.compare(code=1)
    assert {found["kind"] for found in missing} == {"missing"}
    assert summary["missing"] == summary["positions"]
    assert house.run("repair", "kafka", *house.options()) == [sent]
    assert house.run("repair", "kafka", *house.options()) == [{"commits": 0, "shards": 0}]
    assert house.compare()[0]["same"]


def test_what_is_wrong_is_told_in_words(house: House) -> None:
    house.run("repair", "kafka", *house.options())
    asyncio.run(_forge(house))
    result = CliRunner().invoke(app, ["audit", "compare", *house.options()])
    assert result.exit_code == 1
    assert "SURPLUS  shard" in result.stdout
    assert "where the log has none" in result.stdout
    assert "result   different" in result.stdout
    assert "see `minutebook repair kafka`" in result.stderr
    result = CliRunner().invoke(app, ["audit", "compare", *house.options()[:2], "--kafka", "127.0.0.1:1"])
    assert result.exit_code == 3
    assert "Kafka at 127.0.0.1:1 cannot be reached" in result.stderr
    result = CliRunner().invoke(app, ["audit", "compare", *house.options()[:2]])
    assert result.exit_code == 2
    assert "give --kafka HOST:PORT, or set cluster.kafka_bootstrap" in result.stderr


async def _forge(house: House) -> None:
    """A record behind the end of a shard."""
    commits = await _commits(house.folder)
    shard, last = next((shard, found[-1]) for shard, found in commits.items() if found)
    record = record_of(last)
    frame = last.frame.replace(b'"position":%d,' % last.position, b'"position":%d,' % (last.position + 5), 1)
    headers = tuple((k, b"%d" % (last.position + 5) if k == "position" else v) for k, v in record.headers)
    forged = type(record)(record.key, frame, headers, record.timestamp_ms)
    sender = KafkaSender(house.kafka, house.topic, partitions_for(SHARDS))
    await sender.start()
    await sender.send(shard % partitions_for(SHARDS), [forged])
    await sender.close()


def test_a_lost_folder_is_rebuilt(house: House) -> None:
    house.run("repair", "kafka", *house.options())
    lost = DataFolder(house.path / "new")
    words = (
        "restore",
        "--from-kafka",
        house.bootstrap,
        "--cluster-id",
        house.cluster_id,
        "--data",
        str(lost.root),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINUTEBOOK_SHARDS", str(SHARDS * 2))
        assert "set `shards` to what the lost log had" in CliRunner().invoke(app, [*words]).stderr
        assert not lost.log.exists()
        patch.setenv("MINUTEBOOK_SHARDS", str(SHARDS))
        (restored,) = house.run(*words)
        again = CliRunner().invoke(app, [*words])
    assert again.exit_code == 2
    assert "there is a log in" in again.stderr
    before, after = asyncio.run(_commits(house.folder)), asyncio.run(_commits(lost))
    assert after == before
    verification = Verification(lost)
    assert list(verification.faults()) == []
    assert verification.summary.log_id == restored["log_id"]
    assert restored["former_log_ids"] != [restored["log_id"]]
    assert house.run("audit", "compare", *house.options(lost))[0]["same"]


def test_a_lost_database_is_rebuilt(
    house: House, mongodb_uri: str, mongodb_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINUTEBOOK_CLUSTER__MONGODB_DATABASE", mongodb_database)
    monkeypatch.setenv("MINUTEBOOK_SHARDS", str(SHARDS))
    house.run("repair", "kafka", *house.options())
    cluster = ("--mongodb", mongodb_uri, "--cluster-id", house.cluster_id)
    (restored,) = house.run("restore", "--from-kafka", house.bootstrap, *cluster)
    (summary,) = house.run("audit", "compare", "--kafka", house.bootstrap, *cluster)
    assert summary["same"]
    assert summary["log_id"] == restored["log_id"]
    again = CliRunner().invoke(app, ["restore", "--from-kafka", house.bootstrap, *cluster])
    assert again.exit_code == 1
    assert "already holds a record" in again.stderr
    former = asyncio.run(_former_ids(mongodb_uri, mongodb_database))
    assert former == restored["former_log_ids"]


async def _former_ids(uri: str, database: str) -> list[str]:
    log = await MongoLog.open_read_only(uri, database)
    try:
        return list(log.former_log_ids)
    finally:
        await log.close()
