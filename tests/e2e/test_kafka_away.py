"""A server whose Kafka is not where its settings say: it says so, and serves all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.rest import RestClient
from eventlog.mongo_driver import MongoDriver
from tests.e2e.process import ServerProcess
from tests.integration.house import content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(180)]

PASSWORD = "a quiet afternoon"


@pytest.mark.parametrize("bootstrap", ["127.0.0.1:1", "no-such-host.invalid:9092"])
async def test_what_is_durable_waits_for_kafka(
    tmp_path: Path, mongodb_uri: str, mongodb_database: str, redis_url: str, bootstrap: str
) -> None:
    names = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": mongodb_database, "CLUSTER_ID": mongodb_database}
    names |= {"KAFKA_BOOTSTRAP": bootstrap, "REDIS_URL": redis_url}
    environment = {f"MINUTEBOOK_CLUSTER__{name}": value for name, value in names.items()}
    server = ServerProcess(tmp_path / "node", environment=environment)
    await server.start()
    try:
        async with RestClient(server.url) as rest:
            await rest.create_user("ann", PASSWORD)
            ann = rest.as_user((await rest.log_in("ann", PASSWORD, "d1")).access_token)
            room = str((await ann.create_group("room", [])).conversation_id)
            assert (await ann.post(room, "m1", content("all the same"))).seq > 0
        assert (
            f"Kafka at {bootstrap} cannot be reached; start it, or mend cluster.kafka_bootstrap" in server.log
        )
        assert await server.stop() == 0
        assert "Traceback" not in server.log
    finally:
        await server.kill()
        for ending in ("_secrets", "_views"):
            driver = MongoDriver.connect(mongodb_uri, mongodb_database + ending)
            await driver.command({"dropDatabase": 1})
            await driver.close()
