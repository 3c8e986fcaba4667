"""The command line: `minutebook`. Data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from eventlog.port import LogUnavailableError
from eventlog.sqlite import LogMismatchError
from ops.folder import FolderInUseError, FolderUnusableError
from ops.serving import AddressInUseError, serve
from ops.settings import SettingsError, load_settings, unknown_variables

WRONG_USE = 2
UNAVAILABLE = 3

app = typer.Typer(no_args_is_help=True, help="An instant-messaging server whose only truth is its event log.")


def main() -> None:
    """The entry point."""
    app()


def _fail(text: str, code: int) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(code)


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one and prints it.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder, made if absent.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; absent: closed.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """Run the embedded server until Ctrl-C. Example: minutebook serve --port 0 --data ./data"""
    flags = {"host": host, "port": port, "data": data, "metrics_port": metrics_port}
    for name in unknown_variables():
        typer.echo(f"warning: {name} names no setting", err=True)
    try:
        settings = load_settings(config, flags)
        uvloop.run(serve(settings, lambda url, _: typer.echo(f"Minutebook listens on {url}")))
    except SettingsError as error:
        raise _fail(str(error), WRONG_USE) from None
    except (AddressInUseError, FolderInUseError, FolderUnusableError, LogMismatchError) as error:
        raise _fail(str(error), UNAVAILABLE) from None
    except LogUnavailableError as error:
        raise _fail(f"the event log cannot be used: {error}", UNAVAILABLE) from None


@app.command("config")
def config_command(
    print_: Annotated[bool, typer.Option("--print", help="Print all settings, secrets masked.")] = True,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """Show the settings in force. Example: minutebook config --print"""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        raise _fail(str(error), WRONG_USE) from None
    if print_:
        json.dump(settings.shown(), sys.stdout, indent=2)
        sys.stdout.write("\n")


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(installed_version("minutebook"))
