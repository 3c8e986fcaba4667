"""The OpenAPI document as it is checked in: `python -m gateways.rest.describe > docs/openapi.json`."""

from __future__ import annotations

import json
import sys

from gateways.rest.app import openapi


def openapi_text() -> str:
    """The document, indented, with a newline at its end."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
