"""Real MongoDB, Kafka and Redis for tests: one of each for the whole run, started when the first test asks.

A test asks by the name of a fixture, and then carries the mark `services` by itself. It may touch only what its own
`mongodb_database`, `topic_prefix` or `redis_prefix` names: all tests of all workers share the servers. A test that
hurts a server starts one of its own instead (`MongoReplicaSet`, `KafkaCluster`, `RedisServers` of `docker.local`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker.local.failures import ServicesError
from docker.local.mongo_wire import run_command
from docker.local.supervisor import down, up

SERVICE_FIXTURES = frozenset(
    {"kafka_bootstrap", "mongodb_database", "mongodb_uri", "redis_prefix", "redis_url", "topic_prefix"}
)
# Set by the process that leads the run, inherited by its workers.
_FOLDER = "TEST_SERVICES_FOLDER"
_OWNER = "TEST_SERVICES_OWNER"
_KINDS = ("mongodb", "kafka", "redis")
_DROP_S_MAX = 30.0


def own_services(config: pytest.Config) -> None:
    """Called as the run begins: whoever leads it owns what its workers will start."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="minutebook-services-")
        os.environ[_OWNER] = str(os.getpid())


def end_services(config: pytest.Config) -> None:
    """Called as the run ends, however it went. (If this process is killed, the servers end by themselves.)"""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_FOLDER, None)) is not None:
        for kind in _KINDS:
            down(Path(folder) / kind)
        shutil.rmtree(folder, ignore_errors=True)


def mark_service_tests(items: list[pytest.Item]) -> None:
    """Give the mark `services` to whoever asks for one."""
    for item in items:
        if SERVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("services")


def address_of(kind: str) -> str:
    """Of the shared server; the first worker that asks starts it, the others wait. Never a skip."""
    folder = Path(os.environ[_FOLDER])
    with (folder / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return str(up(folder / kind, 1, [kind], owner=int(os.environ[_OWNER]))[kind])
        except ServicesError as error:
            pytest.fail(f"no {kind} for the tests: {error}", pytrace=False)


def _unique() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def mongodb_uri() -> str:
    """A replica set of one, at the address of this URI."""
    return address_of("mongodb")


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """One broker (KRaft; it makes no topic by itself), as `host:port`."""
    return address_of("kafka")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """One Redis that keeps nothing on disk."""
    return address_of("redis")


@pytest.fixture
def mongodb_database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database of this test's own, dropped after it."""
    name = _unique()
    yield name
    host, _, port = mongodb_uri.removeprefix("mongodb://").partition("/")[0].partition(":")
    run_command(host, int(port), {"dropDatabase": 1}, _DROP_S_MAX, database=name)


@pytest.fixture
def topic_prefix(kafka_bootstrap: str) -> str:
    """What the topics and consumer groups of this test begin with."""
    return f"{_unique()}."


@pytest.fixture
def redis_prefix(redis_url: str) -> str:
    """What the keys and channels of this test begin with."""
    return f"{_unique()}:"
