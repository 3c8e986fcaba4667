"""What a MongoDB must be to hold the record, checked when a store is opened: one clear line says what is wrong and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from pymongo.errors import (
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import parse_uri

from eventlog.mongo_driver import MongoDriver, MongoTimeouts
from eventlog.mongo_errors import AUTHENTICATION_FAILED, UNAUTHORIZED, MongoFailure, named
from eventlog.port import LogMismatchError, LogUnavailableError

_log = structlog.get_logger(__name__)

MongoPlace = str | MongoDriver
"""A URI, or a driver whose client is shared and whose server was looked at already."""
OLDEST_VERSION = (6, 0)
"""What we run against. 5.0 is the first whose own default is majority, too (Jepsen found lost writes under every weaker one)."""
_INDEX_CONFLICTS = frozenset({85, 86})


async def connected(
    uri: MongoPlace, database: str, timeouts: MongoTimeouts | None, driver_options: Mapping[str, Any]
) -> MongoDriver:
    """A driver whose server will do; over the client of another driver if one is given. Raises LogMismatchError, LogUnavailableError."""
    if isinstance(uri, MongoDriver):
        return uri.beside(database)
    await check_uri(uri)
    try:
        driver = MongoDriver.connect(uri, database, timeouts=timeouts, **driver_options)
    except MongoFailure as error:
        raise opening_failure(error) from error
    try:
        await check_server(driver)
    except BaseException:
        await driver.close()
        raise
    return driver


async def check_uri(uri: str) -> None:
    """Raises LogMismatchError for a URI that is none, or that asks for weaker writes or reads than the record needs.

    Its options would be overruled anyway; refusing tells whoever wrote them. A `mongodb+srv` name is looked up.
    """
    try:
        parsed: Mapping[str, Any] = await asyncio.to_thread(parse_uri, uri)
    except (PyMongoError, ValueError) as error:
        # The driver's message may quote the URI, and with it a password.
        kind = "is not valid" if isinstance(error, (InvalidURI, ValueError)) else "cannot be used"
        raise LogMismatchError(
            f"the MongoDB URI {kind} ({type(error).__name__}): write mongodb://user:password@host:port/?replicaSet=name,"
            " with : / ? # [ ] @ in the password percent-encoded"
        ) from None
    options = {name.lower(): value for name, value in parsed["options"].items()}
    wanted = {"w": "majority", "journal": True, "readconcernlevel": "majority", "readpreference": "primary"}
    for name, value in wanted.items():
        given = options.get(name, value)
        if given != value:
            raise LogMismatchError(
                f"the MongoDB URI asks for {name}={given}: the log is only safe with {name}={value};"
                " leave the option out"
            )


async def check_server(driver: MongoDriver) -> None:
    """Connect, and look at the server. Raises LogMismatchError (it will not do as it is), LogUnavailableError."""
    try:
        hello = await driver.admin("hello")
        build = await driver.admin("buildInfo")
        check_kind(hello, build)
        await _check_majority(driver)
    except (PyMongoError, OSError) as error:
        raise opening_failure(error) from error


def check_kind(hello: Mapping[str, Any], build: Mapping[str, Any]) -> None:
    """Raises LogMismatchError for a server that is too old or no member of a replica set, by its own description."""
    version = tuple(build.get("versionArray", ()))[:2]
    if version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise LogMismatchError(f"MongoDB {build.get('version')} is too old: {oldest} or newer is needed")
    if hello.get("msg") == "isdbgrid":
        raise LogMismatchError(
            "this is a mongos of a sharded cluster; the log needs a replica set: give its URI"
        )
    if not hello.get("setName"):
        raise LogMismatchError(
            "this mongod stands alone and cannot promise a majority: start it with --replSet and initiate the set"
            " (one member will do)"
        )


async def _check_majority(driver: MongoDriver) -> None:
    """A majority that counts members before their journals have it can lose what it confirmed."""
    try:
        reply = await driver.admin("replSetGetConfig")
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        _log.info("the replica set's configuration may not be read, so it was not checked")
        return
    if reply["config"].get("writeConcernMajorityJournalDefault") is False:
        raise LogMismatchError(
            "the replica set has writeConcernMajorityJournalDefault: false, so majority reads may show what a crash"
            " takes back: set it to true (replSetReconfig)"
        )


def opening_failure(error: Exception) -> LogMismatchError | LogUnavailableError:
    """An error of the driver while a store is opened, in words."""
    if isinstance(error, OperationFailure):
        if error.code == AUTHENTICATION_FAILED:
            return LogMismatchError("MongoDB refuses the user name or the password of the URI")
        if error.code == UNAUTHORIZED:
            return LogMismatchError(
                "the MongoDB user may not do what the log needs: give it the role readWrite on its databases"
            )
        if error.code in _INDEX_CONFLICTS:
            return LogMismatchError(
                "the database has an index of the same name or keys that differs from ours"
            )
    if isinstance(error, ConfigurationError):
        return LogMismatchError(f"the MongoDB URI or server cannot be used ({type(error).__name__})")
    if isinstance(error, ServerSelectionTimeoutError):
        return LogUnavailableError(f"{named(error)}; is it running, and does the URI name its replica set?")
    return LogUnavailableError(named(error))
