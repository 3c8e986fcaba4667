"""The document of what stands on Kafka is current, and the stored events are as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from eventlog.asyncapi import asyncapi, asyncapi_text
from eventlog.kafka_record import HEADERS, record_of
from tests.contract.log_samples import ShardMaker

ROOT = Path(__file__).parent.parent
GOLDEN = sorted((ROOT / "golden").glob("*.json"))
CHECKED_IN = ROOT.parent / "docs" / "asyncapi.json"


DOCUMENT = asyncapi()


def schema_of(name: str) -> Any:
    """A validator of one schema of the document."""
    return jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )


def test_the_document_is_current() -> None:
    assert CHECKED_IN.read_text() == asyncapi_text(), "run: python -m eventlog.asyncapi > docs/asyncapi.json"


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def references(value: Any) -> Iterator[str]:
    """All `$ref` of a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_stored_events_are_as_it_says(path: Path) -> None:
    event = json.loads(path.read_bytes())
    validator = schema_of(event["type"])
    validator.validate(event)
    assert not validator.is_valid({**event, "data": 1})
    del event["actor"]
    assert not validator.is_valid(event)


def test_a_frame_is_as_it_says() -> None:
    frame = json.loads(ShardMaker(1).make().frame)
    frame["events"] = [json.loads(path.read_bytes()) for path in GOLDEN]
    schema_of("Frame").validate(frame)


def test_the_headers_are_those_that_are_sent() -> None:
    headers = DOCUMENT["components"]["messages"]["commit"]["headers"]
    assert set(headers["properties"]) == set(HEADERS)
    assert headers["required"] == [name for name, _ in record_of(ShardMaker(1).make()).headers]
