"""How Kafka is reached and what its clients are told. Nothing here knows a client; the options bear aiokafka's names."""

from __future__ import annotations

from typing import Any

import msgspec

BATCH_BYTES_MAX = 256 * 1024
"""A batch is closed above that; a single larger record goes alone."""
FETCH_BYTES_MAX = 8 * 1024 * 1024


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach Kafka, and how long to wait for it.

    `request_timeout_ms` bounds one request, `send_timeout_ms` a batch with all its repetitions inside the client. A member of a group that
    died is missed after `session_timeout_ms`, which Kafka's own settings allow no shorter; the others hear of it within `heartbeat_ms`.
    """

    bootstrap: str
    client_id: str = "minutebook"
    request_timeout_ms: int = 5_000
    send_timeout_ms: int = 15_000
    retry_back_off_ms: int = 100
    metadata_age_ms_max: int = 60_000
    session_timeout_ms: int = 6_000
    heartbeat_ms: int = 1_000
    poll_interval_ms_max: int = 300_000


def producer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Every option of the producer that is not left to the client."""
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": settings.client_id,
        "acks": "all",
        # Its batches carry numbers, so a repetition inside the client is no duplicate; and one batch per partition is in
        # flight, so none overtakes another.
        "enable_idempotence": True,
        # We hand over closed batches; waiting for more would only delay them.
        "linger_ms": 0,
        "max_batch_size": BATCH_BYTES_MAX,
        "request_timeout_ms": settings.request_timeout_ms,
        "retry_backoff_ms": settings.retry_back_off_ms,
        "metadata_max_age_ms": settings.metadata_age_ms_max,
    }


def consumer_options(settings: KafkaSettings, group: str | None) -> dict[str, Any]:
    """Every option of a consumer that is not left to the client."""
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": settings.client_id,
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        # Nobody of ours writes in transactions; somebody else's unfinished one must not hold the topic up for ever, but
        # what it has aborted is nothing.
        "isolation_level": "read_committed",
        "check_crcs": True,
        "fetch_max_bytes": FETCH_BYTES_MAX,
        "max_partition_fetch_bytes": FETCH_BYTES_MAX,
        "request_timeout_ms": settings.request_timeout_ms,
        "retry_backoff_ms": settings.retry_back_off_ms,
        "metadata_max_age_ms": settings.metadata_age_ms_max,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.heartbeat_ms,
        "max_poll_interval_ms": settings.poll_interval_ms_max,
    }
