"""Accounts over a log that fails: what is left of a registration whose outcome nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from commands.accounts import PASSWORD_KIND, Accounts, Device
from commands.caller import Keyed
from commands.desk import Desk
from commands.passwords import Passwords
from commands.refresh import RefreshTokens
from domain.errors import Problem
from domain.event import Message, Place, Written
from domain.streams import user_stream
from eventlog.secrets import MemorySecrets
from tests.faulty_log import Fault
from tests.unit.commands.scene import FAST, SECRET, Scene, scene

TENANT = "default"
DEVICE = Device(device_id="d1", device_kind="web")
IMPATIENT = msgspec.structs.replace(FAST, deadline_s=0.0)


class NoOlderMessages:
    """Accounts have none."""

    async def older_message(self, stream: str, seq: int) -> Message | None:
        """See `commands.desk.OlderMessages`."""
        return None

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """See `commands.desk.OlderMessages`."""
        return frozenset(places)

    async def written(self, stream: str, seq: int) -> Written | None:
        """See `commands.desk.OlderMessages`."""
        return None


class Office:
    """Accounts, and what a test looks into."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.store = MemorySecrets()
        self.desk = Desk(stage.node, SECRET, NoOlderMessages())
        self.passwords = Passwords(time_cost=1, memory_kib=8, threads=1)
        refresh = RefreshTokens(self.store, SECRET)
        self.accounts = Accounts(self.desk, self.store, self.passwords, refresh, lambda: stage.now)

    async def register(self, password: str, client_key: str | None = None) -> str:
        """Register ann; `done`, `replayed`, or the code of the refusal."""
        keyed = Keyed("register", client_key)
        try:
            answer = await self.accounts.register(TENANT, "ann", password, None, keyed)
        except Problem as problem:
            return problem.code
        return "replayed" if answer.replayed else "done"

    async def credentials(self) -> int:
        """How many passwords are stored for ann."""
        return len(await self.store.list(PASSWORD_KIND, user_stream(TENANT, "ann")))


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    """Accounts over an open node whose callers do not wait for a second try."""
    async with scene(IMPATIENT) as stage:
        opened = Office(stage)
        try:
            yield opened
        finally:
            await opened.desk.close()
            opened.passwords.close()


@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
async def test_a_registration_that_was_refused_can_be_repeated(key: str | None) -> None:
    async with office() as opened:
        opened.stage.log.plan(Fault.UNAVAILABLE)
        assert await opened.register("first password", key) == "unavailable"
        assert await opened.credentials() == 0
        assert await opened.register("second password", key) == "done"
        assert await opened.credentials() == 1
        await opened.accounts.log_in(TENANT, "ann", "second password", DEVICE)


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER])
async def test_a_registration_of_unknown_outcome_is_told_by_its_key(fault: Fault) -> None:
    async with office() as opened:
        opened.stage.log.plan(fault)
        assert await opened.register("the password", "k") == "outcome_unknown"
        await opened.stage.durable(user_stream(TENANT, "ann"))
        assert await opened.register("the password", "k") == "replayed"
        assert await opened.credentials() == 1
        assert await opened.register("the password") == "conflict"
        await opened.accounts.log_in(TENANT, "ann", "the password", DEVICE)


async def test_what_a_lost_registration_stored_is_forgotten_by_the_next() -> None:
    async with office() as opened:
        # As a server leaves it that was killed between the two writes.
        await opened.accounts._store_password(TENANT, "ann", "a lost password")
        assert await opened.register("the password") == "done"
        assert await opened.credentials() == 1
        with pytest.raises(Problem, match="wrong password"):
            await opened.accounts.log_in(TENANT, "ann", "a lost password", DEVICE)
        await opened.accounts.log_in(TENANT, "ann", "the password", DEVICE)
