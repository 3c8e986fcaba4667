"""`minutebook parked`: streams that a read model could not read on."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, folder_of, run
from ops.cli.output import emit, say, table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Streams that a read model could not read on; the others go on without them.",
)
Projection = Annotated[str, typer.Argument(metavar="NAME", help="The read model.")]
Stream = Annotated[str, typer.Argument(metavar="STREAM", help="The stream, as `parked list` names it.")]


@app.command("list")
def list_command(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List the parked streams.

    \b
    minutebook parked list --data data
    minutebook parked list --json | jq .stream
    """
    from ops.cli.asking import operate
    from ops.operations import AskParked, Parked
    from ops.times import rfc3339

    rows = run(operate(folder_of(data, config), config, AskParked(), list[Parked]))
    if json:
        for row in rows:
            emit(row)
        return
    table(
        ("read model", "stream", "from version", "position", "since", "error"),
        [
            (r.projection, r.stream, r.from_version, f"{r.shard}:{r.position}", rfc3339(r.at), r.error)
            for r in rows
        ],
    )


@app.command("retry")
def retry_command(projection: Projection, stream: Stream, data: Data = None, config: Config = None) -> None:
    """Read a parked stream on, after what stopped it was mended.

    \b
    minutebook parked retry timeline g_1f… --data data

    Exit 1 if it is still parked.
    """
    _retry(projection, stream, None, data, config)


@app.command("skip")
def skip_command(
    projection: Projection,
    stream: Stream,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept beside the view.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Leave out the event that a stream is parked at, and read on.

    \b
    minutebook parked skip timeline g_1f… --reason "written by a test build" --data data
    """
    _retry(projection, stream, reason, data, config)


def _retry(projection: str, stream: str, reason: str | None, data: Data, config: Config) -> None:
    from ops.cli.asking import operate
    from ops.operations import AskRetry

    request = AskRetry(projection, stream, reason)
    if run(operate(folder_of(data, config), config, request, bool)):
        say(f"{stream} is read on in {projection}")
        return
    tell(f"minutebook: {stream} is still parked in {projection}")
    raise typer.Exit(NO)
