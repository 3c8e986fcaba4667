"""Servers whose disk is full, fails or is read-only: writes are refused, reads go on, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from client.rest import RestClient
from tests.e2e.disk import small_disk
from tests.e2e.process import ServerProcess
from tests.integration.house import Frame, Line, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "a quiet afternoon"
RECOVER_S = 20.0


class Visitor:
    """Ann, with a socket and plain HTTP, writing to herself."""

    def __init__(self, server: ServerProcess, http: httpx.AsyncClient, line: Line, conversation: str) -> None:
        self.server = server
        self.http = http
        self.line = line
        self.conversation = conversation

    async def send(self, client_msg_id: str, length: int = 2_000) -> Frame:
        """The answer to a send over the socket."""
        return await self.line.ask(
            "send",
            conversation_id=self.conversation,
            client_msg_id=client_msg_id,
            content=content(f"{client_msg_id} {'x' * length}"),
        )

    async def post(self, client_msg_id: str, length: int = 10) -> httpx.Response:
        """The answer to a send over REST."""
        path = f"/v1/conversations/{self.conversation}/messages"
        return await self.http.post(
            path, json={"client_msg_id": client_msg_id, "content": content("y" * length)}
        )

    async def register(self, user_id: str) -> httpx.Response:
        """The answer to a registration."""
        return await self.http.post("/v1/users", json={"user_id": user_id, "password": PASSWORD})

    async def seqs(self) -> list[int]:
        """Of the newest messages."""
        answer = await self.http.get(f"/v1/conversations/{self.conversation}/messages?limit=200")
        assert answer.status_code == 200, answer.text
        return [row["seq"] for row in answer.json()["data"]]

    async def not_ready(self) -> Mapping[str, str]:
        """What `/readyz` names; empty: ready."""
        answer = await self.http.get("/readyz")
        assert answer.status_code in (200, 503)
        return {error["field"]: error["message"] for error in answer.json().get("errors", ())}

    async def until_ready(self, *, ready: bool = True) -> None:
        """Ask until it is (not) ready."""
        async with asyncio.timeout(RECOVER_S):
            while (await self.not_ready() == {}) is not ready:
                await self.alive()

    async def alive(self) -> None:
        """The process answers."""
        assert (await self.http.get("/livez")).status_code == 200

    async def refused(self) -> None:
        """Everything that writes is `unavailable`, with a hint when to come again.

        A last small write may fit where a larger one did not: registrations are tried until they are refused.
        """
        problem = (await self.send("refused", length=10_000))["problem"]
        assert (problem["code"], problem["status"]) == ("unavailable", 503)
        assert problem["retry_after_ms"] > 0
        numbers = itertools.count()
        while (answer := await self.register(f"small{next(numbers)}")).status_code == 201:
            pass
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        answer = await self.post("refused too", length=10_000)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


@contextlib.asynccontextmanager
async def visitor(server: ServerProcess, *, register: bool) -> AsyncIterator[Visitor]:
    """Ann of this server, logged in."""
    async with RestClient(server.url) as rest, httpx.AsyncClient(base_url=server.url) as http:
        if register:
            await rest.create_user("ann", PASSWORD)
        token = (await rest.log_in("ann", PASSWORD, "d1")).access_token
        conversation = await rest.as_user(token).open_direct("ann")
        http.headers["authorization"] = f"Bearer {token}"
        line = Line(None)
        await line.connect(server.socket_url)
        line.say("hello", token=token)
        await line.next("welcome")
        try:
            yield Visitor(server, http, line, str(conversation))
        finally:
            line.close()


@contextlib.asynccontextmanager
async def running(data: Path, prefix: Sequence[str] = (), **environment: str) -> AsyncIterator[ServerProcess]:
    """A server process that does not outlive the test."""
    server = ServerProcess(data, prefix=prefix, environment={"MINUTEBOOK_DRAIN_S": "0.2", **environment})
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def said(server: ServerProcess, *words: str) -> bool:
    """Whether one line of the server's log has all these words."""
    return any(all(word in line for word in words) for line in server.log.splitlines())


async def fill_up(ann: Visitor, acks: list[Frame]) -> None:
    """Send until it is refused: files that are there may have room in them. `acks` grows by what was acknowledged."""
    async with asyncio.timeout(RECOVER_S):
        while (answer := await ann.send(f"m{len(acks)}"))["op"] == "ack":
            acks.append(answer)


async def all_there_once(ann: Visitor, acks: Sequence[Frame]) -> None:
    """Every acknowledged message is there once, its key answers as before, and new ones follow."""
    assert await ann.seqs() == [ack["seq"] for ack in acks]
    for number, ack in enumerate(acks):
        again = await ann.send(f"m{number}")
        assert again == {**ack, "ref": again["ref"], "replayed": True}
    assert (await ann.send("after"))["seq"] == acks[-1]["seq"] + 1


async def test_a_full_disk_refuses_writes_and_recovers_by_itself(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "data") as disk:
        await disk.mount("views")
        async with running(disk.folder, disk.prefix) as server, visitor(server, register=True) as ann:
            acks = [await ann.send(f"m{number}") for number in range(20)]
            assert await ann.not_ready() == {}
            await disk.fill()
            await fill_up(ann, acks)
            await ann.refused()
            assert await ann.not_ready() == {"log": "the event log refuses writes"}
            await ann.alive()
            assert await ann.seqs() == [ack["seq"] for ack in acks]
            assert said(server, "the event log refuses writes", "SQLITE_FULL", "make room on its disk")

            await disk.empty()
            await ann.until_ready()
            assert said(server, "the event log takes writes again")
            assert (await ann.register("bob")).status_code == 201
            await all_there_once(ann, acks)
            assert await server.stop() == 0
            assert "Traceback" not in server.log


