"""All commands in one tree. Their modules import at once only what is cheap."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from ops.cli import (
    audit,
    backups,
    benching,
    carrying,
    doctor,
    importing,
    keys,
    moving,
    parked,
    rebuilding,
    serving,
    show,
)
from ops.cli.failing import guarded


class _Guarded(TyperGroup):
    """Turns expected errors of every command into a line and an exit code."""

    @override
    def invoke(self, ctx: Any) -> Any:
        with guarded():
            return super().invoke(ctx)


app = typer.Typer(
    name="minutebook",
    cls=_Guarded,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(is_asked: bool) -> None:
    if is_asked:
        show.version()
        raise typer.Exit


@app.callback()
def root(
    _show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """An instant-messaging server whose only truth is its event log.

    \b
    minutebook serve                               run it, then open the printed address
    minutebook audit state g_1f… --data data       what a group is, and every word in it
    minutebook audit verify --data data            whether the record is whole

    Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 something is unavailable.
    """


app.command("serve")(serving.serve_command)
app.add_typer(importing.app, name="import")
audit.app.command("compare")(carrying.compare_command)
app.add_typer(audit.app, name="audit")
app.command("rebuild")(rebuilding.rebuild_command)
app.command("status")(rebuilding.status_command)
app.add_typer(parked.app, name="parked")
app.add_typer(keys.app, name="keys")
app.add_typer(carrying.repair_app, name="repair")
app.command("backup")(backups.backup_command)
app.command("restore")(backups.restore_command)
app.command("move")(moving.move_command)
app.command("config")(show.config_command)
app.command("bench", context_settings={"allow_extra_args": True})(benching.bench_command)
app.command("doctor")(doctor.doctor_command)
app.command("version")(show.version_command)
