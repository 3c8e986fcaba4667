"""Options that several commands have, and what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ops.cli.failing import WRONG_USE, CommandError, tell
from ops.folder import DataFolder
from ops.times import parse_time

if TYPE_CHECKING:
    from ops.settings import Settings

T = TypeVar("T")

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder of the embedded server.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; lists as JSON Lines.")]
Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose keys.")]


def settings_of(config: Path | None, **flags: Any) -> Settings:
    """The settings in force; says what in the environment is none. Raises SettingsError."""
    from ops.settings import load_settings, unknown_variables

    for name in unknown_variables():
        tell(f"warning: {name} names no setting")
    return load_settings(config, flags)


def folder_of(data: Path | None, config: Path | None = None) -> DataFolder:
    """The data folder that is meant; it must hold a log, or be that of a running server of a cluster. Without `--data` the settings' one."""
    folder = DataFolder(data if data is not None else settings_of(config).data)
    if not folder.log.exists() and not folder.control.exists():
        raise CommandError(f"there is no event log in {folder.root}; name its folder with --data", WRONG_USE)
    return folder


def time_option(name: str, text: str | None) -> int | None:
    """A time given by an option, in milliseconds."""
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}", WRONG_USE) from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on a loop of its own."""
    return asyncio.run(work)
