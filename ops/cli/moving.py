"""`minutebook move`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import Config, Json, run, settings_of
from ops.cli.output import Step, emit, facts, progress

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ops.moving.transfer import Moved, Source, Stage, Target
    from ops.settings import Settings

CLUSTER = "cluster"

From = Annotated[
    str, typer.Option("--from", metavar="PLACE", help="Where it is: a data folder, or `cluster`.")
]
To = Annotated[
    str, typer.Option("--to", metavar="PLACE", help="Where it goes: an empty folder, or `cluster`.")
]
GiveUp = Annotated[
    bool, typer.Option("--give-up", help="Let the source be served again after a move that was broken off.")
]


def move_command(
    source: From, target: To, give_up: GiveUp = False, config: Config = None, json: Json = False
) -> None:
    """Move the log and the secrets of an embedded server into a cluster, or of a cluster into a data folder.

    \b
    minutebook move --from data --to cluster
    minutebook move --from cluster --to data2

    Stop the embedded server and every role of the cluster first. The cluster is the one of the settings
    (MINUTEBOOK_CLUSTER__MONGODB_URI, …__KAFKA_BOOTSTRAP, …__MONGODB_DATABASE, …__CLUSTER_ID), as for serve;
    its databases must be empty. Every event keeps its position and id, log-ins and clients' cursors stay valid;
    views are made anew by the first start. Nothing is served half moved: broken off in any way, run it again. At
    its end the old place is closed for writing, for good, and only read.
    """
    settings = settings_of(config)
    if (source == CLUSTER) == (target == CLUSTER):
        raise typer.BadParameter(f"one of --from and --to must be `{CLUSTER}`, the other one a folder")
    with progress("moving") as step:
        moved = run(_move(settings, source, target, step, give_up=give_up))
    if moved is None:
        facts([("given up", f"{source} may be served again")])
    elif json:
        emit(moved)
    else:
        facts(_told(moved, settings))


async def _move(settings: Settings, source: str, target: str, step: Step, *, give_up: bool) -> Moved | None:
    from ops.moving import transfer

    halves: dict[Stage, int] = {transfer.Stage.COPYING: 0, transfer.Stage.VERIFYING: 1}

    def report(stage: Stage, done: int, total: int) -> None:
        if stage in halves:
            step(halves[stage] * total + done, 2 * total)

    async with (
        source_of(settings, source) as here,
        target_of(settings, target, here, make=not give_up) as there,
    ):
        if give_up:
            await transfer.give_up(here, there)
            return None
        return await transfer.Move(here, there, report).run()


def source_of(settings: Settings, name: str) -> AbstractAsyncContextManager[Source]:
    """The place of that name, to move from."""
    if name == CLUSTER:
        from ops.moving.cluster import cluster_source

        return cluster_source(settings.cluster)
    from ops.moving.folder import folder_source

    return folder_source(Path(name))


def target_of(
    settings: Settings, name: str, source: Source, *, make: bool = True
) -> AbstractAsyncContextManager[Target]:
    """The place of that name, to move to; unless it may be made, only what an earlier move made."""
    if name == CLUSTER:
        from ops.moving.cluster import cluster_target

        return cluster_target(settings.cluster, source, make=make)
    from ops.moving.folder import folder_target

    return folder_target(Path(name), source, make=make)


def _told(moved: Moved, settings: Settings) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("moved", f"{moved.source} -> {moved.target}"),
        ("log", f"{moved.log_id}, {moved.commits:,} commits, {moved.events:,} events"),
        ("copied now", f"{moved.copied:,} commits, {moved.secrets:,} secrets"),
        ("verified", "both places hold the same"),
        ("closed", f"{moved.source} is only read from now on"),
    ]
    if moved.shards != settings.shards:
        rows.append(("set", f"shards to {moved.shards} where the log is served now"))
    return rows
