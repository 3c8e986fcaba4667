"""Servers that outlive the command that started them: a process in the background holds them.

It ends them when it is told to, when the process that owns them ends, and (by the kernel) when it is killed itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from docker.local.failures import ServicesError
from docker.local.folders import ROOT
from docker.local.processes import wait_until
from docker.local.services import Services

# Fetching included.
UP_S_MAX = 1_200.0
DOWN_S_MAX = 60.0
_OWNER_POLL_MS = 500


def description(folder: Path) -> dict[str, Any] | None:
    """What runs over `folder`, if anything does: `Services.describe` and the supervisor's pid."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        found: dict[str, Any] = json.loads((folder / "services.json").read_text())
        if _started_at(int(found["supervisor"])) == found["supervisor_started_at"]:
            return found
    return None


def up(folder: Path, nodes: int, kinds: Sequence[str], owner: int | None = None) -> dict[str, Any]:
    """See that servers run over `folder`, and say which; they end with the process `owner`, or by `down`.

    Raises ServicesError when they do not start, or when other ones run there.
    """
    if (running := description(folder)) is not None:
        if running["shape"] != _shape(nodes, kinds):
            raise ServicesError(f"Other servers run over {folder} ({running['shape']}): `down` stops them.")
        return running
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "docker.local", "hold", "--folder", str(folder), "--nodes", str(nodes)),
        *("--detach", "--only", ",".join(kinds), *(("--owner", str(owner)) if owner is not None else ())),
    ]
    log = folder / "supervisor.log"
    detached = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if detached.returncode != 0:
        raise ServicesError(detached.stderr.decode())
    supervisor = int(detached.stdout)
    wait_until(
        lambda: description(folder) is not None or _started_at(supervisor) is None,
        timeout_s=UP_S_MAX,
        failure=lambda: f"The servers did not start; see {log}.",
    )
    found = description(folder)
    if found is None:
        raise ServicesError(log.read_text().strip())
    return found


def down(folder: Path, *, wipe: bool = False) -> bool:
    """Stop what runs over `folder` (whether anything did is the answer); `wipe` removes its data too."""
    running = description(folder)
    if running is not None:
        os.kill(running["supervisor"], signal.SIGTERM)
        wait_until(
            lambda: description(folder) is None,
            timeout_s=DOWN_S_MAX,
            failure=lambda: f"The servers did not stop; see {folder / 'supervisor.log'}.",
        )
    if wipe:
        shutil.rmtree(folder, ignore_errors=True)
    return running is not None


def detach(log: Path) -> None:
    """Go on in the background, in a session of one's own, with what is said going to `log`.

    The process that was started prints the pid of the one that goes on, and ends.
    """
    if (pid := os.fork()) != 0:
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os._exit(0)
    os.setsid()
    with log.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())


def hold(folder: Path, nodes: int, kinds: Sequence[str], owner: int | None = None) -> None:
    """Start the servers, write their description, and keep them until SIGTERM, SIGINT or the end of `owner`.

    Nobody wants the data of an owner's tests afterwards: its servers are killed and the folder is removed. The
    others stop in order.
    """
    with _termination() as asked_to_end, Services(folder, nodes, kinds) as services:
        record = {
            "shape": _shape(nodes, kinds),
            "supervisor": os.getpid(),
            "supervisor_started_at": _started_at(os.getpid()),
            **services.describe(),
        }
        target = folder / "services.json"
        unfinished = target.with_suffix(".part")
        unfinished.write_text(json.dumps(record, indent=2))
        unfinished.rename(target)
        _await_end(asked_to_end, owner)
        if owner is None:
            services.stop()
        target.unlink()
    if owner is not None:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _termination() -> Iterator[int]:
    """A file descriptor that becomes readable at SIGTERM or SIGINT, from here on."""
    readable, writable = os.pipe()

    def end(_number: int, _frame: FrameType | None) -> None:
        os.write(writable, b".")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield readable
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def _await_end(asked_to_end: int, owner: int | None) -> None:
    poll = select.poll()
    poll.register(asked_to_end, select.POLLIN)
    if owner is not None:
        try:
            poll.register(os.pidfd_open(owner), select.POLLIN)
        except ProcessLookupError:
            return
    while not poll.poll(_OWNER_POLL_MS):
        pass


def _shape(nodes: int, kinds: Sequence[str]) -> str:
    return f"{','.join(sorted(kinds))} with {nodes} node{'s' if nodes > 1 else ''} each"


def _started_at(pid: int) -> int | None:
    """When the process started, in ticks since boot: a pid alone may be another's by now."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
