"""The embedded server starts without the extra `cluster`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CLUSTER_ONLY = ("aiokafka", "google.protobuf", "grpc", "motor", "pymongo", "redis")


def test_the_embedded_server_needs_no_driver_of_a_cluster() -> None:
    program = (
        "import sys, ops.serving, ops.operating, ops.cli.app\n"
        f"print([name for name in {CLUSTER_ONLY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_cluster_without_its_drivers_is_one_clear_line(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({CLUSTER_ONLY!r}))\n"
        "from ops.cli.app import app\n"
        f"app(['serve', '--port', '0', '--data', {str(tmp_path / 'data')!r}, *sys.argv[1:]])"
    )
    environment = {**os.environ, "MINUTEBOOK_CLUSTER__MONGODB_URI": "mongodb://db/?replicaSet=rs0"}
    for roles in ((), ("--roles", "gateway")):
        done = subprocess.run(
            [sys.executable, "-c", program, *roles],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr == (
            "minutebook: a cluster needs drivers that are not installed: install minutebook[cluster]\n"
        )
