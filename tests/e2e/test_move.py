"""A server that moves from a folder into a cluster and back, between two messages of a conversation."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from client.rest import RestClient
from eventlog.mongo_driver import MongoDriver
from tests.e2e.process import ServerProcess
from tests.integration.house import Line, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(240)]

PASSWORD = "a quiet afternoon"


class Wanderer:
    """Somebody who logged in once, and keeps the session, and what came, wherever the server is."""

    def __init__(self) -> None:
        self.refresh_token = ""
        self.room = ""
        self.seen: list[int] = []

    async def begin(self, url: str) -> None:
        """Register, log in, and open a room."""
        async with RestClient(url) as rest:
            for user_id in ("ann", "bob"):
                await rest.create_user(user_id, PASSWORD)
            tokens = await rest.log_in("ann", PASSWORD, "d1")
            self.refresh_token = tokens.refresh_token
            self.room = str(
                (await rest.as_user(tokens.access_token).create_group("room", ["bob"])).conversation_id
            )

    async def talk(self, server: ServerProcess, text: str) -> None:
        """Go on with the session, be told what was missed, and say something."""
        async with RestClient(server.url) as rest:
            tokens = await rest.refresh(self.refresh_token)
            self.refresh_token = tokens.refresh_token
            await rest.log_in("bob", PASSWORD, "d1")
        head = self.seen[-1] if self.seen else 0
        line = await welcome(server, token=tokens.access_token, have={self.room: head} if head else {})
        pages = await line.next("events", complete=True)
        if head:
            # It knows the cursor of the place before, and has nothing to add.
            assert not pages["conversations"].get(self.room, {}).get("events")
        answer = await line.ask("send", conversation_id=self.room, client_msg_id=text, content=content(text))
        assert answer["op"] == "ack", answer
        await line.until(lambda: line.newest.get(self.room, 0) >= answer["seq"])
        self.seen += line.seqs(self.room)
        line.close()


async def welcome(server: ServerProcess, **hello: Any) -> Line:
    """A socket that was told everything; it comes again as long as the views are being made anew."""
    while True:
        line = Line(None)
        await line.connect(server.socket_url)
        line.say("hello", **hello)
        await line.until(lambda line=line: line.close_code or line.of("events", complete=True))  # type: ignore[misc]
        if line.close_code is None:
            return line
        assert line.close_code == 1012, line.close_reason


def run(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A command by itself."""
    program = str(Path(sys.executable).with_name("minutebook"))
    return subprocess.run([program, *words], env={**environment}, capture_output=True, text=True, check=False)


def minutebook(environment: Mapping[str, str], *words: str) -> Any:
    """What a command prints as JSON."""
    done = run(environment, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@asynccontextmanager
async def running(data: Path, environment: Mapping[str, str]) -> AsyncIterator[ServerProcess]:
    """A server that is stopped in order."""
    server = ServerProcess(data, environment=environment)
    await server.start()
    try:
        yield server
        assert await server.stop() == 0, server.log
    finally:
        await server.kill()


async def test_a_conversation_goes_on_in_a_cluster_and_back(
    tmp_path: Path, mongodb_uri: str, mongodb_database: str, kafka_bootstrap: str, redis_url: str
) -> None:
    names = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": mongodb_database, "CLUSTER_ID": mongodb_database}
    names |= {"KAFKA_BOOTSTRAP": kafka_bootstrap, "REDIS_URL": redis_url}
    cluster = {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in names.items()}
    ann = Wanderer()
    async with running(tmp_path / "data", {}) as server:
        await ann.begin(server.url)
        await ann.talk(server, "in a folder")
    there = await asyncio.to_thread(
        minutebook, cluster, "move", "--from", str(tmp_path / "data"), "--to", "cluster"
    )
    async with running(tmp_path / "node", cluster) as server:
        await ann.talk(server, "in a cluster")
        early = await asyncio.to_thread(
            run, cluster, "move", "--from", "cluster", "--to", str(tmp_path / "back")
        )
        assert early.returncode == 2
        assert "stop all of its roles" in early.stderr
    compared = await asyncio.to_thread(minutebook, cluster, "audit", "compare")
    assert compared["same"]
    assert compared["positions"] > there["commits"]
    back = await asyncio.to_thread(
        minutebook, cluster, "move", "--from", "cluster", "--to", str(tmp_path / "back")
    )
    assert back["log_id"] == there["log_id"]
    assert back["commits"] == compared["positions"]
    async with running(tmp_path / "back", {}) as server:
        await ann.talk(server, "in a folder again")
    assert ann.seen == list(range(ann.seen[0], ann.seen[0] + 3))
    verified = await asyncio.to_thread(minutebook, {}, "audit", "verify", "--data", str(tmp_path / "back"))
    assert verified["ok"], verified
    for ending in ("_secrets", "_views"):
        driver = MongoDriver.connect(mongodb_uri, mongodb_database + ending)
        await driver.command({"dropDatabase": 1})
        await driver.close()
