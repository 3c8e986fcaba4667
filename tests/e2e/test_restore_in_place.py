"""A database that was put back to an older backup: one command makes another log of it, and refuses while somebody serves it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from subprocess import run

import pytest

from eventlog.mongo import MongoLog
from eventlog.mongo_moving import serving_as
from eventlog.mongo_server import connected

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services]


def restore_in_place(uri: str, database: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    values = {"MONGODB_URI": uri, "MONGODB_DATABASE": database, "CLUSTER_ID": database}
    told = {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in values.items()}
    command = [str(Path(sys.executable).with_name("minutebook")), "restore", "--in-place", "--json"]
    done = run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


async def test_a_log_that_was_put_back_gets_a_new_id(mongodb_uri: str, mongodb_database: str) -> None:
    log = await MongoLog.open(mongodb_uri, mongodb_database, 4, cluster_id=mongodb_database)
    former = log.log_id
    await log.close()

    code, said, _ = restore_in_place(mongodb_uri, mongodb_database)

    assert code == 0
    told = json.loads(said)
    log = await MongoLog.open_read_only(mongodb_uri, mongodb_database)
    try:
        assert told["former_log_id"] == former != log.log_id == told["log_id"]
        assert list(log.former_log_ids) == [former]
    finally:
        await log.close()


async def test_a_log_that_is_served_keeps_its_id(mongodb_uri: str, mongodb_database: str) -> None:
    options = {"application": serving_as(mongodb_database)}
    driver = await connected(mongodb_uri, mongodb_database, None, options)
    try:
        log = await MongoLog.open(driver, mongodb_database, 4, cluster_id=mongodb_database)
        code, _, said = restore_in_place(mongodb_uri, mongodb_database)
        assert code == 2
        assert "stop all of its roles" in said
        again = await MongoLog.open_read_only(mongodb_uri, mongodb_database)
        assert again.log_id == log.log_id
        await again.close()
        await log.close()
    finally:
        await driver.close()
