"""An import over the real wire: all in its place, a second run adds nothing, a killed one is resumed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.caller import AppKey
from client.frames import PageEvent
from client.rest import RestClient
from ops.importer.plan import Plan, Post, Rename, owner_id
from ops.importer.run import ImportOptions, ImportSummary, import_irc, load_plan

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CARRIED = Path(__file__).parent.parent / "data" / "irc"
ROOT = Path(__file__).parents[2]
NAMES = ("2004-11-15_03", "2005-06-06.train-c", "2013-10-04.train-a")
LINES_OF_A_FILE = 160
START_TIMEOUT_S = 30

SERVE = """
import json, logging, sys
from pathlib import Path
import structlog
import uvloop
from ops.serving import serve
from ops.settings import Settings
from ops.wiring import Server, open_server

# Standard output is a pipe that is read once: log lines would fill it and stop the server.
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)
settings = Settings(data=Path(sys.argv[1]), port=0, rate_limit="off", log_level="warning")

async def key() -> list[str]:
    async with open_server(settings) as server:
        return list(await server.faces.app_keys.create("default"))

made = uvloop.run(key())
uvloop.run(serve(settings, lambda url, _metrics: print(json.dumps([url, *made]), flush=True)))
"""
IMPORT = """
import asyncio, sys
from pathlib import Path
from client.caller import AppKey
from ops.importer.run import ImportOptions, Progress, import_irc

url, key, secret, *files = sys.argv[1:]
options = ImportOptions(url, [Path(file) for file in files], app_key=AppKey(key, secret))
asyncio.run(import_irc(options, lambda progress: print(progress.phase, progress.done, flush=True)))
"""


@dataclass(frozen=True)
class Served:
    """A running server and a tenant's key for it."""

    url: str
    app_key: AppKey


@asynccontextmanager
async def process(script: str, *arguments: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process in the project's folder, killed at the end if it still runs."""
    with log.open("ab") as errors:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, *arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGKILL)
        await running.wait()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    """A server in a process of its own."""
    log = folder / "server.log"
    async with process(SERVE, str(folder / "data"), log=log) as running:
        assert running.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await running.stdout.readline()
        if not line:
            pytest.fail(f"the server ended before it said where it is: {log.read_text()[-2000:]}")
        url, key, secret = json.loads(line)
        yield Served(url, AppKey(key, secret))


def beginnings(folder: Path) -> list[Path]:
    """The first lines of the carried files, with their annotations."""
    paths = []
    for name in NAMES:
        lines = (CARRIED / f"{name}.raw.txt").read_bytes().split(b"\n")[:LINES_OF_A_FILE]
        path = folder / f"{name}.raw.txt"
        path.write_bytes(b"\n".join(lines) + b"\n")
        # The annotated part is the file's end; links of our own, one to many and many to one, stand in for it.
        links = [f"{line - 3} {line} -\n{line - 1} {line} -\n" for line in range(10, LINES_OF_A_FILE, 4)]
        (folder / f"{name}.annotation.txt").write_text("".join(links))
        paths.append(path)
    return paths


async def bring(server: Served, paths: list[Path], **options: Any) -> ImportSummary:
    """One whole run."""
    return await import_irc(
        ImportOptions(server.url, paths, app_key=server.app_key, **options), lambda _: None
    )


async def history(server: Served, owner: str, conversation_id: str) -> list[PageEvent]:
    """All events of a group, as its owner sees them."""
    async with RestClient(server.url, app_key=server.app_key) as rest:
        rest.token = (await rest.create_token(owner, "reader", scope="import")).access_token
        events: list[PageEvent] = []
        head = (await rest.conversation(conversation_id))["head"]
        while len(events) < head:
            page = await rest.events(conversation_id, after=len(events), limit=200)
            assert page.data
            events += page.data
        assert [event.seq for event in events] == list(range(1, head + 1))
        return events


