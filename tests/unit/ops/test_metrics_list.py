"""The list of metrics that operators read, beside the code that makes them. (What real processes tell is compared in tests/e2e.)"""

from __future__ import annotations

import re

from tests.tidy import ROOT

_ROW = re.compile(r"^\| `(minutebook_\w+)`", re.MULTILINE)
_NAME = re.compile(r'(f?)"(minutebook_\w+?)(_\{\w+\})?"')


def _made() -> tuple[set[str], set[str]]:
    """Names as they stand in the code, and what those begin with that are put together there."""
    paths = [*(ROOT / "ops" / "metrics").glob("*.py"), ROOT / "gateways" / "rest" / "metrics.py"]
    found = [match for path in paths for match in _NAME.findall(path.read_text())]
    return {name for _, name, rest in found if not rest}, {f"{name}_" for _, name, rest in found if rest}


def test_what_is_listed_is_made_and_what_is_made_is_listed() -> None:
    rows = _ROW.findall((ROOT / "docs" / "operations.md").read_text())
    assert [row for row in rows if rows.count(row) > 1] == []
    listed = {name.removesuffix("_total") for name in rows}
    whole, beginnings = _made()
    assert len(whole) > 30
    assert sorted(whole - listed) == []
    assert sorted(one for one in beginnings if not any(name.startswith(one) for name in listed)) == []
    assert [
        name for name in sorted(listed - whole) if not any(name.startswith(one) for one in beginnings)
    ] == []
