"""A whole cluster on this machine: `python3 -m docker.local.roles` starts the servers and every role, and says where to click."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT, SIGTERM, signal

from docker.local.failures import ServicesError
from docker.local.folders import ROOT, run_folder
from docker.local.ports import free_port
from docker.local.processes import Server
from docker.local.services import Services

SHARDS = 64
FIRST_PORT = 8080
_SECRET_BYTES = 32


class RoleProcess(Server):
    """A process of `minutebook serve` with some roles."""

    stop_s_max = 35.0
    program: Sequence[str] = (str(ROOT / ".venv" / "bin" / "minutebook"),)

    def __init__(
        self, node: str, roles: str, port: int, folder: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(node, port, folder / node)
        self.roles = roles
        self._environment = {**environment, "MINUTEBOOK_CLUSTER__NODE": node}

    def command(self) -> Sequence[str]:
        serve = (*self.program, "serve", "--roles", self.roles)
        return (*serve, "--port", str(self.port), "--data", str(self.folder / "data"))

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def prepare(self) -> None:
        super().prepare()
        self.log.unlink(missing_ok=True)  # What an earlier life said is no sign of this one.

    def answers(self) -> bool:
        return self.log.exists() and "Minutebook " in self.log.read_text(errors="replace")


def environment_of(
    addresses: Mapping[str, str],
    owners: Mapping[str, int],
    secret: str,
    pushers: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """What every role is told: the servers, the owners, which share the shards evenly, and the pushers; ports by node."""
    share = SHARDS // len(owners)
    rows = [
        {
            "node": node,
            "address": f"127.0.0.1:{port}",
            "shards": f"{number * share}-{(number + 1) * share - 1}",
        }
        for number, (node, port) in enumerate(owners.items())
    ]
    values = {
        "MONGODB_URI": addresses["mongodb"],
        "KAFKA_BOOTSTRAP": addresses["kafka"],
        "REDIS_URL": addresses["redis"],
        "OWNERS": json.dumps(rows),
        "PUSHERS": json.dumps(
            [{"node": node, "address": f"127.0.0.1:{port}"} for node, port in (pushers or {}).items()]
        ),
        "SECRET": secret,
    }
    return {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in values.items()}


def processes(folder: Path, environment: Mapping[str, str], first_port: int) -> Iterator[RoleProcess]:
    """Every role, in the order in which they start."""
    for node, roles, port in (
        ("owner-1", "owner,relay", 0),
        ("owner-2", "owner,relay", 0),
        ("projector-1", "projector", 0),
        ("pusher-1", "pusher,jobs", 0),  # Both follow the whole record: once is enough.
        ("gateway-1", "gateway", first_port),
        ("gateway-2", "gateway", first_port + 1),
    ):
        yield RoleProcess(node, roles, port, folder, environment)


def run(folder: Path, nodes: int, first_port: int, stop: threading.Event) -> None:
    """Start everything, say where to click, and stop it all once `stop` is set."""
    with ExitStack() as stack:
        services = stack.enter_context(Services(folder, nodes))
        owners = {"owner-1": free_port(), "owner-2": free_port()}
        pushers = {"pusher-1": free_port()}
        secret = secrets.token_hex(_SECRET_BYTES)
        environment = environment_of(services.describe(), owners, secret, pushers)
        for process in processes(folder / "roles", environment, first_port):
            stack.callback(process.stop)
            process.start()
            print(f"{process.name} runs; it writes to {process.log}", flush=True)
        print(
            f"Open http://127.0.0.1:{first_port} and http://127.0.0.1:{first_port + 1} (Ctrl-C stops all).",
            flush=True,
        )
        stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python3 -m docker.local.roles", description=__doc__)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="processes of each server")
    parser.add_argument(
        "--port", type=int, default=FIRST_PORT, help="of the first gateway; the second has the next"
    )
    parser.add_argument("--folder", type=Path, help="where data lie (default: in the user's cache)")
    words = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (SIGINT, SIGTERM):
        signal(number, lambda *_: stop.set())
    try:
        run((words.folder or run_folder()).resolve(), words.nodes, words.port, stop)
    except ServicesError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
