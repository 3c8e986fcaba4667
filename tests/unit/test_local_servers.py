"""What `docker.local` computes, without any server."""

from __future__ import annotations

import datetime
import json
import re
import struct
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import settings as patience
from hypothesis import strategies as some

from docker.local import debian, folders, kafka_wire, mongo_wire, ports, provision
from docker.local.__main__ import main
from docker.local.failures import ServicesError
from docker.local.kafka import KafkaCluster, settings
from docker.local.mongodb import MongoReplicaSet
from docker.local.services import Services
from docker.local.supervisor import description, down
from tests.services import address_of

NAMES = some.text(some.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
PLAIN = (
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**63 - 1)
    | some.floats(allow_nan=False)
    | some.text(some.characters(codec="utf-8"), max_size=8)
)
VALUES = some.recursive(
    PLAIN,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)

# --- MongoDB's words -------------------------------------------------------------------------------


@patience(max_examples=40)
@given(some.dictionaries(NAMES, VALUES, max_size=4))
def test_bson_is_what_the_driver_writes_and_reads(document: dict[str, Any]) -> None:
    assert bson.decode(mongo_wire.encode(document)) == document
    assert mongo_wire.decode(bson.encode(document)) == document


def test_bson_of_replies_is_read() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    reply = {
        "electionId": bson.ObjectId(b"123456789012"),
        "localTime": moment,
        "clusterTime": bson.Timestamp(7, 1),
        "hash": b"\0\1",
    }
    assert mongo_wire.decode(bson.encode(reply)) == {
        "electionId": b"123456789012",
        "localTime": int(moment.timestamp() * 1_000),
        "clusterTime": (7 << 32) + 1,
        "hash": b"\0\1",
    }


def test_bson_of_other_things_is_refused() -> None:
    with pytest.raises(TypeError, match="no BSON for set"):
        mongo_wire.encode({"a": {1}})
    with pytest.raises(ValueError, match="of kind 11"):
        mongo_wire.decode(bson.encode({"a": re.compile("a")}))


# --- Kafka's words ---------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def test_metadata_says_who_lives_and_who_leads() -> None:
    broker = struct.pack(">i", 2) + text("127.0.0.1") + struct.pack(">ih", 9092, -1)
    led = struct.pack(">hiiiiiii", 0, 0, 2, 2, 1, 2, 1, 2)
    headless = struct.pack(">hiiii", 5, 1, -1, 0, 0)
    topic = struct.pack(">h", 0) + text("events") + struct.pack(">bi", 0, 2) + led + headless
    reply = struct.pack(">ii", 7, 1) + broker + struct.pack(">ii", 2, 1) + topic
    found = kafka_wire.parse(reply)
    assert found.brokers == {2}
    assert found.leaders == {("events", 0): 2, ("events", 1): -1}


def test_three_brokers_need_two_copies_of_what_counts() -> None:
    three = settings(2, [(1, 4), (2, 5), (3, 6)], Path("/data"))
    assert three["controller.quorum.voters"] == "1@127.0.0.1:4,2@127.0.0.1:5,3@127.0.0.1:6"
    assert three["listeners"] == "PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:5"
    assert (three["default.replication.factor"], three["min.insync.replicas"]) == ("3", "2")
    alone = settings(1, [(1, 4)], Path("/data"))
    assert (alone["default.replication.factor"], alone["min.insync.replicas"]) == ("1", "1")
    for each in (three, alone):
        assert each["unclean.leader.election.enable"] == "false"
        assert each["auto.create.topics.enable"] == "false"
        assert each["log.retention.ms"] == "-1"


# --- ports and folders -----------------------------------------------------------------------------


def test_a_folder_keeps_its_ports(tmp_path: Path) -> None:
    first = ports.ports_of(tmp_path, 3)
    assert len(set(first)) == 3
    assert set(first) <= set(ports.PORTS)
    assert ports.ports_of(tmp_path, 3) == first
    with pytest.raises(ServicesError, match="other numbers of servers"):
        ports.ports_of(tmp_path, 1)


