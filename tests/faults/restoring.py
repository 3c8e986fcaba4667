"""MongoDB is put back to an older backup: nobody may keep anything of the branch that is lost with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from client.rest import RestClient
from tests.faults.member import PASSWORD
from tests.faults.stage import Stage
from tests.faults.waiting import NotReachedError

BRANCH_ACKS = 100
COMMAND_S_MAX = 60.0
MESSAGES_LOOKED_AT = 50
FIRST_ROLES = ("projector",)
"""Started first after a restore: the others read views, and only a projector makes them anew."""


async def restore_older(stage: Stage) -> float:
    """Back up MongoDB's files, write on, put the files back, give the log its new id, start everything."""
    load = stage.load
    await _sound(stage)
    saved = stage.mongo.folder.with_name("backup")
    await _with_everything_stopped(stage, lambda: _copy(stage.mongo.folder, saved))
    await stage.roles.start(together=True)
    await load.connected()
    load.go()
    await load.more(BRANCH_ACKS)
    await _sound(stage)
    branch = {name: len(events) for name, events in stage.checker.book.events.items()}
    await _with_everything_stopped(stage, lambda: _copy(saved, stage.mongo.folder))
    at = asyncio.get_running_loop().time()
    await renew(stage)
    for node, roles in stage.roles.nodes.items():
        if set(roles) & set(FIRST_ROLES):
            await stage.roles[node].start()
    # Before anybody can read or write: from here on, every acknowledgement and every event is of the restored log.
    await stage.look_again()
    restored = {name: len(events) for name, events in stage.checker.book.events.items()}
    if not any(restored.get(name, 0) < head for name, head in branch.items()):
        raise NotReachedError("the backup is not older than what came after it")
    await stage.roles.start(together=True)
    load.go()
    await load.more(BRANCH_ACKS)
    await _sound(stage)
    await _compare_pages(stage)
    load.go()
    return at


async def _sound(stage: Stage) -> None:
    """Everything is acknowledged and read, and nothing is wrong."""
    await stage.load.settle()
    verdict = await stage.check()
    if not verdict.good:
        raise NotReachedError("; ".join(verdict.findings))


async def _with_everything_stopped(stage: Stage, work: Callable[[], None]) -> None:
    await stage.roles.kill()
    await asyncio.to_thread(stage.mongo.stop)
    await asyncio.to_thread(work)
    await asyncio.to_thread(stage.mongo.start)


def _copy(source: Path, target: Path) -> None:
    """The data of every node; what stood there is thrown away."""
    for node in sorted(source.glob("[0-9]")):
        shutil.rmtree(target / node.name / "data", ignore_errors=True)
        shutil.copytree(node / "data", target / node.name / "data")


async def renew(stage: Stage) -> None:
    """`minutebook restore --in-place`, as an operator does it."""
    command = str(Path(sys.executable).with_name("minutebook"))
    process = await asyncio.create_subprocess_exec(
        *(command, "restore", "--in-place", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **stage.roles.environment},
    )
    async with asyncio.timeout(COMMAND_S_MAX):
        said, _ = await process.communicate()
    if process.returncode != 0:
        raise NotReachedError(f"restore --in-place: {said.decode()[-500:]}")


async def _compare_pages(stage: Stage) -> None:
    """What REST answers is what the log holds: no cache shows the lost branch."""
    events = stage.checker.book.events
    for url in stage.gateways:
        async with RestClient(url) as rest:
            for member in stage.load.members[:2]:
                token = (await rest.log_in(member.user_id, PASSWORD, "looking")).access_token
                own = rest.as_user(token)
                for name in member.reader.have:
                    page = await own.messages(name, limit=MESSAGES_LOOKED_AT)
                    for row in page.data:
                        if row.client_msg_id != events[name][row.seq - 1]:
                            raise NotReachedError(f"{url} shows {row.client_msg_id} as {name} {row.seq}")
