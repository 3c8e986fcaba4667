"""`minutebook serve` over a cluster that is set up wrong: one line that says what to do, an exit code, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from docker.local.mongodb import MongoReplicaSet
from docker.local.redis import RedisServers
from eventlog.carrier import CarrierUnavailableError
from eventlog.kafka_admin import KafkaAdmin, check_requests
from eventlog.kafka_driver import KafkaSender
from eventlog.kafka_record import record_of
from eventlog.kafka_settings import KafkaSettings
from eventlog.kafka_topic import ensure_topic, topic_name
from eventlog.mongo import MongoLog
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_schema import LOG, LOG_DOCUMENT
from eventlog.mongo_secrets import PROBE, MongoSecrets
from ops.cli.app import app
from projections.mongo import VIEWS
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.views import READ_MODELS
from tests.contract.log_samples import LOG_ID, ShardMaker
from tests.integration import fake_servers as fake

SHARDS = 4
PASSWORD = "hunter2"
NOWHERE = "127.0.0.1:1"


class Cluster:
    """Settings of a cluster of a test's own, and what a server says that starts with others."""

    def __init__(self, data: Path, **names: str) -> None:
        self.data = data
        self.names: Mapping[str, str] = {"CLUSTER_ID": "main", "MONGODB_DATABASE": "main", **names}

    def refused(self, roles: str = "", code: int = 2, shards: int = SHARDS, **names: str) -> str:
        """The line of a server that does not start; without any roles all are in one process."""
        chosen = {**self.names, **names}
        environment = {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in chosen.items()}
        words = [
            "serve",
            "--port",
            "0",
            "--data",
            str(self.data),
            "--shards",
            str(shards),
            "--log-format",
            "json",
        ]
        result = CliRunner().invoke(app, [*words, *(("--roles", roles) if roles else ())], env=environment)
        assert result.exit_code == code, (result.output, result.exception)
        lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("minutebook: ")
        assert PASSWORD not in result.output
        return lines[0].removeprefix("minutebook: ")


@pytest.fixture
def away(tmp_path: Path) -> Cluster:
    """A cluster of which no server is there."""
    return Cluster(
        tmp_path / "node",
        MONGODB_URI=f"mongodb://{NOWHERE}/?replicaSet=rs0",
        KAFKA_BOOTSTRAP=NOWHERE,
        REDIS_URL=f"redis://{NOWHERE}/0",
    )


def owners(*shards: str) -> str:
    """Rows of nodes a, b, c…"""
    rows = [
        {"node": chr(97 + n), "address": f"127.0.0.1:{7001 + n}", "shards": some}
        for n, some in enumerate(shards)
    ]
    return json.dumps(rows)


SECRET = "s" * 64
ROLES: list[tuple[str, dict[str, str], str]] = [
    ("owner,cook", {}, "roles: owner, cook: there are only gateway, owner, relay, projector"),
    ("owner", {}, "roles need cluster.owners"),
    ("owner", {"OWNERS": owners("0-3")}, "roles need cluster.secret"),
    (
        "owner",
        {"OWNERS": owners("0-3"), "SECRET": PASSWORD},
        "cluster.secret: the cluster's secret needs at least",
    ),
    ("owner", {"OWNERS": owners("0-1", "3")}, "cluster.owners: nobody owns shard 2"),
    ("owner", {"OWNERS": owners("0-2", "2-3")}, "cluster.owners: shard 2 is given to a and to b"),
    ("owner", {"OWNERS": owners("0-4")}, "cluster.owners: 0-4: shards go from 0 to 3"),
    ("owner", {"OWNERS": owners("all")}, "cluster.owners: shards are written as 0-15 or 3,7"),
    (
        "owner",
        {"OWNERS": owners("0-3"), "SECRET": SECRET, "NODE": "z"},
        "gives no shard to z, which is to be an owner",
    ),
    (
        "pusher",
        {"OWNERS": owners("0-3"), "SECRET": SECRET, "NODE": "z"},
        "cluster.pushers does not name z, which is to be a pusher",
    ),
    ("gateway", {"OWNERS": "[{"}, "MINUTEBOOK_CLUSTER"),
    (
        "",
        {"KAFKA_PARTITIONS": "3"},
        "3 partitions cannot carry 4 shards: set cluster.kafka_partitions to a divisor",
    ),
    ("", {"KAFKA_BOOTSTRAP": "http://kafka:9092"}, "cluster.kafka_bootstrap: write host:port"),
    ("", {"KAFKA_BOOTSTRAP": "kafka"}, "cluster.kafka_bootstrap: write host:port"),
    ("", {"REDIS_URL": f"http://:{PASSWORD}@cache"}, "cluster.redis_url is no address of a Redis"),
    ("", {"MONGODB_URI": ""}, "a cluster needs cluster.mongodb_uri: set MINUTEBOOK_CLUSTER__MONGODB_URI"),
]


