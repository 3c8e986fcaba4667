"""What is served as the page: complete, self-contained, and nothing its content security policy forbids."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from gateways.web import CONTENT_SECURITY_POLICY, WEB_ROOT, page_files

MODULE_LINES_MAX = 400
OWN_MODULES = sorted(path for path in WEB_ROOT.rglob("*.js") if "vendor" not in path.parts)
VENDORED = ("preact.js", "hooks.js", "htm.js")

# Ways in which a string becomes markup or code. The page has none, so no name or text can become either.
STRINGS_TO_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new Function|srcdoc"
)


def relative(path: Path) -> str:
    return path.relative_to(WEB_ROOT).as_posix()


def test_the_page_and_all_it_loads_is_served() -> None:
    served = {page.url_path: page.file for page in page_files()}
    assert served["/"] == WEB_ROOT / "index.html"
    index = (WEB_ROOT / "index.html").read_text(encoding="utf-8")
    for address in re.findall(r'(?:src|href)="([^"]+)"', index):
        assert f"/{address}" in served


@pytest.mark.parametrize("module", OWN_MODULES, ids=relative)
def test_a_module_imports_only_what_is_served(module: Path) -> None:
    served = {page.file for page in page_files()}
    for target in re.findall(r'\bfrom "([^"]+)"', module.read_text(encoding="utf-8")):
        assert target.startswith("."), f"{relative(module)} imports {target}: bare names need an import map"
        assert (module.parent / target).resolve() in served


def test_nothing_but_the_page_is_served() -> None:
    assert {page.file.suffix for page in page_files()} <= {".html", ".js", ".css", ".svg"}
    assert len({page.url_path for page in page_files()}) == len(page_files())
    assert all(page.file.is_relative_to(WEB_ROOT) for page in page_files())


@pytest.mark.parametrize("module", OWN_MODULES, ids=relative)
def test_no_string_becomes_markup(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert STRINGS_TO_MARKUP.search(source) is None
    assert len(source.splitlines()) <= MODULE_LINES_MAX


def test_the_policy_lets_in_nothing_but_the_page_itself() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    index = (WEB_ROOT / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", index) is None


def test_nothing_is_fetched_from_elsewhere() -> None:
    for page in page_files():
        source = page.file.read_text(encoding="utf-8")
        found = re.findall(r"""(?:src|href|url\(|from |import )\s*[=(]?\s*["']?(https?:|//)""", source)
        assert not found, f"{page.url_path} loads from another host"


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_those_that_were_taken(name: str) -> None:
    notes = (WEB_ROOT / "vendor" / "VENDOR.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((WEB_ROOT / "vendor" / name).read_bytes()).hexdigest()
    assert f"{digest}  {name}" in notes
