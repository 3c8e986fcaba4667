"""What a topic must be, and what is said when it is otherwise."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.carrier import TopicMismatchError, partition_of
from eventlog.kafka_admin import TopicFacts
from eventlog.kafka_settings import KafkaSettings, consumer_options, producer_options
from eventlog.kafka_topic import check_topic, partitions_for, topic_name, topic_spec
from eventlog.record import FRAME_BYTES_MAX

SPEC = topic_spec("minutebook.main.commits", 4, 3)
FACTS = TopicFacts(4, 3, {**SPEC.configs, "segment.bytes": "1073741824"})


@pytest.mark.parametrize("brokers, replicas, in_sync", [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_copies_go_by_the_number_of_brokers(brokers: int, replicas: int, in_sync: str) -> None:
    spec = topic_spec("any", 1, brokers)
    assert (spec.replicas, spec.configs["min.insync.replicas"]) == (replicas, in_sync)


def test_a_topic_as_it_must_be_is_good() -> None:
    check_topic(FACTS, SPEC)
    more = {**FACTS.configs, "max.message.bytes": "9000000", "min.insync.replicas": "3"}
    check_topic(TopicFacts(4, 3, more), SPEC)
    # A topic that was made when there was one broker.
    check_topic(TopicFacts(4, 1, {**FACTS.configs, "min.insync.replicas": "1"}), SPEC)


@pytest.mark.parametrize(
    "key, value",
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1"),
        ("cleanup.policy", "compact"),
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
        ("max.message.bytes", str(FRAME_BYTES_MAX)),
        ("message.timestamp.after.max.ms", "3600000"),
    ],
)
def test_a_setting_that_could_lose_or_refuse_a_record_is_one_line(key: str, value: str) -> None:
    facts = msgspec.structs.replace(FACTS, configs={**FACTS.configs, key: value})
    with pytest.raises(TopicMismatchError) as told:
        check_topic(facts, SPEC)
    assert f"({key} is {value})" in str(told.value)
    assert f"--add-config {key}={SPEC.configs[key]}" in str(told.value)
    assert "\n" not in str(told.value)


def test_an_old_broker_that_does_not_know_a_setting_is_no_error() -> None:
    known = {key: value for key, value in FACTS.configs.items() if not key.startswith("message.timestamp")}
    check_topic(TopicFacts(4, 3, known), SPEC)


@given(st.integers(1, 4_096), st.integers(0, 4_096))
def test_every_partition_holds_whole_shards(shards: int, shard: int) -> None:
    partitions = partitions_for(shards)
    assert 1 <= partitions <= 64
    assert shards % partitions == 0
    assert 0 <= partition_of(shard, partitions) < partitions


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 250])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no cluster id"):
        topic_name(name)


def test_nothing_that_matters_is_left_to_the_client() -> None:
    settings = KafkaSettings(bootstrap="here:1")
    producer, consumer = producer_options(settings), consumer_options(settings, "group")
    assert (producer["acks"], producer["enable_idempotence"], producer["linger_ms"]) == ("all", True, 0)
    assert (consumer["enable_auto_commit"], consumer["auto_offset_reset"]) == (False, "earliest")
