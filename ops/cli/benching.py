"""`minutebook bench`: the measurements in `bench/`."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failing import UNAVAILABLE, WRONG_USE, CommandError
from ops.cli.options import Json
from ops.cli.output import emit, table


def bench_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the measurements.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Run every measurement, one after the other.")] = False,
    json: Json = False,
) -> None:
    """Run a measurement; each prints its figure beside a reference from the same run.

    \b
    minutebook bench --list
    minutebook bench --all
    minutebook bench direct_messages
    minutebook bench rebuild -- --events 100000

    What follows `--` goes to the measurement.
    """
    known = measurements()
    if all_ and name is None and not list_:
        _run_all(tuple(known))
        return
    if list_ or name is None:
        rows = [(found, _summary(path)) for found, path in known.items()]
        if json:
            for found, summary in rows:
                emit({"name": found, "summary": summary})
        else:
            table(("name", "measures"), rows)
        return
    if name not in known:
        raise CommandError(f"there is no measurement {name!r}; there are {', '.join(known)}", WRONG_USE)
    raise typer.Exit(_run(name, context.args))


def _run(name: str, arguments: Sequence[str] = ()) -> int:
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - one of our own modules


def _run_all(names: Sequence[str]) -> None:
    """Each in a process of its own; a failed one does not stop the others, but the command ends with its code."""
    machine = f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}"
    typer.echo(
        f"{machine}; {platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    )
    failed = 0
    for number, name in enumerate(names, 1):
        typer.echo(f"\n[{number}/{len(names)}] {name}")
        failed = _run(name) or failed
    if failed:
        raise typer.Exit(failed)


def measurements() -> dict[str, Path]:
    """The modules of `bench/` that can be run, by name."""
    spec = importlib.util.find_spec("bench")
    if spec is None or not spec.submodule_search_locations:
        raise CommandError("the measurements are not installed", UNAVAILABLE)
    folder = Path(next(iter(spec.submodule_search_locations)))
    # The processes that measurements start beside themselves take no options.
    runnable = (path for path in sorted(folder.glob("*.py")) if "ArgumentParser(" in path.read_text("utf-8"))
    return {path.stem: path for path in runnable}


def _summary(path: Path) -> str:
    """The first paragraph of its docstring."""
    import ast

    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.split("\n\n", 1)[0].replace("\n", " ")
