"""Kafka's topics: asked, made and deleted. Beside the driver the only module that touches aiokafka."""

# ruff: noqa: SLF001 - What a broker said of itself stands in the client's private fields.
from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from eventlog.carrier import CarrierUnavailableError, TopicMismatchError
from eventlog.kafka_driver import asked, part_from, reaching
from eventlog.kafka_settings import KafkaSettings

OLDEST_VERSION = "3.9"
_FETCH = 1
_FETCH_OF_OLDEST = 17
"""The version of fetch requests that came with OLDEST_VERSION: a broker tells of those, not of its own version."""
_NO_ERROR = 0
_UNKNOWN_TOPIC = 3
_TOPIC_EXISTS = 36


class TopicExistsError(Exception):
    """Somebody made the topic in the meantime."""


class TopicFacts(msgspec.Struct, frozen=True):
    """What a topic is. `configs`: all of its settings in force."""

    partitions: int
    replicas: int
    configs: Mapping[str, str]


class KafkaAdmin:
    """A connection for asking and ordering. Every call raises CarrierUnavailableError."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: KafkaSettings) -> AsyncIterator[Self]:
        """Connect; closed at the end."""
        client = AIOKafkaAdminClient(
            bootstrap_servers=settings.bootstrap,
            client_id=settings.client_id,
            request_timeout_ms=settings.request_timeout_ms,
        )
        try:
            await reaching(settings, client.start())
            yield cls(client)
        finally:
            await part_from(client)

    async def check_version(self) -> None:
        """Raises TopicMismatchError if the broker that is asked is too old."""
        client = self._client._client
        await asked(client.ready(client.get_random_node()))
        for connection in client._conns.values():
            check_requests(connection._versions)

    async def brokers(self) -> int:
        """How many brokers there are now."""
        told = await asked(self._client.describe_cluster())
        return len(told["brokers"])

    async def describe(self, name: str) -> TopicFacts | None:
        """What the topic is, None if there is none."""
        (told,) = await asked(self._client.describe_topics([name]))
        if told["error_code"] == _UNKNOWN_TOPIC:
            return None
        _check(told["error_code"], f"describe {name}")
        partitions = told["partitions"]
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        (answer,) = await asked(self._client.describe_configs([resource]))
        (configs,) = answer.to_object()["resources"]
        _check(configs["error_code"], f"describe the settings of {name}")
        return TopicFacts(
            len(partitions),
            min((len(partition["replicas"]) for partition in partitions), default=0),
            {entry["config_names"]: entry["config_value"] for entry in configs["config_entries"]},
        )

    async def create(self, name: str, partitions: int, replicas: int, configs: Mapping[str, str]) -> None:
        """Make a topic. Raises TopicExistsError."""
        topic = NewTopic(name, partitions, replicas, topic_configs=dict(configs))
        answer = await asked(self._client.create_topics([topic]))
        (told,) = answer.to_object()["topic_errors"]
        if told["error_code"] == _TOPIC_EXISTS:
            raise TopicExistsError(name)
        _check(told["error_code"], f"make {name}: {told['error_message']}")

    async def delete(self, name: str) -> None:
        """Delete a topic with everything in it; one that is not there is no error."""
        answer = await asked(self._client.delete_topics([name]))
        for _, code in answer.topic_error_codes:
            if code not in (_NO_ERROR, _UNKNOWN_TOPIC):
                _check(code, f"delete {name}")


def check_requests(versions: Mapping[int, tuple[int, int]]) -> None:
    """What a broker takes, by kind of request: (lowest, highest version). Raises TopicMismatchError if it is too old."""
    highest = versions.get(_FETCH, (0, _FETCH_OF_OLDEST))[1]
    if highest < _FETCH_OF_OLDEST:
        raise TopicMismatchError(
            f"this Kafka is too old: {OLDEST_VERSION} or newer is needed (it knows fetch requests up to version {highest}, not"
            f" {_FETCH_OF_OLDEST})"
        )


def _check(code: int, deed: str) -> None:
    if code != _NO_ERROR:
        raise CarrierUnavailableError(f"Kafka refused to {deed} (error {code})")
