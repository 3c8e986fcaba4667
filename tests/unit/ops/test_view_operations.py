"""What a projector does for its operator, asked over its control socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import Problem
from ops.control import ControlServer, ask
from ops.operations import (
    AskKeys,
    AskParked,
    AskRebuild,
    AskRollBack,
    AskStatus,
    KeyRow,
    Parked,
    Rebuilt,
    RolledBack,
    Status,
)
from ops.view_operations import ViewOperations
from projections.memory import MemoryShelf
from tests.unit.projections.test_sharing import ALL, projector, talk
from tests.unit.projections.world import World


async def test_a_projector_rebuilds_and_tells_and_leaves_the_rest_to_others(tmp_path: Path) -> None:
    world, path = World(), tmp_path / "control.sock"
    async with projector(world, MemoryShelf()) as one:
        await one.share.positions(ALL)
        await talk(world, 1)
        await one.caught_up()
        async with ControlServer(path, ViewOperations(one.views)):
            status = await ask(path, AskStatus(), Status)
            assert (status.view_lag_commits, status.parked) == (0, 0)
            assert "timeline" in status.read_models
            built = await ask(path, AskRebuild("timeline", 1.0), Rebuilt)
            assert (built.same, built.switched, built.new_version) == (True, True, 2)
            back = await ask(path, AskRollBack("timeline", 1.0), RolledBack)
            assert back.new_version == 1
            assert await ask(path, AskParked(), list[Parked]) == []
            with pytest.raises(Problem, match="writes views only"):
                await ask(path, AskKeys("default"), list[KeyRow])
            with pytest.raises(Problem, match="there is no read model"):
                await ask(path, AskRebuild("nothing", 1.0), Rebuilt)