@pytest.mark.parametrize("roles, names, words", ROLES)
def test_settings_that_cannot_be(away: Cluster, roles: str, names: dict[str, str], words: str) -> None:
    away.names = {**away.names, **names}
    assert words in away.refused(roles)


@pytest.mark.parametrize(
    "url, words",
    [
        (
            f"redis://:{PASSWORD}@{NOWHERE}/0",
            f"Redis at {NOWHERE} does not answer (ConnectionError): start it, or mend",
        ),
        ("redis://no-such-host.invalid:6379/0", "Redis at no-such-host.invalid:6379 does not answer"),
    ],
)
def test_a_redis_that_is_not_there(away: Cluster, url: str, words: str) -> None:
    assert words in away.refused(code=3, REDIS_URL=url)


def test_a_redis_that_is_too_old(away: Cluster) -> None:
    with fake.serving(fake.redis("6.2.14")) as port:
        line = away.refused(REDIS_URL=f"redis://127.0.0.1:{port}/0")
    assert line == "Redis 6.2.14 is too old: 7.0 or newer is needed"


def test_a_kafka_that_is_too_old() -> None:
    async def start(port: int) -> None:
        await ensure_topic(KafkaSettings(bootstrap=f"127.0.0.1:{port}"), "any", 4)

    with (
        fake.serving(fake.kafka(15)) as port,
        pytest.raises(Exception, match=r"too old: 3\.9 or newer is needed"),
    ):
        asyncio.run(start(port))
    check_requests({1: (0, 17)})


@pytest.mark.services
@pytest.mark.slow
class TestWithRedis:
    """What is looked at after Redis."""

    @pytest.mark.parametrize(
        "uri, code, words",
        [
            (
                f"mongodb://u:{PASSWORD}@{NOWHERE}/?replicaSet=rs0",
                3,
                f"{NOWHERE}: [Errno 111] Connection refused",
            ),
            ("mongodb://no-such-host.invalid/?replicaSet=rs0", 3, "no MongoDB primary can be reached"),
            (f"postgres://u:{PASSWORD}@db", 2, "the MongoDB URI is not valid"),
            (f"mongodb://u:{PASSWORD}@a@b", 2, "percent-encoded"),
            ("mongodb://db/?w=1", 2, "asks for w=1: the log is only safe with w=majority"),
        ],
    )
    def test_a_mongodb_that_is_not_there(
        self, away: Cluster, redis_url: str, uri: str, code: int, words: str
    ) -> None:
        assert words in away.refused(code=code, REDIS_URL=redis_url, MONGODB_URI=uri)

    def test_a_mongodb_that_is_too_old(self, away: Cluster, redis_url: str) -> None:
        with fake.serving(fake.mongodb((5, 0, 31))) as port:
            line = away.refused(
                REDIS_URL=redis_url, MONGODB_URI=f"mongodb://127.0.0.1:{port}/?replicaSet=rs0"
            )
        assert line == "MongoDB 5.0.31 is too old: 6.0 or newer is needed"

    def test_a_mongod_that_stands_alone(self, away: Cluster, redis_url: str, tmp_path: Path) -> None:
        with MongoReplicaSet(tmp_path / "alone", replica_set=None) as alone:
            line = away.refused(REDIS_URL=redis_url, MONGODB_URI=alone.uri)
            found = alone.nodes[0].ask({"listDatabases": 1, "nameOnly": True})
        assert "start it with --replSet" in line
        assert "main" not in {one["name"] for one in found["databases"]}


