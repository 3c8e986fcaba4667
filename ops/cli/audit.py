"""`minutebook audit`: history from the log itself, beside a running server or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import NO, WRONG_USE, CommandError, tell
from ops.cli.options import Config, Data, Json, folder_of, run, time_option
from ops.cli.output import emit, facts, progress, safe, say

if TYPE_CHECKING:
    from pathlib import Path

    from eventlog.record import Head
    from ops.audit.query import Query
    from ops.audit.reading import EventRow
    from ops.audit.state import Cut, StateAt
    from ops.audit.verifying import Fault
    from ops.folder import DataFolder

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Read history from the log itself; it never writes, and a server may run meanwhile.",
)
NO_BODIES = "Leave out message contents, names and whatever else is free-form."


@app.command("log")
def log_command(
    stream: Annotated[
        str | None, typer.Option(help="Of one stream: a conversation id, user:ID, inbox:ID, TENANT/NAME.")
    ] = None,
    actor: Annotated[list[str] | None, typer.Option(help="Caused by this user; may be repeated.")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Of this type, e.g. message_posted; may be repeated.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From this time on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many.")] = None,
    no_bodies: Annotated[bool, typer.Option("--no-bodies", help=NO_BODIES)] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Print events in order of time; of one stream in its order.

    \b
    minutebook audit log --data data --limit 20
    minutebook audit log --stream g_1f… --type message_recalled --json
    minutebook audit log --actor anna --since 2026-01-01 --until 2026-02-01 --no-bodies

    TIME is RFC 3339, or a date (its midnight, UTC). Columns: time, shard:position, stream, version, seq (- for
    private events), type, actor, data.
    """
    from ops.audit.query import Query

    for name in type_ or ():
        _check_type(name)
    query = Query(
        stream=stream,
        actors=frozenset(actor or ()),
        types=frozenset(type_ or ()),
        since=time_option("--since", since),
        until=time_option("--until", until),
        limit=limit,
        bodies=not no_bodies,
    )
    run(_print_events(folder_of(data, config), query, json))


def _check_type(name: str) -> None:
    """Raises CommandError for a type that no event has: it would find nothing and look like an answer."""
    import difflib

    from domain.aggregates import EVENT_CLASSES

    known = [kind.TYPE for kind in EVENT_CLASSES]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        advice = f"; did you mean {' or '.join(near)}?" if near else ""
        raise CommandError(f"--type: no event is called {name!r}{advice}", WRONG_USE)


async def _print_events(folder: DataFolder, query: Query, json: bool) -> None:
    from ops.audit.query import events
    from ops.audit.reading import open_for_reading
    from ops.audit.state import check_name, shard_in

    async with open_for_reading(folder.log) as log:
        if query.stream is not None:
            check_name(query.stream)
            shard_in(log, query.stream)
        async for row in events(log, query):
            if json:
                emit(row)
            else:
                say(_event_line(row))


def _event_line(row: EventRow) -> str:
    seq = "-" if row.seq is None else str(row.seq)
    shown = safe(bytes(row.data).decode())
    hidden = " (body hidden)" if row.hidden else ""
    place = f"{row.at}  {row.position:<8} {row.stream}  v{row.version} {seq:>4}"
    return f"{place}  {row.type:<22} {row.actor}  {shown}{hidden}"


@app.command("state")
def state_command(
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM",
            help="A conversation id, user:ID, inbox:ID, tenant:ID, shard-N; TENANT/NAME elsewhere.",
        ),
    ],
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="As it stood at this time.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=0, help="As it stood after this version of the stream.")
    ] = None,
    clock: Annotated[
        str, typer.Option(help="log: the time of writing; origin: the original times of imported messages.")
    ] = "log",
    last: Annotated[int | None, typer.Option(min=0, help="Show only the newest so many messages.")] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show a stream as it stood: members, settings, every message with its edits and recalls, reactions, pins.

    \b
    minutebook audit state g_1f… --data data
    minutebook audit state g_1f… --version 40 --json
    minutebook audit state g_1f… --at 2004-12-25T10:15:00Z --clock origin

    What was withdrawn is shown, and marked. Exit 1 if the log has no such stream.
    """
    from ops.audit.state import Cut

    if at is not None and version is not None:
        raise CommandError("give --at or --version, not both", WRONG_USE)
    if clock not in ("log", "origin"):
        raise CommandError("--clock: must be log or origin", WRONG_USE)
    cut = Cut(version=version, at=time_option("--at", at), clock="origin" if clock == "origin" else "log")
    found = run(_state(folder_of(data, config), stream, cut))
    if version is not None and version > found.version:
        tell(f"minutebook: {stream} has only {found.version} versions; this is the newest")
    if last is not None and found.messages is not None:
        del found.messages[: max(0, len(found.messages) - last)]
    if json:
        emit(found)
    else:
        from ops.cli.audit_tables import print_state

        print_state(found, None if version is None else min(version, found.version))


async def _state(folder: DataFolder, stream: str, cut: Cut) -> StateAt:
    from ops.audit.reading import open_for_reading
    from ops.audit.state import state_at

    async with open_for_reading(folder.log) as log:
        return await state_at(log, stream, cut)


@app.command("verify")
def verify_command(
    data: Data = None,
    config: Config = None,
    against: Annotated[
        str | None, typer.Option(metavar="DIR", help="A backup whose heads the log must still contain.")
    ] = None,
    no_file_check: Annotated[
        bool, typer.Option("--no-file-check", help="Leave out SQLite's own check of the file.")
    ] = False,
    json: Json = False,
) -> None:
    """Verify the record: positions, versions, numbers, epochs, times, hash chain, columns, and its end.

    \b
    minutebook audit verify --data data
    minutebook audit verify --data data --against /backups/monday --json

    A fault is named with its shard, position and stream. Views, snapshots and --against tell whether the end
    was cut off. --json prints one line a fault and the summary last. Exit 1 if anything was found.
    """
    folder = folder_of(data, config)
    from pathlib import Path

    from ops.audit.verifying import Verification

    expected = None if against is None else _heads_of_backup(Path(against))
    with progress("verifying") as step:
        verification = Verification(folder, expected=expected, report=step, check_file=not no_file_check)
        for fault in verification.faults():
            if json:
                emit(fault)
            else:
                say(_fault_line(fault))
    summary = verification.summary
    if json:
        emit({"ok": summary.faults == 0, **_fields(summary)})
    else:
        found = "nothing is wrong" if summary.faults == 0 else f"{summary.faults} faults"
        facts(
            [
                ("log", summary.log_id and f"{summary.log_id}, {summary.shards} shards"),
                ("checked", f"{summary.commits:,} commits, {summary.events:,} events"),
                ("result", found),
            ]
        )
    if summary.faults:
        tell("minutebook: the log is not as it was written")
        raise typer.Exit(NO)


def _fields(struct: object) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(struct)  # type: ignore[arg-type]


def _heads_of_backup(path: Path) -> dict[int, Head]:
    from ops.backup import read_manifest

    return dict(read_manifest(path).expected())


def _fault_line(fault: Fault) -> str:
    place = "the file"
    if fault.shard is not None:
        place = f"shard {fault.shard}"
        if fault.position is not None:
            place += f", position {fault.position}"
    stream = "" if fault.stream is None else f" ({safe(fault.stream)})"
    return f"{fault.kind.upper():<12} {place}{stream}: {safe(fault.detail)}"