def check(plan: Plan, events: list[PageEvent]) -> None:
    """The group holds what the file says, in its order, once."""
    posts = [step for step in plan.steps if isinstance(step, Post)]
    posted = [event for event in events if event.type == "message_posted"]
    seqs = {event.data["client_msg_id"]: event.seq for event in posted}
    assert len(seqs) == len(posts) == len(posted)
    for step, event in zip(posts, posted, strict=True):
        original = f"{plan.name}:{step.line}"
        assert (event.actor, event.data["client_msg_id"]) == (step.user_id, original)
        assert event.data["content"] == {"kind": "action" if step.action else "text", "text": step.text}
        assert event.data["origin"] == {"at": f"{step.at:%Y-%m-%dT%H:%M:%S}.000Z", "id": original}
        answered = None if step.reply_line is None else seqs[f"{plan.name}:{step.reply_line}"]
        assert event.data.get("reply_to") == answered
    kinds = Counter(event.type for event in events)
    added = len(plan.initial) + plan.counts.get("joins", 0) + plan.counts.get("joins_untold", 0)
    assert kinds["member_added"] == added
    assert kinds["member_left"] == plan.counts.get("leaves", 0)
    assert bool(kinds["role_changed"]) is bool(plan.counts.get("modes", 0))
    assert "host.example" not in json.dumps([event.data for event in events])


async def test_import_run_again_and_read(tmp_path: Path) -> None:
    paths = beginnings(tmp_path)
    async with served(tmp_path) as server:
        summary = await bring(server, paths)
        assert summary.lines == LINES_OF_A_FILE * len(paths)
        told = sum(
            getattr(summary, kind) for kind in ("messages", "actions", "joins", "leaves", "renames", "modes")
        )
        assert summary.lines == told + sum(summary.skipped.values())
        assert not any(reason.startswith("refused") for reason in summary.skipped)
        before = {name: await history(server, owner_id(name), room) for name, room in summary.groups.items()}
        for path in paths:
            plan = load_plan(path)
            check(plan, before[plan.name])

        again = await bring(server, paths)
        assert again.groups == summary.groups
        assert (again.accounts_made, again.messages) == (0, summary.messages)
        for name, room in again.groups.items():
            assert await history(server, owner_id(name), room) == before[name]

        plans = [load_plan(path) for path in paths]
        renamed = {
            step.user_id: step.name for plan in plans for step in plan.steps if isinstance(step, Rename)
        }
        async with RestClient(server.url, app_key=server.app_key) as rest:
            rest.token = (await rest.create_token(owner_id(NAMES[0]), "reader")).access_token
            for user_id, name in list(renamed.items())[:20]:
                assert (await rest.user(user_id))["name"] == name


async def test_a_killed_import_is_resumed(tmp_path: Path) -> None:
    paths = beginnings(tmp_path)
    plans = [load_plan(path) for path in paths]
    async with served(tmp_path) as server:
        arguments = (server.url, *server.app_key, *map(str, paths))
        for phase in ("accounts", "lines"):  # once among the accounts, once among the lines
            async with process(IMPORT, *arguments, log=tmp_path / "import.log") as running:
                assert running.stdout is not None
                while line := await running.stdout.readline():
                    if line.split()[0] == phase.encode():
                        running.send_signal(signal.SIGKILL)
                        break
                else:
                    pytest.fail(f"it was over before: {(tmp_path / 'import.log').read_text()[-2000:]}")
        summary = await bring(server, paths)
        assert summary.replayed > 0
        for plan in plans:
            check(plan, await history(server, owner_id(plan.name), summary.groups[plan.name]))


async def test_one_group_for_all_without_an_app_key(tmp_path: Path) -> None:
    path = tmp_path / "2013-10-04.raw.txt"
    path.write_text(
        "[01:00] <ann> one\n[01:00] <[Bob]> two\n=== ann is now known as anna\n[01:01]  * anna waves\n"
    )
    async with served(tmp_path) as server:
        options = ImportOptions(server.url, [path], group="Help", secret_file=tmp_path / "secret")
        summary = await import_irc(options, lambda _: None)
        again = await import_irc(options, lambda _: None)
        assert summary.groups == again.groups
        assert (summary.accounts_made, again.accounts_made) == (3, 0)
        events = await history(server, owner_id("group Help"), summary.groups["Help"])
        texts = [event.data["content"]["text"] for event in events if event.type == "message_posted"]
        assert texts == ["one", "two", "waves"]
