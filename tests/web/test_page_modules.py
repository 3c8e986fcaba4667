"""Runs the page's own tests: its pure modules under node's test runner."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE_MAJOR_MIN = 18
TIMEOUT_S = 120


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.fail(f"node {NODE_MAJOR_MIN} or newer is missing; install it: apt-get install -y nodejs")
    return found


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_the_modules_of_the_page() -> None:
    folder = Path(__file__).parent
    files = sorted(str(path) for path in folder.glob("*.test.mjs"))
    assert files
    run = subprocess.run(
        [node(), "--test", *files], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert run.returncode == 0, f"{run.stdout[-8000:]}\n{run.stderr[-2000:]}"
