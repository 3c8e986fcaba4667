"""Tenants with their app keys, and the control stream of a shard."""

from __future__ import annotations

import pytest

from domain.event import Command
from domain.shard import OpenShard, ShardOpened
from domain.streams import StreamKind
from domain.tenant import (
    APP_KEYS_MAX,
    AppKeyCreated,
    AppKeyRevoked,
    CreateAppKey,
    CreateTenant,
    DisableTenant,
    EnableTenant,
    RevokeAppKey,
    TenantCreated,
)
from tests.unit.domain.specification import NOW, Story


def tenant() -> Story:
    """The tenant acme."""
    story = Story(StreamKind.TENANT, "tenant:acme")
    story.does("system", CreateTenant(name="Acme"))
    return story


def test_a_tenant_is_made_once() -> None:
    story = Story(StreamKind.TENANT, "tenant:acme")
    assert story.does("system", CreateTenant(name=" Acme ")) == (
        TenantCreated(actor="system", at=NOW, name="Acme"),
    )
    assert story.refuses("system", CreateTenant(name="Acme")) == "conflict"
    assert story.state.tenant_id == "acme"


def test_app_keys() -> None:
    story = tenant()
    create = CreateAppKey(app_key="k1", expires_at=NOW + 5)
    assert story.does("system", create) == (
        AppKeyCreated(actor="system", at=NOW, app_key="k1", expires_at=NOW + 5),
    )
    assert story.does("system", create) == ()
    assert story.refuses("system", CreateAppKey(app_key="k1")) == "conflict"
    assert story.state.app_keys["k1"].usable(NOW + 4)
    assert not story.state.app_keys["k1"].usable(NOW + 5)
    assert story.does("system", RevokeAppKey(app_key="k1")) == (
        AppKeyRevoked(actor="system", at=NOW, app_key="k1"),
    )
    assert story.does("system", RevokeAppKey(app_key="k1")) == ()
    assert not story.state.app_keys["k1"].usable(NOW)
    assert story.refuses("system", create) == "conflict"


def test_disabling() -> None:
    story = tenant()
    assert story.does("system", EnableTenant()) == ()
    assert story.types("system", DisableTenant()) == ["tenant_disabled"]
    assert story.does("system", DisableTenant()) == ()
    assert story.state.disabled
    assert story.types("system", EnableTenant()) == ["tenant_enabled"]


def test_app_keys_are_bounded() -> None:
    story = tenant()
    for number in range(APP_KEYS_MAX):
        story.does("system", CreateAppKey(app_key=f"k{number}"))
    assert story.refuses("system", CreateAppKey(app_key="more")) == "conflict"
    story.does("system", RevokeAppKey(app_key="k0"))
    assert story.types("system", CreateAppKey(app_key="more")) == ["app_key_created"]


@pytest.mark.parametrize(
    "command, refusal",
    [
        (CreateAppKey(app_key="a b"), "validation_failed app_key"),
        (CreateAppKey(app_key="k", expires_at=NOW), "validation_failed expires_at"),
        (RevokeAppKey(app_key="k"), "not_found"),
        (OpenShard(node="n"), "not_found"),
    ],
)
def test_refused(command: Command, refusal: str) -> None:
    assert tenant().refuses("system", command) == refusal


@pytest.mark.parametrize("command", [CreateAppKey(app_key="k"), DisableTenant(), EnableTenant()])
def test_without_a_tenant_nothing_is_found(command: Command) -> None:
    assert Story(StreamKind.TENANT, "tenant:acme").refuses("system", command) == "not_found"


def test_names_of_tenants_are_checked() -> None:
    assert Story(StreamKind.TENANT, "tenant:a b").refuses("system", CreateTenant(name="x")) == (
        "validation_failed tenant_id"
    )
    assert Story(StreamKind.TENANT, "tenant:a").refuses("system", CreateTenant(name="")) == (
        "validation_failed name"
    )


def test_epochs_rise_by_one_and_never_fall() -> None:
    story = Story(StreamKind.SHARD, "shard-3")
    assert story.does("system", OpenShard(node="n1")) == (
        ShardOpened(actor="system", at=NOW, epoch=1, node="n1"),
    )
    story.does("system", OpenShard(node="n2"))
    assert (story.state.epoch, story.state.version, story.state.node) == (2, 2, "n2")
    story.given(ShardOpened(actor="system", at=NOW, epoch=1, node="late"))
    assert (story.state.epoch, story.state.node) == (2, "n2")
    assert story.refuses("system", DisableTenant()) == "not_found"
