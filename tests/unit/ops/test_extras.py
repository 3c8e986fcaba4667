"""The embedded server starts without the extra `cluster`."""

from __future__ import annotations

import subprocess
import sys

CLUSTER_ONLY = ("aiokafka", "google.protobuf", "grpc", "motor", "pymongo", "redis")


def test_the_embedded_server_needs_no_driver_of_a_cluster() -> None:
    program = (
        "import sys, ops.serving, ops.operating, ops.cli.app\n"
        f"print([name for name in {CLUSTER_ONLY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