@pytest.mark.services
@pytest.mark.slow
def test_a_wrong_password(tmp_path: Path, away: Cluster, redis_url: str) -> None:
    with RedisServers(tmp_path / "redis") as locked:
        assert locked.nodes[0].ask("CONFIG SET requirepass right") == "+OK"
        for url in (locked.address, locked.address.replace("//", f"//:{PASSWORD}@")):
            assert "refuses the user name or the password of cluster.redis_url" in away.refused(REDIS_URL=url)
    with MongoReplicaSet(tmp_path / "mongodb") as servers:
        ann = {"createUser": "ann", "pwd": "right", "roles": [{"role": "root", "db": "admin"}]}
        assert servers.nodes[0].ask(ann, 30.0)["ok"] == 1
        uri = servers.uri.replace("//", f"//ann:{PASSWORD}@")
        line = away.refused(REDIS_URL=redis_url, MONGODB_URI=uri)
    assert line == "MongoDB refuses the user name or the password of the URI"


@pytest.fixture
def cluster(
    tmp_path: Path, mongodb_uri: str, mongodb_database: str, kafka_bootstrap: str, redis_url: str
) -> Iterator[Cluster]:
    """All servers, and a log."""
    names = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": mongodb_database, "CLUSTER_ID": mongodb_database}
    names |= {"KAFKA_BOOTSTRAP": kafka_bootstrap, "REDIS_URL": redis_url}
    made = Cluster(tmp_path / "node", **names)

    async def make() -> None:
        log = await MongoLog.open(mongodb_uri, mongodb_database, SHARDS, cluster_id=mongodb_database)
        await log.close()

    async def drop() -> None:
        for ending in ("_secrets", "_views"):
            driver = MongoDriver.connect(mongodb_uri, mongodb_database + ending)
            await driver.command({"dropDatabase": 1})
            await driver.close()

    asyncio.run(make())
    yield made
    asyncio.run(drop())


async def change(
    cluster: Cluster, ending: str, collection: str, which: Mapping[str, Any], values: Any
) -> None:
    """Change a document behind everybody's back."""
    driver = MongoDriver.connect(cluster.names["MONGODB_URI"], cluster.names["MONGODB_DATABASE"] + ending)
    assert (await driver.update_one(collection, which, {"$set": values})).matched_count == 1
    await driver.close()


def test_another_cluster_or_number_of_shards(cluster: Cluster) -> None:
    database = cluster.names["MONGODB_DATABASE"]
    line = cluster.refused(CLUSTER_ID="other")
    assert f"database {database} belongs to the cluster {database}, not to other: give each" in line
    assert "was made with 4 shards and cannot be opened with 8" in cluster.refused(shards=8)


def test_a_schema_of_the_future(cluster: Cluster) -> None:
    uri, database = cluster.names["MONGODB_URI"], cluster.names["MONGODB_DATABASE"]

    async def prepare() -> str:
        await (await MongoSecrets.open(uri, f"{database}_secrets")).close()
        log = await MongoLog.open_read_only(uri, database)
        await log.close()
        return log.log_id

    log_id = asyncio.run(prepare())
    asyncio.run(change(cluster, "_secrets", PROBE, {"_id": PROBE}, {"schema_version": 2}))
    line = cluster.refused(code=3)
    assert f"database {database}_secrets has schema version 2, this program knows 1: run the release" in line
    asyncio.run(change(cluster, "_secrets", PROBE, {"_id": PROBE}, {"schema_version": 1}))

    views = ViewDatabase.connect(uri, f"{database}_views")
    name, model = next(iter(READ_MODELS.items()))
    MongoShelf(views).open(model.schema, 1, log_id).close()
    views.close()
    newer = {"schema": model.schema.version + 1}
    asyncio.run(change(cluster, "_views", VIEWS, {"_id": f"{model.schema.name}.v1"}, newer))
    line = cluster.refused()
    assert "was written by a newer release" in line
    assert name
    asyncio.run(change(cluster, "", LOG, LOG_DOCUMENT, {"schema_version": 2}))
    assert f"database {database} has schema version 2, this program knows 1" in cluster.refused()


