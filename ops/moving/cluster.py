"""A cluster's databases as a place that a log is moved from or to. All of its processes are stopped meanwhile."""

from __future__ import annotations

import asyncio
import secrets as random_secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from pymongo.uri_parser import parse_uri

from eventlog import mongo_moving as moving
from eventlog.kafka_admin import KafkaAdmin
from eventlog.kafka_branch import check_branch
from eventlog.kafka_topic import check_owner, topic_name
from eventlog.mongo import MongoLog
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_errors import MongoFailure
from eventlog.mongo_schema import COMMITS, LOG, LogDocument, prepare, read_log
from eventlog.mongo_secrets import MongoSecrets
from eventlog.mongo_server import connected, opening_failure
from ops.cluster import SECRETS_SUFFIX, VIEWS_SUFFIX, address_of, kafka_settings
from ops.moving.transfer import MoveRefusedError, Source, check_destination, nothing_arrived
from ops.settings import ClusterModel

R = TypeVar("R")

LEAVING_TRIES = 20
LEAVING_PAUSE_S = 0.1
"""How long connections of a process that just ended may still be told of."""


class ClusterSource:
    """Databases that no process serves, as far as their server tells."""

    def __init__(self, place: str, driver: MongoDriver, log: MongoLog, secrets: MongoSecrets) -> None:
        self._driver = driver
        self.place = place
        self.log = log
        self.secrets = secrets
        self.moved_to = log.document.moved_to
        self.former_log_ids: Sequence[str] = log.document.former_log_ids

    async def close_for_writing(self, place: str) -> None:
        """See the port. The server itself refuses commits from then on, also those of a process that was not seen."""
        await told(moving.close_for_writing(self._driver, place))

    async def open_for_writing(self) -> None:
        """See the port."""
        await told(moving.open_for_writing(self._driver))


class ClusterTarget:
    """Databases whose log says that it is not whole, until it is."""

    def __init__(self, place: str, driver: MongoDriver, log: MongoLog, secrets: MongoSecrets) -> None:
        self._driver = driver
        self.place = place
        self.log = log
        self.secrets = secrets
        self.is_whole = not log.document.is_arriving

    async def call_whole(self, former_log_ids: Sequence[str]) -> None:
        """See the port."""
        await told(moving.call_whole(self._driver, former_log_ids))


@asynccontextmanager
async def cluster_source(cluster: ClusterModel) -> AsyncIterator[ClusterSource]:
    """The log and the secrets of the cluster that the settings name.

    Raises MoveRefusedError, SettingsError, LogMismatchError, LogUnavailableError, SecretsUnavailableError.
    """
    async with AsyncExitStack() as stack:
        place, driver = await entered(cluster, stack)
        document = await told(prepare(driver, None, cluster.cluster_id, None))
        await told(moving.check_may_close(driver))
        log = MongoLog(driver, document, read_only=True)
        secrets = await MongoSecrets.open(driver, cluster.mongodb_database + SECRETS_SUFFIX)
        stack.push_async_callback(secrets.close)
        yield ClusterSource(place, driver, log, secrets)


@asynccontextmanager
async def cluster_target(
    cluster: ClusterModel, source: Source, *, make: bool = True
) -> AsyncIterator[ClusterTarget]:
    """The databases that the settings name: empty, or with what an earlier move of the same log brought; only the latter unless it may
    be made.

    Raises as `cluster_source`, and TopicMismatchError, CarrierUnavailableError.
    """
    async with AsyncExitStack() as stack:
        place, driver = await entered(cluster, stack)
        check_destination(source, place)
        found = await told(read_log(driver))
        if found is None and not make:
            raise nothing_arrived(source, place)
        if found is None:
            await told(_check_free(driver, cluster.mongodb_database, stack))
            await _check_topic(cluster, source)
        else:
            _check_same(place, found, source)
        # Over the same driver: what it wrote is what its reads must show.
        log = await MongoLog.open(
            driver,
            cluster.mongodb_database,
            source.log.shard_count,
            cluster_id=cluster.cluster_id,
            log_id=source.log.log_id,
            arriving=True,
        )
        stack.push_async_callback(log.close)
        secrets = await MongoSecrets.open(driver, cluster.mongodb_database + SECRETS_SUFFIX)
        stack.push_async_callback(secrets.close)
        yield ClusterTarget(place, driver, log, secrets)


async def entered(cluster: ClusterModel, stack: AsyncExitStack) -> tuple[str, MongoDriver]:
    """What the place is called, and a driver of the log's database, which nobody else uses now.

    Raises MoveRefusedError if somebody does, SettingsError, LogMismatchError, LogUnavailableError.
    """
    uri, database = address_of(cluster, "mongodb_uri"), cluster.mongodb_database
    own = moving.moving_as(database, random_secrets.token_hex(8))
    driver = await connected(uri, database, None, {"application": own})
    stack.push_async_callback(driver.close)
    hosts = await asyncio.to_thread(
        lambda: sorted(f"{host}:{port}" for host, port in parse_uri(uri)["nodelist"])
    )
    await told(_check_unused(driver, own))
    return f"the database {database} at {', '.join(hosts)}", driver


async def _check_unused(driver: MongoDriver, own: str) -> None:
    users: Sequence[str] = ()
    for _ in range(LEAVING_TRIES):
        users = await moving.users_of(driver, own)
        if not users:
            return
        await asyncio.sleep(LEAVING_PAUSE_S)
    raise MoveRefusedError(
        f"processes of Minutebook use the database {driver.database} ({', '.join(users)}): stop all of its roles, and other"
        " moves, first"
    )


async def _check_free(driver: MongoDriver, database: str, stack: AsyncExitStack) -> None:
    """Nothing of ours or of anybody else's may be there: neither log nor secrets nor views."""
    for name, allowed in (
        (database, {COMMITS, LOG}),
        (database + SECRETS_SUFFIX, set()),
        (database + VIEWS_SUFFIX, set()),
    ):
        beside = driver.beside(name)
        stack.push_async_callback(beside.close)
        others = set(await beside.collections()) - allowed
        if others:
            raise MoveRefusedError(
                f"the database {name} is not empty (it holds {min(others)}): drop it, or choose another cluster.mongodb_database"
            )


def _check_same(place: str, found: LogDocument, source: Source) -> None:
    if found.log_id != source.log.log_id:
        raise MoveRefusedError(
            f"{place} holds another log already: choose another cluster.mongodb_database, or drop it"
        )


async def _check_topic(cluster: ClusterModel, source: Source) -> None:
    """A topic of that name must carry nothing but this log: the cluster would refuse to relay to it afterwards."""
    kafka = kafka_settings(cluster)
    topic = topic_name(cluster.cluster_id)
    async with KafkaAdmin.connected(kafka) as admin:
        facts = await admin.describe(topic)
    if facts is not None:
        newest = await check_owner(
            kafka, topic, facts.partitions, {source.log.log_id, *source.former_log_ids}
        )
        await check_branch(topic, newest, source.log)


async def told(call: Awaitable[R]) -> R:
    """The answer. Raises LogMismatchError, LogUnavailableError for the driver's errors."""
    try:
        return await call
    except MongoFailure as error:
        raise opening_failure(error) from error
