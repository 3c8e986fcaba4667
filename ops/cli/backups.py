"""`minutebook backup` and `minutebook restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.carrying import ClusterId, MongoDB, restore_from_kafka
from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, folder_of, run, settings_of
from ops.cli.output import Step, emit, facts, progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventlog.record import Head
    from ops.folder import DataFolder
    from ops.operations import BackupMade


def backup_command(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is absent or empty.")],
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Back up the log and the secrets; a running server goes on serving.

    \b
    minutebook backup /backups/monday --data data
    minutebook backup "/backups/$(date +%F)" --json

    The folder holds credentials (secrets.db, mode 0600): keep it as you keep those.
    """
    folder = folder_of(data, config)
    with progress("backing up") as step:
        made = run(_backup(folder, target.absolute(), step))
    if json:
        emit(made)
    else:
        facts(
            [
                ("backup", made.target),
                ("log", f"{made.log_id}, {made.events:,} events"),
                ("size", f"{made.bytes:,} bytes"),
            ]
        )


async def _backup(folder: DataFolder, target: Path, step: Step) -> BackupMade:
    """By the running server, which also keeps a second backup away; else here, without opening for writing."""
    from ops.control import NoServerError, ask
    from ops.operations import AskBackup, BackupMade, Progress

    def report(line: Progress) -> None:
        step(line.done, line.total)

    try:
        return await ask(folder.control, AskBackup(str(target)), BackupMade, report)
    except NoServerError:
        tell(f"no server runs on {folder.root}; reading it")
    from eventlog.sqlite import SqliteLog
    from ops.backup import made_of, make_backup
    from ops.faces import now_ms
    from ops.folder import FolderLock

    lock = FolderLock(folder)
    lock.acquire()
    try:
        log = await SqliteLog.open_read_only(folder.log)
        try:
            manifest = await make_backup(log, folder.secrets, target, now_ms(), step)
        finally:
            await log.close()
    finally:
        lock.release()
    return made_of(target, manifest)


def restore_command(
    source: Annotated[Path | None, typer.Argument(metavar="DIR", help="The backup.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="NEW", help="The data folder to make: absent or empty.")
    ] = None,
    from_kafka: Annotated[
        str | None,
        typer.Option("--from-kafka", metavar="HOST:PORT", help="Rebuild a lost log from its topic instead."),
    ] = None,
    mongodb: MongoDB = None,
    cluster_id: ClusterId = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="The cluster's databases were put back by MongoDB's own tools: renew the log's id.",
        ),
    ] = False,
    config: Config = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not verify what was restored.")] = False,
    json: Json = False,
) -> None:
    """Make a new data folder from a backup, and verify it; or a lost log from Kafka.

    \b
    minutebook restore /backups/monday --data data2
    minutebook serve --data data2
    minutebook restore --from-kafka kafka:9092 --mongodb mongodb://db/minutebook
    minutebook restore --in-place

    The log gets a new id: clients see it and start over, views are made anew. What was restored keeps its
    positions, seqs and ids. --from-kafka needs an empty database or folder and the whole topic, and writes nothing if a
    position is missing; secrets come from their own backup. --in-place is for a cluster whose MongoDB was put back
    to an older backup: with all roles stopped, before any is started. The cluster is the one of the settings.
    """
    if in_place:
        if source is not None or data is not None or from_kafka is not None or mongodb is not None:
            raise typer.BadParameter("--in-place goes by the settings of the cluster alone")
        _renew(config, json)
        return
    if from_kafka is not None:
        if source is not None:
            raise typer.BadParameter("give a backup or --from-kafka, not both")
        if data is None and mongodb is None:
            raise typer.BadParameter("name the log to make with --data or --mongodb")
        restore_from_kafka(from_kafka, data, mongodb, cluster_id, config, json)
        return
    if source is None or data is None:
        raise typer.BadParameter("name the backup, and the data folder to make with --data")
    from ops.backup import read_manifest, restore

    with progress("restoring") as step:
        restored = restore(source, data, step)
    faults = 0 if no_verify else _verify(data, read_manifest(source).expected())
    if json:
        emit(restored)
    else:
        facts(
            [
                ("data folder", restored.data),
                ("log", f"{restored.log_id} (was {restored.former_log_id}), {restored.events:,} events"),
                ("verified", "not asked for" if no_verify else f"{faults} faults"),
            ]
        )
    if faults:
        tell("minutebook: the restored log has faults; see `minutebook audit verify`")
        raise typer.Exit(NO)


def _renew(config: Path | None, json: bool) -> None:
    from ops.moving.renewal import renew_log

    renewed = run(renew_log(settings_of(config).cluster))
    if json:
        emit(renewed)
    else:
        facts([("place", renewed.place), ("log", f"{renewed.log_id} (was {renewed.former_log_id})")])


def _verify(data: Path, expected: Mapping[int, Head]) -> int:
    from ops.audit.verifying import Verification
    from ops.folder import DataFolder

    with progress("verifying") as step:
        verification = Verification(DataFolder(data), expected=expected, report=step)
        return sum(1 for _ in verification.faults())
