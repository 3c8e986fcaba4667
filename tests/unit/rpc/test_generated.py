"""The code beside `minutebook.proto` and `push.proto` is what protoc makes of it today."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateways.rpc.generate import HERE, generate

NAMES = ("minutebook_pb2.py", "minutebook_pb2.pyi", "push_pb2.py", "push_pb2.pyi")


@pytest.mark.slow
def test_what_is_checked_in_is_current(tmp_path: Path) -> None:
    generate(tmp_path)
    made = tmp_path / "gateways" / "rpc" / "generated"
    assert sorted(path.name for path in made.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (made / name).read_bytes() == (HERE / "generated" / name).read_bytes(), (
            f"{name} is stale: python -m gateways.rpc.generate"
        )
