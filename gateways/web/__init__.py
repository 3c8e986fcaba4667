"""The chat page: static files (Preact + htm, vendored, no build step) and what serving them needs.

The REST gateway serves the files at `/`, from the interface's own origin, with `CONTENT_SECURITY_POLICY`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEB_ROOT: Path = Path(__file__).resolve().parent

CONTENT_SECURITY_POLICY: str = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

# The page is made of these kinds of file; whatever else lies in the folder (this module, notes) stays here.
MEDIA_TYPES: dict[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page: the URL path it stands at, the file, and its media type."""

    url_path: str
    file: Path
    media_type: str


def page_files() -> tuple[PageFile, ...]:
    """All files to serve, by URL path; `index.html` stands at `/` as well as under its own name."""
    files = sorted(path for path in WEB_ROOT.rglob("*") if path.suffix in MEDIA_TYPES)
    served = [PageFile(f"/{file.relative_to(WEB_ROOT)}", file, MEDIA_TYPES[file.suffix]) for file in files]
    index = WEB_ROOT / "index.html"
    return (PageFile("/", index, MEDIA_TYPES[".html"]), *served)
