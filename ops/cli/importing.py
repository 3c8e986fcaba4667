"""`minutebook import`: history from elsewhere, through the public interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import UNAVAILABLE, WRONG_USE, CommandError, tell
from ops.cli.options import Json
from ops.cli.output import emit, facts, progress, table

if TYPE_CHECKING:
    from ops.importer.run import ImportSummary
    from ops.importer.run import Progress as ImportProgress

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring history in from elsewhere.")
URL_DEFAULT = "http://127.0.0.1:8080"
FIND_SERVER_S = 2.0


@app.callback()
def importing() -> None:
    """Bring history in from elsewhere, through the public interface."""


@app.command("irc")
def irc_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    url: Annotated[str, typer.Option(metavar="URL", help="The server.")] = URL_DEFAULT,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="One room for all files; without it one room a file.")
    ] = None,
    secret_file: Annotated[
        Path, typer.Option(metavar="FILE", help="Holds what the passwords of imported people are made of.")
    ] = Path("minutebook-import.secret"),
    rooms: Annotated[int | None, typer.Option(min=1, max=1_000, help="Rooms at once.")] = None,
    json: Json = False,
) -> None:
    """Import IRC channel logs: people, rooms, and every line in order with its original time and replies.

    \b
    minutebook import irc 2004-12-25.raw.txt --url http://127.0.0.1:8080
    minutebook import irc logs/*.txt --group "#ubuntu" --json
    MINUTEBOOK_APP_KEY=ak_… MINUTEBOOK_APP_SECRET=… minutebook import irc logs/*.txt

    With an app key in the environment calls are signed, otherwise people register. Running it again, or after
    it was interrupted, adds only what is missing.
    """
    import uvloop

    from client.problem import ProblemError
    from ops.importer.run import ROOMS_AT_ONCE, ImportOptions, app_key_from_environment, import_irc

    app_key = app_key_from_environment()
    if app_key is None:
        _without_app_key()
    uvloop.run(_find_server(url))
    options = ImportOptions(
        url=url,
        files=files,
        group=group,
        app_key=app_key,
        secret_file=secret_file,
        rooms_at_once=rooms or ROOMS_AT_ONCE,
    )
    with progress("importing") as step:

        def report(line: ImportProgress) -> None:
            step(line.done, line.total)

        try:
            summary = uvloop.run(import_irc(options, report))
        except ProblemError as error:
            raise CommandError(f"the server refuses: {error}", UNAVAILABLE) from None
        except ConnectionError as error:
            raise CommandError(f"{url} cannot be reached: {error}", UNAVAILABLE) from None
        except ValueError as error:
            raise CommandError(str(error), WRONG_USE) from None
    if json:
        emit({**_fields(summary), "lines_per_second": round(summary.lines_per_second, 1)})
    else:
        _print(summary)


def _without_app_key() -> None:
    """Raises CommandError for half a key; else says what goes slower without one."""
    import os

    if os.environ.get("MINUTEBOOK_APP_KEY") or os.environ.get("MINUTEBOOK_APP_SECRET"):
        raise CommandError("set both MINUTEBOOK_APP_KEY and MINUTEBOOK_APP_SECRET, or neither", WRONG_USE)
    tell(
        "no app key in the environment: people register with passwords, as fast as the server lets them, and "
        "lines get the present time; `minutebook keys create` makes a key"
    )


async def _find_server(url: str) -> None:
    """Raises CommandError unless a server answers there: the import itself would wait long for it to come back."""
    from urllib.parse import urlsplit

    from client.problem import ProblemError
    from client.rest import RestClient

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{url!r} is no address; give one as --url {URL_DEFAULT}", WRONG_USE)
    async with RestClient(url, deadline_s=FIND_SERVER_S) as rest:
        try:
            await rest.call("GET", "/livez")
        except ProblemError:
            raise CommandError(f"what answers at {url} is no Minutebook server", UNAVAILABLE) from None
        except OSError as error:
            advice = "start one with `minutebook serve`, or name another with --url"
            raise CommandError(f"no server answers at {url} ({error}); {advice}", UNAVAILABLE) from None


def _fields(summary: ImportSummary) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(summary)


def _print(summary: ImportSummary) -> None:
    seconds = f"{summary.accounts_seconds:.1f} s for accounts, {summary.lines_seconds:.1f} s for lines"
    rows: list[tuple[str, object]] = [
        (name.replace("_", " "), value)
        for name, value in _fields(summary).items()
        if isinstance(value, int) and value
    ]
    rows += [(f"skipped: {reason}", count) for reason, count in sorted(summary.skipped.items())]
    facts([*rows, ("took", f"{seconds}; {summary.lines_per_second:,.0f} lines/s")])
    table(("room", "conversation"), sorted(summary.groups.items()), "Rooms")
