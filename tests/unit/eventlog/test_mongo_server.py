"""What is refused before, or at, the first word with a MongoDB; no server is needed."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from eventlog.mongo_driver import DriverClosedError
from eventlog.mongo_errors import is_certainly_nothing, named, reply_failure, write_failure
from eventlog.mongo_server import check_kind, check_uri, opening_failure
from eventlog.port import LogMismatchError, LogUnavailableError, OutcomeUnknownError

HOST = "mongodb://user:hunter2@db.example:27017/"


@pytest.mark.parametrize(
    "uri, words",
    [
        ("", "is not valid"),
        ("db.example:27017", "is not valid"),
        ("http://db.example", "is not valid"),
        ("mongodb://user:hun@ter2@db.example", "is not valid"),
        ("mongodb://db.example:port", "is not valid"),
        (f"{HOST}?w=1", "asks for w=1"),
        (f"{HOST}?w=0", "asks for w=0"),
        (f"{HOST}?w=2", "asks for w=2"),
        (f"{HOST}?journal=false", "asks for journal=False"),
        (f"{HOST}?readConcernLevel=local", "asks for readconcernlevel=local"),
        (f"{HOST}?readPreference=secondaryPreferred", "asks for readpreference=secondaryPreferred"),
    ],
)
async def test_a_uri_that_will_not_do(uri: str, words: str) -> None:
    with pytest.raises(LogMismatchError) as caught:
        await check_uri(uri)
    assert words in str(caught.value)
    assert "ter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        HOST,
        "mongodb://one,two,three/?replicaSet=rs0",
        f"{HOST}?w=majority&journal=true&wTimeoutMS=1&readConcernLevel=majority&readPreference=primary",
        f"{HOST}?retryWrites=true&tls=true",
    ],
)
async def test_a_uri_that_will_do(uri: str) -> None:
    await check_uri(uri)


MEMBER = {"setName": "rs0", "isWritablePrimary": True}


@pytest.mark.parametrize(
    "hello, version, words",
    [
        (MEMBER, [4, 4, 29, 0], "MongoDB 4.4.29 is too old: 6.0 or newer"),
        ({}, [6, 0, 27, 0], "stands alone"),
        ({"msg": "isdbgrid"}, [6, 0, 27, 0], "mongos"),
    ],
)
def test_a_server_that_will_not_do(hello: dict[str, Any], version: list[int], words: str) -> None:
    build = {"version": ".".join(map(str, version[:3])), "versionArray": version}
    with pytest.raises(LogMismatchError, match=words):
        check_kind(hello, build)


@pytest.mark.parametrize("version", [[6, 0, 0, 0], [6, 0, 27, 0], [8, 1, 0, 0]])
def test_a_server_that_will_do(version: list[int]) -> None:
    check_kind(MEMBER, {"version": "any", "versionArray": version})


def failure(code: int, name: str = "") -> OperationFailure:
    """A command's failure; its words could quote a document."""
    return OperationFailure("secret words", code, {"code": code, "codeName": name, "errmsg": "secret words"})


@pytest.mark.parametrize(
    "error",
    [
        ServerSelectionTimeoutError("no servers"),
        WaitQueueTimeoutError("no socket"),
        DriverClosedError("db"),
        failure(13, "Unauthorized"),
        failure(18, "AuthenticationFailed"),
    ],
)
def test_what_was_never_sent_or_not_looked_at_is_certainly_nothing(error: Exception) -> None:
    assert is_certainly_nothing(error)
    assert isinstance(write_failure(error, begun=False), LogUnavailableError)
    # Unless an earlier command of the same flush was sent.
    assert isinstance(write_failure(error, begun=True), OutcomeUnknownError)


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("not primary", {"code": 10107, "codeName": "NotWritablePrimary"}),
        NotPrimaryError("stepped down", {"code": 189}),
        failure(11602, "InterruptedDueToReplStateChange"),
        failure(91, "ShutdownInProgress"),
        failure(50, "MaxTimeMSExpired"),
        WTimeoutError("waiting for replication timed out", 64, {"code": 64}),
    ],
)
def test_everything_else_is_unknown(error: Exception) -> None:
    assert isinstance(write_failure(error, begun=False), OutcomeUnknownError)


DUPLICATE = {"index": 0, "code": 11000, "keyPattern": {"_id": 1}}


@pytest.mark.parametrize(
    "reply, words",
    [
        ({"n": 1}, None),
        ({"n": 0, "writeErrors": [DUPLICATE]}, None),
        ({"n": 1, "writeConcernError": {"code": 64}}, "write concern"),
        ({"n": 0, "writeErrors": [DUPLICATE], "writeConcernError": {"code": 64}}, "write concern"),
        ({"n": 0, "writeErrors": [{"index": 0, "code": 121, "errmsg": "secret words"}]}, "code 121"),
    ],
)
def test_a_reply_is_believed_only_without_a_write_concern_error(
    reply: dict[str, Any], words: str | None
) -> None:
    said = reply_failure(reply)
    assert (said is None) == (words is None)
    assert words is None or words in (said or "")
    assert "secret" not in (said or "")


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (failure(18), LogMismatchError, "the user name or the password"),
        (failure(13), LogMismatchError, "readWrite"),
        (failure(85), LogMismatchError, "index"),
        (failure(86), LogMismatchError, "index"),
        (failure(11600, "InterruptedAtShutdown"), LogUnavailableError, "11600 InterruptedAtShutdown"),
        (AutoReconnect("db:27017: connection closed"), LogUnavailableError, "db:27017: connection closed"),
        (ServerSelectionTimeoutError("db:27017: refused, Timeout: 5s"), LogUnavailableError, "is it running"),
    ],
)
def test_opening_says_what_is_wrong(error: Exception, kind: type[Exception], words: str) -> None:
    told = opening_failure(error)
    assert isinstance(told, kind)
    assert words in str(told)


def test_no_words_of_the_server_enter_a_message() -> None:
    assert (
        named(failure(121, "DocumentValidationFailure"))
        == "MongoDB: OperationFailure 121 DocumentValidationFailure"
    )
    reply = "{'errmsg': 'secret words'}"
    assert "secret" not in named(NotPrimaryError(f"not primary, full error: {reply}", {"code": 10107}))