def test_addresses_name_every_node(tmp_path: Path) -> None:
    mongodb = MongoReplicaSet(tmp_path / "mongodb", nodes=3)
    one, two, three = (node.address for node in mongodb.nodes)
    assert mongodb.uri == f"mongodb://{one},{two},{three}/?replicaSet=rs0"
    alone = MongoReplicaSet(tmp_path / "alone", replica_set=None)
    assert alone.uri == f"mongodb://{alone.nodes[0].address}/"
    with pytest.raises(ValueError, match="stand alone"):
        MongoReplicaSet(tmp_path / "three", nodes=3, replica_set=None)
    kafka = KafkaCluster(tmp_path / "kafka", nodes=3)
    assert kafka.bootstrap == ",".join(node.address for node in kafka.nodes)
    with pytest.raises(ValueError, match="one or three nodes"):
        KafkaCluster(tmp_path / "two", nodes=2)


def test_what_runs_is_described(tmp_path: Path) -> None:
    described = Services(tmp_path, kinds=["mongodb", "redis"]).describe()
    assert set(described) == {"mongodb", "redis", "nodes"}
    assert [node["service"] for node in described["nodes"]] == ["mongodb", "redis"]
    assert all(node["pid"] is None for node in described["nodes"])


def test_a_description_counts_only_while_its_supervisor_lives(tmp_path: Path) -> None:
    assert description(tmp_path) is None
    # A pid that lives, but another process's by now: the record of a supervisor long gone.
    record = {"supervisor": 1, "supervisor_started_at": -1}
    (tmp_path / "services.json").write_text(json.dumps(record))
    assert description(tmp_path) is None
    (tmp_path / "services.json").write_text("{")
    assert description(tmp_path) is None
    assert not down(tmp_path)


def test_the_cache_stands_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folders.cache_folder() == tmp_path / "minutebook"
    assert folders.run_folder().parent == tmp_path / "minutebook" / "run"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.cache_folder() == tmp_path / ".cache" / "minutebook"


# --- what is missing -------------------------------------------------------------------------------


def test_a_missing_program_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    with pytest.raises(ServicesError, match="As root: apt-get install --no-install-recommends maven"):
        debian.require({"mvn": "maven"})
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ServicesError, match="Missing: maven"):
        debian.require({"mvn": "maven"})


def test_no_program_is_missing_where_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    debian.require({"mvn": "maven"})


def test_another_machine_is_sent_to_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    provision.mongodb_programs.cache_clear()
    try:
        with pytest.raises(ServicesError, match=r"riscv64.*docker/compose.yml"):
            provision.mongodb_programs()
    finally:
        provision.mongodb_programs.cache_clear()
    assert not (tmp_path / "minutebook/servers" / f"mongodb-{provision.MONGODB_VERSION}").exists()


def test_every_part_of_kafka_is_pinned() -> None:
    sums = (folders.ROOT / f"docker/local/kafka-{provision.KAFKA_VERSION}.sha256").read_text()
    lines = re.findall(r"^[0-9a-f]{64}  (\S+\.jar)$", sums, re.MULTILINE)
    assert len(lines) == len(sums.splitlines())
    assert f"kafka_2.13-{provision.KAFKA_VERSION}.jar" in lines


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert provision.sums_of(tmp_path) == f"{empty}  a.jar\n"


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ServicesError, match="set XDG_CACHE_HOME"):
        folders.cache_folder()


def test_a_test_without_its_server_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> dict[str, Any]:
        raise ServicesError("Missing: maven. As root: …")

    monkeypatch.setenv("TEST_SERVICES_FOLDER", str(tmp_path))
    monkeypatch.setattr("tests.services.up", refuse)
    with pytest.raises(pytest.fail.Exception, match="no kafka for the tests: Missing: maven"):
        address_of("kafka")


# --- the command -----------------------------------------------------------------------------------


def test_the_command_says_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--folder", str(tmp_path)]) == 1
    assert main(["status", "--folder", str(tmp_path), "--json"]) == 1
    assert main(["down", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing runs\nnull\nnothing was running\n"


def test_the_command_refuses_words_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--only", "mongodb,oracle"])
    assert "unknown: oracle; known: mongodb, redis, kafka" in capsys.readouterr().err


def test_the_command_tells_a_failure_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["status"]) == 1
    assert "set XDG_CACHE_HOME" in capsys.readouterr().err
