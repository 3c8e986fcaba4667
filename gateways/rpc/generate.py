"""Writes the code of the `.proto` files here: `python -m gateways.rpc.generate`. A test checks that what is checked in is current."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

HERE = Path(__file__).resolve().parent
PROTOS = ("minutebook.proto", "push.proto")
_PACKAGE = "gateways/rpc/generated"


def generate(root: Path) -> None:
    """Write the modules under `root`, at the places they have in this project. Raises CalledProcessError."""
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={_PACKAGE}={HERE}",
        f"--python_out={root}", f"--pyi_out={root}", *(f"{_PACKAGE}/{proto}" for proto in PROTOS),
    ]  # fmt: skip
    run(command, check=True)  # noqa: S603 - the interpreter that runs this, on files beside it


if __name__ == "__main__":
    generate(HERE.parent.parent)
