"""`minutebook config` and `minutebook version`."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer

from ops.cli.options import Config, Json, settings_of
from ops.cli.output import emit, emit_indented, facts, say


def version() -> None:
    """Print the version alone."""
    say(installed_version("minutebook"))


def version_command(json: Json = False) -> None:
    """Print the version, and those of what it stands on.

    \b
    minutebook version
    minutebook version --json
    """
    versions = {
        "minutebook": installed_version("minutebook"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    if json:
        emit(versions)
    else:
        say(" ".join(f"{name} {number}" for name, number in versions.items()))


def config_command(
    print_: Annotated[
        bool, typer.Option("--print", help="Print all settings in force (the default).")
    ] = True,
    json: Json = False,
    config: Config = None,
) -> None:
    """Show the settings in force, secrets masked.

    \b
    minutebook config --print
    minutebook config --print --config minutebook.toml --json

    Defaults, then the file, then the environment, then flags: each wins over the ones before it.
    """
    settings = settings_of(config)
    if json:
        emit_indented(settings.shown())
    elif print_:
        facts(_flat(settings.shown()))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
