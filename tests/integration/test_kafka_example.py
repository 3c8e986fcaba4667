"""The example for other people's programs, run as they would run it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.integration.carried import Carried

pytestmark = [pytest.mark.services, pytest.mark.slow]
EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "follow_kafka.py"


async def test_the_example_prints_every_event_once(kafka_bootstrap: str, topic_prefix: str) -> None:
    house = Carried(kafka_bootstrap, topic_prefix)
    async with house.relay() as relay:
        await house.write(0, 20)
        await relay.drained()
        house.checkpoint.positions = {}
    async with house.relay() as relay:
        # Everything was sent twice; it is printed once.
        await house.write(1, 5)
        await relay.drained()
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLE, kafka_bootstrap, house.topic, f"{topic_prefix}example"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert program.stdout is not None
        try:
            lines = [(await program.stdout.readline()).decode().strip() for _ in range(25)]
            await house.write(1, 1)
            lines.append((await program.stdout.readline()).decode().strip())
        finally:
            program.kill()
            await program.wait()
    expected = [f"note_written notes v{n} 0:{n}" for n in range(1, 21)]
    assert [line for line in lines if " 0:" in line] == expected
    assert [line for line in lines if " 1:" in line] == [
        f"note_written notes v{n} 1:{n}" for n in range(1, 7)
    ]
