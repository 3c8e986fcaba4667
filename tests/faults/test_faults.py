"""Some of the kinds of faults; `python -m tests.faults --full` does the whole of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.faults.kinds import kinds
from tests.faults.runner import new_seed, run_kinds, table
from tests.faults.stage import open_stage

_log = logging.getLogger(__name__)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(1_200)]


async def test_a_cluster_keeps_its_word_whatever_is_done_to_it(tmp_path: Path) -> None:
    seed = new_seed()
    _log.warning("seed %d", seed)
    wanted = [(kind, kind.small) for kind in kinds(full=False).values() if kind.small]
    async with open_stage(tmp_path, seed) as stage, stage.under_load():
        outcomes = await run_kinds(stage, wanted, _log.warning)
    findings = [finding for outcome in outcomes for finding in outcome.verdict.findings]
    assert len(outcomes) == len(wanted), (findings, table(outcomes))
    assert all(outcome.good for outcome in outcomes), (findings, table(outcomes))
