"""Reactions and where they stand: a store that is away costs them nothing but looking again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from commands.port import CommandPort
from commands.reactions import Reactions
from domain.user import UserRegistered
from eventlog.port import LogUnavailableError
from tests.unit.projections.world import CODEC, World


class Away:
    """A checkpoint whose store does not answer."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.tries = 0

    async def load(self) -> Mapping[int, int]:
        """Something was saved while it was there."""
        return {0: 1}

    async def save(self, positions: Mapping[int, int]) -> None:
        """Fail."""
        self.tries += 1
        raise self._error


@pytest.mark.parametrize("error", [OSError("no space"), LogUnavailableError("no primary")])
async def test_a_checkpoint_that_cannot_be_saved_is_no_failure(error: Exception) -> None:
    world, checkpoint = World(), Away(error)
    await world.commit("user:ann", UserRegistered(actor="ann", at=0, name="Ann"))
    # Nothing that is in this log is answered with a command.
    reactions = Reactions(world.log, CODEC, world.bus, cast(CommandPort, None), checkpoint)
    await reactions.start()
    await reactions.close()
    assert checkpoint.tries == 1
