"""Where the servers of a cluster are: set, masked, and refused when wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.carrying import Where, kafka_of, where_of
from ops.settings import Settings, SettingsError, load_settings


def test_addresses_are_shown_without_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINUTEBOOK_CLUSTER__MONGODB_URI", "mongodb://app:hunter2@db:27017/minutebook")
    monkeypatch.setenv("MINUTEBOOK_CLUSTER__REDIS_URL", "rediss://:hunter2@cache/0")
    settings = load_settings()
    shown = settings.shown()["cluster"]
    assert shown["mongodb_uri"] == "mongodb://********@db:27017/minutebook"
    assert shown["redis_url"] == "rediss://********@cache/0"
    assert "hunter2" not in json.dumps(settings.shown())
    assert "hunter2" not in repr(settings)


def test_a_wrong_cluster_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINUTEBOOK_CLUSTER__CLUSTER_ID", "my cluster")
    with pytest.raises(SettingsError, match="MINUTEBOOK_CLUSTER__CLUSTER_ID"):
        load_settings()


def test_options_win_over_settings_and_a_database_over_a_folder() -> None:
    nothing = load_settings()
    uri = "mongodb://db/ours"
    cluster = Settings.model_validate({"cluster": {"mongodb_uri": uri, "kafka_bootstrap": "kafka:9092"}})
    assert where_of(nothing, None, None) == Where(data=Path("data"))
    assert where_of(cluster, None, None) == Where(mongodb_uri=uri, mongodb_database="ours")
    assert where_of(cluster, Path("other"), None) == Where(data=Path("other"))
    assert where_of(nothing, None, "mongodb://db") == Where(
        mongodb_uri="mongodb://db", mongodb_database="minutebook"
    )
    assert kafka_of(cluster, None).bootstrap == "kafka:9092"
    assert kafka_of(cluster, "here:1").bootstrap == "here:1"
    with pytest.raises(SettingsError, match="not both"):
        where_of(nothing, Path("data"), uri)
    with pytest.raises(SettingsError, match="give --kafka"):
        kafka_of(nothing, None)
    with pytest.raises(SettingsError, match="--mongodb"):
        where_of(nothing, None, "postgres://db")


def test_a_busy_owner_of_a_cluster_gathers_for_longer_unless_told_otherwise() -> None:
    cluster = {"cluster": {"mongodb_uri": "mongodb://127.0.0.1/"}}
    assert load_settings().node_settings().flush_busy_pace_ms < 4
    assert load_settings(None, cluster).node_settings().flush_busy_pace_ms == 10
    told = cluster | {"node": {"flush_busy_pace_ms": 5}}
    assert load_settings(None, told).node_settings().flush_busy_pace_ms == 5
