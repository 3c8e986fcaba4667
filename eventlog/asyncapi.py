"""What stands on Kafka, for other people's programs: `python -m eventlog.asyncapi > docs/asyncapi.json`.

Made from the registry of event types, so that it cannot say anything else than the code does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from domain.aggregates import EVENT_CLASSES
from domain.streams import SHARD_COUNT_DEFAULT
from eventlog.kafka_topic import TOPIC_PREFIX, partitions_for, topic_spec
from eventlog.record import DIGEST_BYTES, FRAME_BYTES_MAX, KEY_BYTES
from eventlog.registry import EventType, Registry

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_INTRODUCTION = """\
Every commit of the event log, once relayed, in order of position per shard (partition = shard modulo partitions, key = stream).
A record may come twice and, after a topic was filled again, out of order: keep the last position per shard, drop what is not
above it, and read what lies between from the log (or from the topic) when one is skipped. Values are the log's own bytes:
SHA-256 of a value is the `previous` of the next one in its shard.
Types and fields are only ever added. Events of an unknown `type`, or with a higher `schema`, are from a newer version: skip them.
"""

_HEADERS: Mapping[str, str] = {
    "shard": "Number of the shard, decimal.",
    "position": "Position in the shard: 1, 2, 3… without a gap.",
    "epoch": "Epoch of the shard's owner.",
    "log_id": "Which log this is of: made with the cluster, and anew by every restore.",
    "stream": "Name of the stream: a conversation, `user:ID`, `inbox:ID`, `tenant:ID`, `shard-N`; other tenants' behind `TENANT/`.",
    "first_version": "Version in the stream of the first event.",
    "events": "How many events the commit has.",
    "types": "Their types, each pair of type and schema once, separated by commas.",
    "schemas": "The schema version of each of `types`.",
    "trace_id": "Trace of the command, if it had one.",
    "traceparent": "The same as W3C trace context, if the trace id is one.",
}
_ALWAYS = tuple(name for name in _HEADERS if not name.startswith("trace"))


def asyncapi() -> Schema:
    """The document, AsyncAPI 3.0."""
    registry = Registry(EVENT_CLASSES)
    partitions = partitions_for(SHARD_COUNT_DEFAULT)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Minutebook: the event log on Kafka",
            "version": "1",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "commits": {
                "address": f"{TOPIC_PREFIX}.{{cluster_id}}.commits",
                "title": "All commits of a cluster",
                "parameters": {"cluster_id": {"description": "Name of the cluster.", "default": "main"}},
                "messages": {"commit": {"$ref": "#/components/messages/commit"}},
                "bindings": {"kafka": _topic_binding(partitions)},
            }
        },
        "operations": {
            "relayCommits": {
                "action": "send",
                "summary": "The relay sends each commit after it is durable.",
                "channel": {"$ref": "#/channels/commits"},
                "messages": [{"$ref": "#/channels/commits/messages/commit"}],
            }
        },
        "components": {"messages": {"commit": _message()}, "schemas": _schemas(registry)},
    }


def _topic_binding(partitions: int) -> Schema:
    configs = topic_spec("any", partitions, 3).configs
    return {
        "partitions": partitions,
        "replicas": 3,
        "topicConfiguration": {
            "cleanup.policy": [configs["cleanup.policy"]],
            "retention.ms": int(configs["retention.ms"]),
            "retention.bytes": int(configs["retention.bytes"]),
            "max.message.bytes": int(configs["max.message.bytes"]),
        },
        "bindingVersion": "0.5.0",
    }


def _message() -> Schema:
    return {
        "name": "commit",
        "title": "One commit",
        "summary": "What one command did: one or more events of one stream, atomic.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "Copies of what the value says, as UTF-8 text; readers refuse a record whose copies differ.",
            "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS.items()},
            "required": list(_ALWAYS),
        },
        "payload": {"$ref": _REF.format(name="Frame")},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "Name of the stream."},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _schemas(registry: Registry) -> Schema:
    """The frame, each stored event, and what those refer to."""
    kinds = list(registry)
    classes = [kind.event_class for kind in kinds]
    _, parts = msgspec.json.schema_components(classes, ref_template=_REF)
    helpers = {
        name: schema for name, schema in parts.items() if name not in {one.__name__ for one in classes}
    }
    events = {kind.name: _stored(kind, parts[kind.event_class.__name__]) for kind in kinds}
    return {"Frame": _frame(sorted(events)), **dict(sorted(events.items())), **helpers}


def _frame(names: list[str]) -> Schema:
    hexadecimal = {"type": "string", "pattern": f"^[0-9a-f]{{{2 * KEY_BYTES}}}$"}
    digest = {"type": "string", "pattern": f"^[0-9a-f]{{{2 * DIGEST_BYTES}}}$"}
    counted = {"type": "integer", "minimum": 1}
    properties = {
        "log_id": {"type": "string"},
        "shard": {"type": "integer", "minimum": 0},
        "position": counted,
        "epoch": {"type": "integer", "minimum": 0},
        "stream": {"type": "string"},
        "first_version": counted,
        "first_number": {**counted, "description": "Running number in the shard of the first event."},
        "key": {**hexadecimal, "description": "The command's key."},
        "payload_digest": {"type": "string", "description": "Keyed digest of the command's payload."},
        "at": {"type": "integer", "description": "Milliseconds since 1970 UTC; never falls in a shard."},
        "previous": {
            **digest,
            "description": "SHA-256 of the frame before in the shard; zeros for the first.",
        },
        "events": {
            "type": "array",
            "minItems": 1,
            "items": {"oneOf": [{"$ref": _REF.format(name=name)} for name in names]},
        },
    }
    return {
        "type": "object",
        "description": f"A commit, at most {FRAME_BYTES_MAX} bytes of JSON; fields in this order.",
        "properties": properties,
        "required": list(properties),
    }


def _stored(kind: EventType, whole: Schema) -> Schema:
    """An event as it stands in a frame: its clear part as `data`, its free-form part as `body`."""
    properties: Schema = {
        "type": {"const": kind.name},
        "schema": {"type": "integer", "minimum": 1, "description": f"Described here: {kind.version}."},
        "actor": {"type": "string", "description": "User id of whoever caused it, or `system`."},
    }
    required = ["type", "schema", "actor", "data"]
    if kind.event_class.PUBLIC:
        properties["seq"] = {"type": "integer", "minimum": 1, "description": "Seq in the conversation."}
        required.append("seq")
    for name in ("correlation_id", "causation_id", "trace_id"):
        properties[name] = {"type": "string"}
    properties["data"] = _part(kind, whole, kind.clear_fields)
    if kind.body_fields:
        sealed = {"type": "string", "description": "Sealed under the key `key_id`."}
        properties["key_id"] = {"type": "string", "description": "`plain`: the body is not sealed."}
        properties["body"] = {"oneOf": [_part(kind, whole, kind.body_fields), sealed]}
        required += ["key_id", "body"]
    return {
        "type": "object",
        "description": whole.get("description", ""),
        "properties": properties,
        "required": required,
    }


def _part(kind: EventType, whole: Schema, names: tuple[str, ...]) -> Schema:
    stored = {field.name: field.encode_name for field in msgspec.structs.fields(kind.event_class)}
    wanted = [stored[name] for name in names]
    required = [name for name in wanted if name in whole.get("required", ())]
    part: Schema = {"type": "object", "properties": {name: whole["properties"][name] for name in wanted}}
    return {**part, "required": required} if required else part


def asyncapi_text() -> str:
    """The document, indented, with a newline at its end."""
    return json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(asyncapi_text())
