"""`minutebook serve`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import WRONG_USE, CommandError
from ops.cli.options import Config, settings_of
from ops.cli.output import say

if TYPE_CHECKING:
    from ops.operating import ServerOperations
    from ops.settings import Settings
    from ops.wiring import Server


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one and prints it.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Data folder, made if absent.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of /metrics; absent: closed.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, max=4_096, help="Shards of a new data folder; fixed from then on.")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE,…", help="In a cluster: gateway, owner, relay, projector, jobs; absent: all in one."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM; a second one ends the drain.

    \b
    minutebook serve
    minutebook serve --port 0 --data ./data --metrics-port 9100
    minutebook serve --roles owner,relay --data ./owner-1
    MINUTEBOOK_RATE_LIMIT=off minutebook serve --log-format json 2>server.log

    Prints `Minutebook listens on URL` when requests are answered. Every setting can also come from the
    environment (MINUTEBOOK_PORT, MINUTEBOOK_NODE__FLUSH_PACE_MS) or minutebook.toml; see `config --print`.
    """
    flags = {
        "host": host,
        "port": port,
        "data": data,
        "metrics_port": metrics_port,
        "log_level": log_level,
        "log_format": log_format,
        "shards": shards,
        "roles": None if roles is None else tuple(roles.split(",")),
    }
    settings = settings_of(config, **flags)
    from ops.logs import catch_what_nobody_caught, set_up_logs

    try:
        set_up_logs(settings.log_level, settings.log_format, node=settings.node_name, roles=settings.roles)
    except ValueError as error:
        raise CommandError(str(error), WRONG_USE) from None
    catch_what_nobody_caught()
    if settings.roles:
        _serve_roles(settings)
    else:
        _serve(settings)


def _serve_roles(settings: Settings) -> None:
    import sys

    import uvloop

    from ops.serving import serve_roles

    def started(url: str | None, metrics_url: str | None) -> None:
        where = "runs" if url is None else f"listens on {url}"
        say(f"Minutebook {where} as {', '.join(sorted(settings.roles))} ({settings.node_name})")
        if metrics_url is not None:
            say(f"Metrics are at {metrics_url}")
        sys.stdout.flush()

    uvloop.run(serve_roles(settings, started))


def _serve(settings: Settings) -> None:
    import sys

    import uvloop

    from ops.operating import ServerOperations, controlled
    from ops.serving import serve

    operations: list[ServerOperations] = []

    def extra(server: Server) -> AbstractAsyncContextManager[None]:
        operations.append(ServerOperations(server))
        return controlled(server, operations[0])

    def started(url: str, metrics_url: str | None) -> None:
        operations[0].url = url
        say(f"Minutebook listens on {url}")
        if metrics_url is not None:
            say(f"Metrics are at {metrics_url}")
        sys.stdout.flush()

    uvloop.run(serve(settings, started, extra))