def test_a_redis_of_another_cluster(cluster: Cluster, mongodb_uri: str) -> None:
    import redis

    prefix = f"minutebook:{cluster.names['CLUSTER_ID']}"
    client = redis.Redis.from_url(cluster.names["REDIS_URL"])
    client.set(f"{prefix}:owner", "another-log")
    line = cluster.refused()
    assert f"what begins with {prefix} in this Redis is of the log 'another-log'" in line
    assert client.get(f"{prefix}:owner") == b"another-log"
    client.delete(f"{prefix}:owner")
    client.close()


def test_a_topic_with_other_partitions(cluster: Cluster) -> None:
    kafka = KafkaSettings(bootstrap=cluster.names["KAFKA_BOOTSTRAP"])
    name = topic_name(cluster.names["CLUSTER_ID"])
    asyncio.run(ensure_topic(kafka, name, 2))
    words = f"the topic {name} has 2 partitions, not 4: set cluster.kafka_partitions to 2 if that divides the shards"
    # Whoever relays to it, and whoever only reads it.
    assert words in cluster.refused()
    assert words in cluster.refused("gateway", OWNERS=owners("0-3"), SECRET=SECRET)


def test_a_topic_of_another_cluster(cluster: Cluster) -> None:
    kafka = KafkaSettings(bootstrap=cluster.names["KAFKA_BOOTSTRAP"])
    name = topic_name(cluster.names["CLUSTER_ID"])

    async def send() -> None:
        sender = KafkaSender(kafka, name, 4, lambda: ensured(kafka, name))
        await sender.start()
        await sender.send(1, [record_of(ShardMaker(1).make())])
        await sender.close()

    asyncio.run(send())
    words = f"the topic {name} carries the log {LOG_ID!r}, which this cluster never had"
    assert words in cluster.refused()
    assert words in cluster.refused("gateway", OWNERS=owners("0-3"), SECRET=SECRET)


async def ensured(kafka: KafkaSettings, name: str) -> None:
    """The topic is there."""
    await ensure_topic(kafka, name, 4)


def test_a_topic_that_takes_less_than_a_record_may_have(cluster: Cluster) -> None:
    kafka = KafkaSettings(bootstrap=cluster.names["KAFKA_BOOTSTRAP"])
    name = topic_name(cluster.names["CLUSTER_ID"])

    async def shrink() -> None:
        async with KafkaAdmin.connected(kafka) as admin:
            await admin.create(name, 4, 1, {"retention.ms": "-1", "max.message.bytes": "100000"})
            found = None
            while found is None or not found.partitions:
                with suppress(CarrierUnavailableError):  # The broker that is asked may know half of it yet.
                    found = await admin.describe(name)

    asyncio.run(shrink())
    line = cluster.refused()
    assert "max.message.bytes is 100000" in line
    assert "kafka-configs.sh" in line


def test_an_address_of_an_owner_that_is_taken(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rows = [{"node": "a", "address": f"127.0.0.1:{port}", "shards": "0-3"}]
        line = cluster.refused("owner", code=3, OWNERS=json.dumps(rows), SECRET=SECRET, NODE="a")
    assert f"cannot listen at 127.0.0.1:{port} for other nodes: if another process does, stop it" in line
