"""What must hold of the compose file and the image. (Where Docker is, `docker compose config` says the rest.)"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from commands.ownership import NodeShards, ownership_of
from docker.local.folders import ROOT
from docker.local.provision import KAFKA_VERSION, MONGODB_VERSION
from ops.roles.role import Role
from ops.settings import ClusterModel, Settings

DOCKER = ROOT / "docker"
PINNED = re.compile(r"[a-z0-9/]+:\d+\.\d+\.\d+(-[a-z0-9-]+)?")


@cache
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text(encoding="utf-8"))
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def roles() -> dict[str, dict[str, Any]]:
    return {name: one for name, one in services().items() if one["image"].startswith("minutebook:")}


def stores() -> dict[str, dict[str, Any]]:
    return {name: one for name, one in services().items() if name not in roles()}


def members(kind: str) -> list[str]:
    return [name for name in services() if re.fullmatch(rf"{kind}-\d", name)]


def instructions() -> Iterator[tuple[str, str]]:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        if word.isupper():
            yield word, rest


# --- every service ---------------------------------------------------------------------------------


def test_there_are_three_of_what_votes_and_every_role() -> None:
    assert len(members("mongodb")) == len(members("kafka")) == 3
    assert len(members("owner")) == len(members("gateway")) == 2
    commands = [one["command"] for one in roles().values()]
    assert all(command[:2] == ["serve", "--roles"] for command in commands)
    assert {role for command in commands for role in command[2].split(",")} == set(Role)


def test_what_roles_are_told_are_settings_that_there_are() -> None:
    for one in roles().values():
        for name in one["environment"]:
            group, _, inner = name.removeprefix("MINUTEBOOK_").lower().partition("__")
            assert group in Settings.model_fields, name
            assert not inner or inner in ClusterModel.model_fields, name


@pytest.mark.parametrize("name", services())
def test_every_image_is_pinned_and_comes_back(name: str) -> None:
    assert PINNED.fullmatch(services()[name]["image"])
    assert services()[name]["restart"] in {"unless-stopped", "on-failure:10"}


@pytest.mark.parametrize("name", [name for name in services() if name != "mongodb-init"])
def test_everything_that_stays_says_whether_it_is_well(name: str) -> None:
    health = services()[name]["healthcheck"]
    assert health["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(health)


def test_whoever_waits_waits_for_health() -> None:
    for name, one in services().items():
        for other, wanted in one.get("depends_on", {}).items():
            ends = other == "mongodb-init"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert wanted["condition"] == expected, f"{name} waits for {other}"
            assert ends or "healthcheck" in services()[other]


def test_only_gateways_are_reached_from_outside_and_only_from_this_machine() -> None:
    for name, one in services().items():
        assert bool(one.get("ports")) == name.startswith("gateway-"), name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))
    published = [port for one in services().values() for port in one.get("ports", ())]
    assert len(set(published)) == len(published)
    networks = compose()["networks"]
    assert networks["stores"]["internal"] is True
    for one in stores().values():
        assert one["networks"] == ["stores"]


def test_what_keeps_data_keeps_it_in_a_volume_of_its_own() -> None:
    volumes = [name for kind in ("mongodb", "kafka") for name in members(kind)]
    assert set(compose()["volumes"]) == set(volumes)
    for name in volumes:
        (mount,) = services()[name]["volumes"]
        assert mount.split(":")[0] == name


# --- the stores ------------------------------------------------------------------------------------


def test_the_versions_are_those_that_tests_run_against() -> None:
    assert {services()[name]["image"] for name in members("mongodb")} == {f"mongo:{MONGODB_VERSION}"}
    assert services()["mongodb-init"]["image"] == f"mongo:{MONGODB_VERSION}"
    assert {services()[name]["image"] for name in members("kafka")} == {f"apache/kafka:{KAFKA_VERSION}"}


def test_mongodb_forms_the_set_that_its_uri_names() -> None:
    wanted = [f"{name}:27017" for name in members("mongodb")]
    script = (DOCKER / "mongodb-init.js").read_text(encoding="utf-8")
    assert re.findall(r"'(mongodb-\d:\d+)'", script) == wanted
    for name in members("mongodb"):
        command = services()[name]["command"]
        assert command[command.index("--replSet") + 1] == "rs0"
    for one in roles().values():
        uri = one["environment"]["MINUTEBOOK_CLUSTER__MONGODB_URI"]
        assert uri == f"mongodb://{','.join(wanted)}/?replicaSet=rs0"


def test_kafka_loses_nothing_that_two_of_three_hold() -> None:
    environments = [services()[name]["environment"] for name in members("kafka")]
    for number, (name, environment) in enumerate(zip(members("kafka"), environments, strict=True), 1):
        assert environment["KAFKA_NODE_ID"] == number
        assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
        assert f"{number}@{name}:9093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"]
        assert environment["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
        assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        assert environment["KAFKA_LOG_RETENTION_MS"] == -1
        assert len(base64.urlsafe_b64decode(environment["CLUSTER_ID"] + "==")) == 16
    brokers = ",".join(f"{name}:9092" for name in members("kafka"))
    assert all(
        one["environment"]["MINUTEBOOK_CLUSTER__KAFKA_BOOTSTRAP"] == brokers for one in roles().values()
    )


# --- the roles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", roles())
def test_a_role_runs_as_nobody_over_nothing_it_may_write(name: str) -> None:
    role = roles()[name]
    assert role["user"] == "10001:10001"
    assert role["read_only"] is True
    assert role["cap_drop"] == ["ALL"]
    assert role["security_opt"] == ["no-new-privileges:true"]
    assert role["stop_grace_period"] == "35s"
    assert "volumes" not in role


def test_nodes_have_names_of_their_own_and_owners_are_found() -> None:
    names = [one["environment"]["MINUTEBOOK_CLUSTER__NODE"] for one in roles().values()]
    assert len(set(names)) == len(names)
    for one in roles().values():
        rows = [NodeShards(**row) for row in json.loads(one["environment"]["MINUTEBOOK_CLUSTER__OWNERS"])]
        assert [row.node for row in rows] == members("owner")
        assert all(row.address == f"{row.node}:7443" for row in rows)
        ownership_of(rows, Settings().shards)  # Every shard has one of them.


def test_no_secret_stands_in_the_file() -> None:
    for one in roles().values():
        assert one["environment"]["MINUTEBOOK_CLUSTER__SECRET"].startswith("${MINUTEBOOK_CLUSTER__SECRET:?")


# --- the image -------------------------------------------------------------------------------------


def test_the_image_is_slim_pinned_and_runs_as_nobody() -> None:
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    assert all(re.match(r"python:3\.13\.\d+-slim-\w+( AS build)?$", base) for base in bases)
    last_stage = list(instructions())
    last_stage = last_stage[max(index for index, (word, _) in enumerate(last_stage) if word == "FROM") :]
    words = dict(last_stage)
    assert words["USER"] == "10001:10001"
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert {"HEALTHCHECK", "VOLUME", "ENTRYPOINT"} <= set(words)


def test_the_image_installs_only_what_is_locked() -> None:
    runs = " && ".join(rest for word, rest in instructions() if word == "RUN")
    installs = re.findall(r"pip (?:install|wheel) [^&]*", runs)
    assert installs
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)


def test_the_image_holds_all_our_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = set(project["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}
    assert packages <= copied
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    assert all(f"!{package}" in allowed for package in packages)


def test_the_image_s_locks_are_parts_of_the_lock() -> None:
    pins = re.compile(r"^[a-z0-9-]+(?:\[[^]]*\])?==\S+", re.MULTILINE)
    whole = set(pins.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    part = set(pins.findall((DOCKER / "requirements.lock").read_text(encoding="utf-8")))
    assert part <= whole
    assert set(pins.findall((DOCKER / "build.lock").read_text(encoding="utf-8"))) <= whole
    asked = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    names = {re.split(r"[^a-z0-9-]", one)[0] for one in asked}
    assert names <= {re.split(r"[=\[]", pin)[0] for pin in part}
