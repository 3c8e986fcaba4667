"""The reference page at `/docs`: one HTML page made from the OpenAPI document, without a script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1c1c1e; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d0d5 }
article { margin: 1.2rem 0; padding: .6rem 1rem; border: 1px solid #d0d0d5; border-radius: 6px }
h3 { margin: 0; font-size: 1rem } code, h3 { font-family: ui-monospace, monospace }
h3 b { display: inline-block; min-width: 4.2rem; color: #0b5394 }
table { border-collapse: collapse; font-size: .9em }
td, th { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top }
pre { background: #f4f4f6; padding: .6rem; overflow-x: auto; font-size: .85em }
@media (prefers-color-scheme: dark) {
  body { background: #1c1c1e; color: #e8e8ea } article, h2 { border-color: #444 }
  pre { background: #2a2a2d } h3 b, a { color: #7fb4e6 }
}
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
REFERENCE_CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; frame-ancestors 'none'"
)


def reference_page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    schemas = document.get("components", {}).get("schemas", {})
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append("".join(_operation(method, path, operation, schemas)))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(rows)}" for tag, rows in by_tag.items())
    title = escape(document["info"]["title"])
    summary = escape(document["info"].get("description", ""))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{title}</h1><p>{summary}</p><p><a href="/openapi.json">openapi.json</a></p>'
        f"{sections}</body></html>"
    )


def _operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"<article><h3><b>{escape(method.upper())}</b> {escape(path)}</h3>"
    yield f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
    yield from _parameters(operation.get("parameters", []))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        yield f"<p>Body</p><pre>{escape(_shape(body, schemas))}</pre>"
    for status, response in operation.get("responses", {}).items():
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            yield f"<p>{escape(status)}</p><pre>{escape(_shape(schema, schemas))}</pre>"
    problems = [status for status in operation.get("responses", {}) if status >= "400"]
    yield f"<p>Problems: {escape(', '.join(problems))}</p></article>"


def _parameters(parameters: list[Mapping[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>"
    for parameter in parameters:
        kind = _shape(parameter.get("schema", {}), {})
        need = "required" if parameter.get("required") else ""
        cells = (parameter["name"], parameter["in"], kind, need)
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _shape(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> str:
    """A schema as a short text, objects four levels deep at most."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _shape(schemas[name], schemas, depth) if name in schemas and depth < 4 else name
    if "anyOf" in schema:
        return " | ".join(_shape(part, schemas, depth) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_shape(schema.get('items', {}), schemas, depth)}]"
    properties = schema.get("properties")
    if not properties:
        return str(schema.get("format", schema.get("type", schema.get("const", "any"))))
    required = set(schema.get("required", []))
    indent = "  " * (depth + 1)
    lines = [
        f"{indent}{name}{'' if name in required else '?'}: {_shape(part, schemas, depth + 1)}"
        for name, part in properties.items()
    ]
    return "{\n" + "\n".join(lines) + "\n" + "  " * depth + "}"
