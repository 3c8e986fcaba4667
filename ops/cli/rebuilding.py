"""`minutebook rebuild` and `minutebook status`: asked of the running server."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, folder_of, run
from ops.cli.output import emit, facts, progress


def rebuild_command(
    name: Annotated[str, typer.Argument(help="timeline, inbox, directory, search or audit_trail.")],
    data: Data = None,
    config: Config = None,
    share: Annotated[float, typer.Option(min=0.05, max=1.0, help="How much of one core it takes.")] = 0.5,
    only_if_same: Annotated[
        bool, typer.Option("--only-if-same", help="Switch only if old and new are equal, byte for byte.")
    ] = False,
    json: Json = False,
) -> None:
    """Build a read model anew from the log, compare, and switch to it.

    \b
    minutebook rebuild timeline --data data
    minutebook rebuild search --share 1 --only-if-same --json

    A running server does it while serving; without one the folder is opened here. Ctrl-C stops it, and the
    next one goes on where it ended. Exit 1 if old and new differ.
    """
    from ops.cli.asking import operate
    from ops.operations import AskRebuild, Progress, Rebuilt

    folder = folder_of(data, config)
    with progress(f"rebuilding {name}") as step:

        def report(line: Progress) -> None:
            step(line.done, line.total)

        built = run(operate(folder, config, AskRebuild(name, share, only_if_same), Rebuilt, report))
    if json:
        emit(built)
    else:
        rate = built.events / built.seconds if built.seconds else 0
        facts(
            [
                ("read model", f"{built.name}, version {built.old_version} -> {built.new_version}"),
                ("events", f"{built.events:,} in {built.seconds:.1f} s ({rate:,.0f}/s)"),
                ("compared", "equal, byte for byte" if built.same else "old and new differ"),
                ("in use", "the new version" if built.switched else "the old version"),
                ("digest", built.digest),
            ]
        )
    if not built.same:
        tell("minutebook: the old and the new version differ")
        raise typer.Exit(NO)


def status_command(data: Data = None, config: Config = None, json: Json = False) -> None:
    """How the running server is.

    \b
    minutebook status --data data
    minutebook status --json
    """
    from ops.control import ask
    from ops.operations import AskStatus, Status

    folder = folder_of(data, config)
    status = run(ask(folder.control, AskStatus(), Status))
    if json:
        emit(status)
        return
    facts(
        [
            ("address", status.url),
            ("version", status.version),
            ("process", status.process_id),
            ("log", f"{status.log_id}, {status.shards} shards, {status.events:,} events"),
            ("writable", "yes" if status.writable else "no"),
            ("waiting orders", status.queued_orders),
            ("views behind by", f"{status.view_lag_commits:,} commits"),
            ("parked streams", status.parked),
            ("read models", ", ".join(status.read_models)),
        ]
    )