async def test_a_server_that_dies_on_a_full_disk_has_lost_nothing(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "data") as disk, running(disk.folder, disk.prefix) as server:
        async with visitor(server, register=True) as ann:
            acks = [await ann.send(f"m{number}") for number in range(5)]
            await disk.fill()
            await fill_up(ann, acks)
            await server.kill()
        assert await start_refused(server) == 3
        assert "full" in server.log.splitlines()[-1]
        await disk.empty()
        await server.start()
        async with visitor(server, register=False) as ann:
            await all_there_once(ann, acks)
            await disk.fill()
            await fill_up(ann, acks[:])
        assert await server.stop() == 0
        assert await start_refused(server) == 3
        assert "Traceback" not in server.log
        await disk.empty()
        await server.start()
        async with visitor(server, register=False) as ann:
            assert (await ann.seqs())[: len(acks)] == [ack["seq"] for ack in acks]


async def start_refused(server: ServerProcess) -> int:
    """The exit code of a start that fails."""
    with pytest.raises(AssertionError, match="did not start"):
        await server.start()
    return await server.wait()


async def test_full_views_delay_readers_but_no_acknowledgement(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "data") as disk:
        await disk.mount("views")
        async with running(disk.folder, disk.prefix) as server, visitor(server, register=True) as ann:
            acks: list[Frame] = []
            await disk.fill("views")
            async with asyncio.timeout(RECOVER_S):
                while await ann.not_ready() == {}:
                    acks += [await ann.send(f"m{len(acks) + number}") for number in range(10)]
            assert await ann.not_ready() == {"views": "the read models cannot be written"}
            await ann.alive()
            acks += [await ann.send(f"m{len(acks) + number}") for number in range(10)]
            assert {ack["op"] for ack in acks} == {"ack"}
            await ann.line.until(lambda: ann.line.seqs(ann.conversation)[-1:] == [acks[-1]["seq"]])
            behind = await ann.http.get(f"/v1/conversations/{ann.conversation}/messages")
            assert (behind.status_code, behind.json()["code"]) == (503, "unavailable")
            assert said(server, "views cannot follow", "full", "make room on their disk")
            assert "Traceback" not in server.log

            await disk.empty("views")
            await ann.until_ready()
            assert (await ann.seqs())[-200:] == [ack["seq"] for ack in acks][-200:]
            assert said(server, "views follow again")
            assert await server.stop() == 0


async def test_a_disk_that_fails_leaves_outcomes_open_and_settles_them(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "data", MINUTEBOOK_NODE__DEADLINE_S="0.3") as server,
        visitor(server, register=True) as ann,
    ):
        acks = [await ann.send(f"m{number}") for number in range(3)]
        assert await ann.seqs() == [ack["seq"] for ack in acks]
        # From here on the kernel takes no byte of it behind the present end of the WAL.
        end = (tmp_path / "data" / "log.db-wal").stat().st_size
        limits = resource.prlimit(server.process_id, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, (end, limits[1]))
        answer = await ann.send("m3")
        assert answer["problem"]["code"] == "outcome_unknown"
        assert (await ann.post("m4")).json()["code"] == "outcome_unknown"
        assert (await ann.not_ready())["log"] == "the event log refuses writes"
        await ann.alive()
        assert said(server, "the event log refuses writes", "SQLITE_IOERR_WRITE")

        resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, limits)
        await ann.until_ready()
        acks.append(await ann.send("m3"))
        assert acks[-1]["replayed"] is True
        seqs = await ann.seqs()
        assert seqs == list(range(acks[0]["seq"], acks[0]["seq"] + len(seqs)))
        assert seqs.count(acks[-1]["seq"]) == 1
        assert await server.stop() == 0
        assert "Traceback" not in server.log


async def test_a_read_only_log_or_folder_is_named_at_the_start(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "data") as disk, running(disk.folder, disk.prefix) as server:
        async with visitor(server, register=True) as ann:
            acks = [await ann.send(f"m{number}") for number in range(3)]
        assert await server.stop() == 0
        log = disk.folder / "log.db"
        await disk.run(f"mount --bind {log} {log} && mount -o remount,bind,ro {log}")
        assert await start_refused(server) == 3
        assert "log.db cannot be written: SQLITE_READONLY" in server.log.splitlines()[-1]
        await disk.run(f"umount {log}")
        await disk.remount("ro")
        assert await start_refused(server) == 3
        assert "read-only" in server.log.splitlines()[-1]
        await disk.run(
            f"{sys.executable} -m ops.cli audit verify --data {disk.folder} >{tmp_path}/verdict 2>&1"
        )
        verdict = (tmp_path / "verdict").read_text()
        assert "nothing is wrong" in verdict
        assert "cannot be read" not in verdict
        assert "Traceback" not in server.log
        await disk.remount("rw")
        await server.start()
        async with visitor(server, register=False) as ann:
            assert await ann.seqs() == [ack["seq"] for ack in acks]
