"""`minutebook rebuild` and `minutebook status`: asked of the running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, folder_of, run
from ops.cli.output import emit, facts, progress

if TYPE_CHECKING:
    from ops.operations import Rebuilt, RolledBack


def rebuild_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="timeline, inbox, directory, search or audit_trail.")
    ],
    data: Data = None,
    config: Config = None,
    share: Annotated[float, typer.Option(min=0.05, max=1.0, help="How much of one core it takes.")] = 0.5,
    only_if_same: Annotated[
        bool, typer.Option("--only-if-same", help="Switch only if old and new are equal, byte for byte.")
    ] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Take the version before the last rebuild into use again.")
    ] = False,
    json: Json = False,
) -> None:
    """Build a read model anew from the log, compare, and switch to it.

    \b
    minutebook rebuild timeline --data data
    minutebook rebuild search --share 1 --only-if-same --json
    minutebook rebuild timeline --roll-back

    A running server does it while serving; without one the folder is opened here. Ctrl-C stops it, and the
    next one goes on where it ended. Exit 1 if old and new differ. One earlier version is kept; a roll-back
    brings it up to date and throws the present one away.
    """
    if roll_back and only_if_same:
        raise typer.BadParameter("--roll-back compares nothing, so it goes without --only-if-same")
    from ops.cli.asking import operate
    from ops.operations import AskRebuild, AskRollBack, Progress, Rebuilt, RolledBack

    folder = folder_of(data, config)
    with progress(f"{'rolling back' if roll_back else 'rebuilding'} {name}") as step:

        def report(line: Progress) -> None:
            step(line.done, line.total)

        if roll_back:
            answer: Rebuilt | RolledBack = run(
                operate(folder, config, AskRollBack(name, share), RolledBack, report)
            )
        else:
            answer = run(operate(folder, config, AskRebuild(name, share, only_if_same), Rebuilt, report))
    if json:
        emit(answer)
    else:
        facts(_told(answer))
    if isinstance(answer, Rebuilt) and not answer.same:
        tell("minutebook: the old and the new version differ")
        raise typer.Exit(NO)


def _told(answer: Rebuilt | RolledBack) -> list[tuple[str, str]]:
    from ops.operations import Rebuilt

    versions = ("read model", f"{answer.name}, version {answer.old_version} -> {answer.new_version}")
    rate = answer.events / answer.seconds if answer.seconds else 0
    events = ("events", f"{answer.events:,} in {answer.seconds:.1f} s ({rate:,.0f}/s)")
    if not isinstance(answer, Rebuilt):
        return [versions, events]
    return [
        versions,
        events,
        ("compared", "equal, byte for byte" if answer.same else "old and new differ"),
        ("in use", "the new version" if answer.switched else "the old version"),
        ("digest", answer.digest),
    ]


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
