"""What `make run-cluster` tells the roles."""

from __future__ import annotations

import json
from pathlib import Path

from commands.ownership import NodeShards, ownership_of
from docker.local.roles import SHARDS, environment_of, processes
from ops.roles.role import Role
from ops.settings import ClusterModel, Settings

ADDRESSES = {
    "mongodb": "mongodb://127.0.0.1:1/?replicaSet=rs0",
    "kafka": "127.0.0.1:2",
    "redis": "redis://127.0.0.1:3",
}
OWNERS = {"owner-1": 7_001, "owner-2": 7_002}


def test_roles_are_told_settings_that_there_are_and_every_shard_has_an_owner() -> None:
    environment = environment_of(ADDRESSES, OWNERS, "0" * 64)
    names = {name.removeprefix("MINUTEBOOK_CLUSTER__").lower() for name in environment}
    assert names <= set(ClusterModel.model_fields)
    assert Settings().shards == SHARDS
    rows = [NodeShards(**row) for row in json.loads(environment["MINUTEBOOK_CLUSTER__OWNERS"])]
    found = ownership_of(rows, SHARDS)
    assert {len(found.shards_of(node)) for node in OWNERS} == {SHARDS // 2}


def test_every_role_is_there_and_every_node_has_a_name_of_its_own(tmp_path: Path) -> None:
    made = list(processes(tmp_path, {}, 8_080))
    assert len({process.name for process in made}) == len(made)
    assert {role for process in made for role in process.command()[3].split(",")} == set(Role)
    assert [process.port for process in made if process.port] == [8_080, 8_081]
    assert set(OWNERS) <= {process.name for process in made}
