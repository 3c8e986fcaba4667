"""The servers that tests run against are real, shared, and come back after kill -9."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import AsyncMongoClient, WriteConcern

from docker.local.failures import ServicesError
from docker.local.folders import ROOT
from docker.local.kafka import KafkaCluster
from docker.local.mongodb import MongoReplicaSet
from docker.local.redis import DURABLE, VOLATILE, RedisServers
from docker.local.services import Services
from docker.local.supervisor import description, down, up

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(120)]

MAJORITY = WriteConcern("majority", j=True, wtimeout=20_000)


async def write_document(uri: str, database: str, name: str) -> list[str]:
    """Insert it durably; the names that are there then."""
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=20_000) as client:
        collection = client[database].get_collection("things", write_concern=MAJORITY)
        await collection.insert_one({"_id": name})
        return [found["_id"] async for found in collection.find().sort("_id")]


@asynccontextmanager
async def started(part: Any) -> AsyncIterator[Any]:
    """A part of aiokafka's, stopped at the end also when it did not start."""
    try:
        await part.start()
        yield part
    finally:
        await part.stop()


async def make_topic(bootstrap: str, topic: str, copies: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=copies)])
    finally:
        await admin.close()


async def write_record(bootstrap: str, topic: str, value: bytes) -> list[bytes]:
    """Send it to all copies; the values that are there then."""
    async with started(
        AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    ) as producer:
        await producer.send_and_wait(topic, value, partition=0)
    partition = TopicPartition(topic, 0)
    async with started(AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        return [(await consumer.getone()).value for _ in range(end)]


async def write_key(url: str, key: str, value: str) -> object:
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        await client.set(key, value)
        return await client.get(key)


# --- shared ----------------------------------------------------------------------------------------


async def test_mongodb_writes_and_reads(mongodb_uri: str, mongodb_database: str) -> None:
    assert await write_document(mongodb_uri, mongodb_database, "a") == ["a"]


async def test_kafka_writes_and_reads(kafka_bootstrap: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}things"
    await make_topic(kafka_bootstrap, topic)
    assert await write_record(kafka_bootstrap, topic, b"a") == [b"a"]


async def test_redis_writes_and_reads(redis_url: str, redis_prefix: str) -> None:
    assert await write_key(redis_url, f"{redis_prefix}a", "1") == "1"


# --- killed and started again ----------------------------------------------------------------------


async def test_all_start_together_and_come_back_with_what_they_acknowledged(tmp_path: Path) -> None:
    with Services(tmp_path) as services:
        mongodb, kafka, redis_servers = (services.clusters[kind] for kind in ("mongodb", "kafka", "redis"))
        assert await write_document(mongodb.address, "here", "a") == ["a"]
        await make_topic(kafka.address, "here")
        assert await write_record(kafka.address, "here", b"a") == [b"a"]
        assert await write_key(redis_servers.address, "here", "a") == "a"
        before = services.describe()
        for cluster in services.clusters.values():
            for node in cluster.nodes:
                node.kill()
                assert not node.running
        services.start()
        after = services.describe()
        assert {**before, "nodes": []} == {**after, "nodes": []}
        pids = [{node["pid"] for node in described["nodes"]} for described in (before, after)]
        assert None not in pids[1]
        assert not pids[0] & pids[1]
        assert await write_document(mongodb.address, "here", "b") == ["a", "b"]
        assert await write_record(kafka.address, "here", b"b") == [b"a", b"b"]
        assert await write_key(redis_servers.address, "here", "b") == "b"


@pytest.mark.parametrize("options,kept", [(VOLATILE, 0), (DURABLE, 1)])
def test_redis_comes_back_empty_or_with_what_it_appended(
    tmp_path: Path, options: tuple[str, ...], kept: int
) -> None:
    with RedisServers(tmp_path / "redis", options=options) as servers:
        (node,) = servers.nodes
        assert node.ask("SET a 1") == "+OK"
        servers.restart()
        assert node.ask("EXISTS a") == f":{kept}"


def test_a_paused_server_keeps_silent_until_resumed(tmp_path: Path) -> None:
    with RedisServers(tmp_path / "redis") as servers:
        (node,) = servers.nodes
        node.pause()
        assert node.running
        assert not node.answers()
        node.resume()
        node.await_ready()


# --- whose end is theirs ---------------------------------------------------------------------------

START_AND_STAY = """
import sys, threading
from pathlib import Path
from docker.local.redis import RedisServers
with RedisServers(Path(sys.argv[1])) as servers:
    print(servers.nodes[0].pid, flush=True)
    threading.Event().wait()
"""
END_MS_MAX = 20_000


def await_end(pid: int) -> None:
    """Wait until the process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(END_MS_MAX), f"process {pid} lives on"
    finally:
        os.close(handle)


def test_servers_end_with_the_killed_process_that_started_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_STAY, str(tmp_path / "redis")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = int(starter.stdout.readline())
        starter.kill()
    await_end(server)


def test_servers_in_the_background_end_with_their_owner_and_leave_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        running = up(tmp_path / "run", 1, ["redis"], owner=owner.pid)
        assert up(tmp_path / "run", 1, ["redis"], owner=owner.pid) == running
        with pytest.raises(ServicesError, match="Other servers run"):
            up(tmp_path / "run", 3, ["redis"])
        owner.kill()
    await_end(running["nodes"][0]["pid"])
    await_end(running["supervisor"])
    assert not (tmp_path / "run").exists()


def test_up_and_down_keep_ports_and_data(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = up(folder, 1, ["mongodb"])
    try:
        assert description(folder) == first
    finally:
        assert down(folder)
    assert description(folder) is None
    await_end(first["nodes"][0]["pid"])
    try:
        assert up(folder, 1, ["mongodb"])["mongodb"] == first["mongodb"]
    finally:
        assert down(folder, wipe=True)
    assert not folder.exists()
    assert not down(folder)


def test_a_server_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(ServicesError, match=r"Redis on .* ended instead of serving(.|\n)*no-such-option"),
        RedisServers(tmp_path / "redis", options=("--no-such-option", "1")),
    ):
        raise AssertionError("it started")


# --- three of each ---------------------------------------------------------------------------------


async def test_another_mongodb_takes_over_from_a_killed_primary(tmp_path: Path) -> None:
    with MongoReplicaSet(tmp_path / "mongodb", nodes=3) as servers:
        await write_document(servers.uri, "here", "a")
        first = servers.primary()
        first.kill()
        second = servers.primary(other_than=first)
        assert await write_document(servers.uri, "here", "b") == ["a", "b"]
        first.restart()
        servers.await_member(first)
        assert servers.step_down() is not second
        assert await write_document(servers.uri, "here", "c") == ["a", "b", "c"]


async def test_another_broker_takes_over_from_a_killed_leader(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path / "kafka", nodes=3) as cluster:
        await make_topic(cluster.bootstrap, "here", copies=3)
        await write_record(cluster.bootstrap, "here", b"a")
        first = cluster.leader("here")
        first.kill()
        assert cluster.leader("here", other_than=first).running
        assert await write_record(cluster.bootstrap, "here", b"b") == [b"a", b"b"]
        first.restart()
        cluster.await_ready()
