"""`minutebook keys`: the app keys of a tenant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failing import NO, tell
from ops.cli.options import Config, Data, Json, Tenant, folder_of, run, time_option
from ops.cli.output import emit, facts, say, table
from ops.times import rfc3339

if TYPE_CHECKING:
    from ops.folder import DataFolder
    from ops.operations import KeyRow

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="App keys: who may sign calls in a tenant's name."
)


@app.command("create")
def create_command(
    tenant: Tenant = "default",
    expires: Annotated[str | None, typer.Option("--expires", metavar="TIME", help="When it ends.")] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make an app key and print it; the secret is shown only now.

    \b
    minutebook keys create --data data
    minutebook keys create --tenant acme --expires 2027-01-01T00:00:00Z --json
    """
    from ops.cli.asking import operate
    from ops.operations import AskCreateKey, KeyMade

    expires_at = time_option("--expires", expires)
    made = run(operate(folder_of(data, config), config, AskCreateKey(tenant, expires_at), KeyMade))
    until = None if made.expires_at is None else rfc3339(made.expires_at)
    if json:
        emit({"tenant": tenant, "key_id": made.key_id, "secret": made.secret, "expires_at": until})
    else:
        facts([("key", made.key_id), ("secret", made.secret), ("tenant", tenant), ("expires", until)])


@app.command("list")
def list_command(
    tenant: Tenant = "default", data: Data = None, config: Config = None, json: Json = False
) -> None:
    """List a tenant's keys, without their secrets.

    \b
    minutebook keys list --data data
    minutebook keys list --tenant acme --json
    """
    rows = run(_keys(folder_of(data, config), tenant))
    shown = [
        {
            "key_id": row.key_id,
            "tenant": row.tenant,
            "created_at": rfc3339(row.created_at),
            "expires_at": None if row.expires_at is None else rfc3339(row.expires_at),
            "revoked": row.revoked,
        }
        for row in rows
    ]
    if json:
        for item in shown:
            emit(item)
        return
    table(
        ("key", "created", "expires", "holds"),
        [(r["key_id"], r["created_at"], r["expires_at"], "no" if r["revoked"] else "yes") for r in shown],
    )


@app.command("revoke")
def revoke_command(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")],
    tenant: Tenant = "default",
    data: Data = None,
    config: Config = None,
) -> None:
    """End a key; calls that it signs are refused from then on.

    \b
    minutebook keys revoke ak_0123 --data data
    """
    if run(_revoke(folder_of(data, config), config, tenant, key_id)):
        say(f"{key_id} is revoked")
        return
    tell(f"minutebook: {key_id} was revoked already")
    raise typer.Exit(NO)


async def _revoke(folder: DataFolder, config: Path | None, tenant: str, key_id: str) -> bool:
    from ops.cli.asking import operate
    from ops.operations import AskRevokeKey

    return await operate(folder, config, AskRevokeKey(tenant, key_id), bool)


async def _keys(folder: DataFolder, tenant: str) -> list[KeyRow]:
    """Of the log itself, running server or not: a list changes nothing."""
    from domain.streams import qualified
    from domain.tenant import TenantState
    from ops.audit.reading import open_for_reading
    from ops.audit.state import folded
    from ops.operations import KeyRow

    async with open_for_reading(folder.log) as log:
        state = await folded(log, qualified(tenant, f"tenant:{tenant}"))
    if not isinstance(state, TenantState):
        return []
    return [
        KeyRow(
            tenant=tenant,
            key_id=key_id,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked=key.revoked,
        )
        for key_id, key in sorted(state.app_keys.items())
    ]
