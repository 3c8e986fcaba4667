"""`python3 -m docker.local up|down|status|hold|provision`: real servers on a machine without Docker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from docker.local.failures import ServicesError
from docker.local.folders import run_folder
from docker.local.kafka import provide
from docker.local.provision import mongodb_programs, redis_server
from docker.local.services import KINDS
from docker.local.supervisor import description, detach, down, hold, up

_PROVISION: dict[str, Callable[[], object]] = {
    "mongodb": mongodb_programs,
    "kafka": provide,
    "redis": redis_server,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 with a sentence on stderr."""
    words = _parser().parse_args(arguments)
    try:
        return _obey(words)
    except ServicesError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m docker.local", description=__doc__)
    parser.add_argument(
        "word",
        choices=("up", "down", "status", "hold", "provision"),
        help="up: start in the background; hold: start and stay until Ctrl-C; provision: only fetch the programs",
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="processes of each server")
    parser.add_argument("--only", type=_kinds, default=list(KINDS), help="some of " + ",".join(KINDS))
    parser.add_argument("--folder", type=Path, help="where data lie (default: in the user's cache)")
    parser.add_argument("--owner", type=int, help="a process id: the servers end with that process")
    parser.add_argument("--detach", action="store_true", help="with hold: go on in the background")
    parser.add_argument("--wipe", action="store_true", help="with down: remove the data too")
    parser.add_argument("--json", action="store_true", help="print what runs as JSON")
    return parser


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if strange := sorted(set(kinds) - set(KINDS)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(strange)}; known: {', '.join(KINDS)}")
    return kinds


def _obey(words: argparse.Namespace) -> int:
    folder = (words.folder or run_folder()).resolve()
    match words.word:
        case "provision":
            for kind in words.only:
                _PROVISION[kind]()
        case "up":
            for kind in words.only:
                _PROVISION[kind]()
            _print(up(folder, words.nodes, words.only, words.owner), as_json=words.json)
        case "hold":
            if words.detach:
                detach(folder / "supervisor.log")
            hold(folder, words.nodes, words.only, words.owner)
        case "down":
            print("stopped" if down(folder, wipe=words.wipe) else "nothing was running")
        case "status":
            found = description(folder)
            if found is None:
                print("nothing runs" if not words.json else "null")
                return 1
            _print(found, as_json=words.json)
    return 0


def _print(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for kind in KINDS:
        if kind in found:
            print(f"{kind:8} {found[kind]}")


if __name__ == "__main__":
    raise SystemExit(main())
