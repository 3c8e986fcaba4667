"""The one module that knows motor: a MongoDB database behind exactly the calls that stores need.

Motor is deprecated in favour of PyMongo's own asynchronous client. Only what both have alike is used, so `client_class` is all that
a change of driver needs (docs/decisions/0009-motor-in-one-module.md).

Everything is written with `w: majority, j: true, wtimeout` and read at read concern `majority` from the primary. The driver repeats
nothing by itself (`retryWrites`, `retryReads` off): who writes knows how to ask again for the identical thing, and a reply stands for
one try.

A read sees everything that was answered before it (`afterClusterTime`). Majority alone would not do: a primary that was just elected
shows what a majority had some time ago, without writes that its predecessor has acknowledged.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, ReadPreference, WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.operations import DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.read_concern import ReadConcern

from eventlog.in_flight import InFlight
from eventlog.mongo_client import Connections, SharedClient

R = TypeVar("R")

Document = dict[str, Any]
WriteOperation = InsertOne[Document] | UpdateOne | UpdateMany | ReplaceOne[Document] | DeleteOne

CONNECTIONS_MAX = 32
"""Sockets to a server, at most; a call that finds none free waits, at most `select_ms`."""
APPLICATION = "minutebook"
HEARTBEAT_MS = 1_000
"""How often each server is looked at; its changes are pushed at once. After an error a server is believed again at the next look."""
READ_CONCERN = ReadConcern("majority")


class MongoTimeouts(msgspec.Struct, frozen=True):
    """How long what may take, in milliseconds.

    `write_ms` bounds the wait for the majority (`wtimeout`), `read_ms` a query on the server (`maxTimeMS`); `socket_ms` must be
    longer than both, so that the server's own answer comes first, and shorter than a caller's patience (10 s): each try ends within it.
    """

    select_ms: int = 3_000
    connect_ms: int = 3_000
    write_ms: int = 3_000
    read_ms: int = 5_000
    socket_ms: int = 7_000


class DriverClosedError(Exception):
    """The client was closed."""


class MongoDriver:
    """One client, which others may share, and one of its databases. Every call raises the errors of `pymongo.errors` and
    DriverClosedError.

    A cancelled call may still happen.
    """

    def __init__(self, shared: SharedClient, database: str, timeouts: MongoTimeouts) -> None:
        self._shared = shared
        self._client = client = shared.take()
        self._concern = WriteConcern(w="majority", j=True, wtimeout=timeouts.write_ms)
        self._database = client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=READ_CONCERN,
            write_concern=self._concern,
        )
        self._timeouts = timeouts
        self._calls = InFlight()
        self._has_left = False
        self._sessions: list[Any] = []
        self._seen: Any = None
        """The operation time of the newest reply that a majority stands behind: what later reads must show."""

    @classmethod
    def connect(
        cls,
        uri: str,
        database: str,
        *,
        timeouts: MongoTimeouts | None = None,
        listeners: Sequence[Any] = (),
        application: str = APPLICATION,
        client_class: Callable[..., Any] = AsyncIOMotorClient,
    ) -> MongoDriver:
        """A client for the running loop; it connects with its first call.

        What the URI says about concerns, retries and read preference counts for nothing. `listeners` are PyMongo's (monitoring);
        `application` is what the server calls the connections.
        Raises `pymongo.errors.ConfigurationError` for a URI that is none.
        """
        chosen = timeouts or MongoTimeouts()
        connections = Connections()
        client = client_class(
            uri,
            appname=application,
            retryWrites=False,
            retryReads=False,
            w="majority",
            journal=True,
            wTimeoutMS=chosen.write_ms,
            readPreference="primary",
            readConcernLevel="majority",
            serverSelectionTimeoutMS=chosen.select_ms,
            waitQueueTimeoutMS=chosen.select_ms,
            connectTimeoutMS=chosen.connect_ms,
            socketTimeoutMS=chosen.socket_ms,
            heartbeatFrequencyMS=HEARTBEAT_MS,
            maxPoolSize=CONNECTIONS_MAX,
            event_listeners=[connections, *listeners],
        )
        return cls(SharedClient(client, connections), database, chosen)

    def beside(self, database: str) -> MongoDriver:
        """A driver of another database, or of the same one, over the same client; to be closed by itself."""
        return MongoDriver(self._shared, database, self._timeouts)

    @property
    def database(self) -> str:
        """The name of the database."""
        return str(self._database.name)

    @property
    def write_concern(self) -> Mapping[str, Any]:
        """As it stands in every write on the wire."""
        return self._concern.document

    @property
    def connections_made(self) -> int:
        """Rises with every new connection: while it stands still, the server behind the connections is the same one."""
        return self._shared.connections.made

    async def admin(self, command: str, **arguments: Any) -> Document:
        """A command of the `admin` database; its reply."""
        return await self._run(lambda: self._client.admin.command(command, **arguments))

    async def command(self, command: Mapping[str, Any]) -> Document:
        """A command of the database, which a majority has when it is answered; its reply."""
        reply: Document = await self._run(
            lambda: self._database.command({**command, "writeConcern": self.write_concern})
        )
        self._see(reply.get("operationTime"))
        return reply

    async def collections(self) -> list[str]:
        """The names of the database's collections."""
        return sorted(await self._run(self._database.list_collection_names))

    async def insert(self, collection: str, documents: Sequence[Mapping[str, Any]]) -> Document:
        """One ordered `insert` command; the server's own reply, with its `writeErrors` and `writeConcernError` beside each other.

        Together at most 16 MB. Not `insert_many`: that merges replies, and costs half as much again for each document.
        """
        command = {"insert": collection, "ordered": True, "writeConcern": self.write_concern}
        reply: Document = await self._run(lambda: self._database.command({**command, "documents": documents}))
        if not reply.get("writeConcernError"):
            self._see(reply.get("operationTime"))
        return reply

    async def bulk_write(
        self, collection: str, operations: Sequence[WriteOperation], *, ordered: bool = True
    ) -> Any:
        """PyMongo's BulkWriteResult. Raises BulkWriteError, whose details merge the replies."""
        return await self._after(
            lambda session: self._database[collection].bulk_write(
                operations, ordered=ordered, session=session
            )
        )

    async def update_one(
        self, collection: str, filter_: Mapping[str, Any], update: Any, *, upsert: bool = False
    ) -> Any:
        """PyMongo's UpdateResult."""
        return await self._after(
            lambda session: self._database[collection].update_one(
                filter_, update, upsert=upsert, session=session
            )
        )

    async def upsert(self, collection: str, filter_: Mapping[str, Any], update: Any) -> Any:
        """`update_one` that makes the document if it is not there; of two that make it, the second one updates it."""
        try:
            return await self.update_one(collection, filter_, update, upsert=True)
        except DuplicateKeyError:
            return await self.update_one(collection, filter_, update)

    async def set_once(self, collection: str, filter_: Mapping[str, Any], update: Any) -> bool:
        """Make the document (`update` is a `$setOnInsert`) if it is not there; whether it was made.

        False says nothing about what stands there: read it, since it may not be durable yet.
        """
        try:
            result = await self.update_one(collection, filter_, update, upsert=True)
        except DuplicateKeyError:
            return False
        return result.upserted_id is not None

    async def delete_one(self, collection: str, filter_: Mapping[str, Any]) -> int:
        """How many were deleted: 0 or 1."""
        result = await self._after(
            lambda session: self._database[collection].delete_one(filter_, session=session)
        )
        return int(result.deleted_count)

    async def delete_many(self, collection: str, filter_: Mapping[str, Any]) -> int:
        """How many were deleted."""
        result = await self._after(
            lambda session: self._database[collection].delete_many(filter_, session=session)
        )
        return int(result.deleted_count)

    async def find(
        self,
        collection: str,
        filter_: Mapping[str, Any],
        *,
        limit: int,
        sort: Sequence[tuple[str, int]] = (),
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """At most `limit` documents; `fields` None brings all of them."""
        if limit <= 0:
            return []

        def call(session: Any) -> Awaitable[list[Document]]:
            cursor = self._database[collection].find(
                filter_,
                fields,
                limit=limit,
                sort=list(sort) or None,
                batch_size=limit,
                max_time_ms=self._timeouts.read_ms,
                session=session,
            )
            found: Awaitable[list[Document]] = cursor.to_list(limit)
            return found

        return await self._after(call)

    async def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], *, limit: int
    ) -> list[Document]:
        """What comes of a pipeline, all of it in one reply: at most `limit` documents and 16 MB.

        The command itself and no cursor, as `insert`: a tenth of what the driver takes for one.
        """
        command: Document = {
            "aggregate": collection,
            "pipeline": pipeline,
            "cursor": {"batchSize": limit + 1},
            "maxTimeMS": self._timeouts.read_ms,
        }
        concern: Document = {"level": READ_CONCERN.level}
        if self._seen is not None:
            concern["afterClusterTime"] = self._seen
        command["readConcern"] = concern
        reply: Document = await self._run(lambda: self._database.command(command))
        self._see(reply.get("operationTime"))
        found: list[Document] = reply["cursor"]["firstBatch"]
        return found[:limit]

    async def find_one(self, collection: str, filter_: Mapping[str, Any]) -> Document | None:
        """The document, None if there is none."""
        found = await self.find(collection, filter_, limit=1)
        return found[0] if found else None

    async def create_index(self, collection: str, name: str, keys: Sequence[str], *, unique: bool) -> None:
        """Make an ascending index, or leave it as it is. Raises OperationFailure if it is there and differs."""
        model = IndexModel([(key, 1) for key in keys], name=name, unique=unique)
        await self._run(lambda: self._database[collection].create_indexes([model]))

    async def indexes(self, collection: str) -> Mapping[str, Mapping[str, Any]]:
        """The options of a collection's indexes by their names; `key` is a list of (field, direction)."""
        return await self._run(self._database[collection].index_information)

    async def drop(self, collection: str) -> None:
        """Drop a collection, if it is there."""
        await self._run(lambda: self._database.drop_collection(collection))

    async def close(self) -> None:
        """Finish what is in flight, and close the sockets if nobody else uses them. Idempotent."""
        await self._calls.close()
        if not self._has_left:
            self._has_left = True
            await self._shared.leave()

    async def _after(self, call: Callable[[Any], Awaitable[R]]) -> R:
        """Run a call that sees all that was answered before, in a session of its own while it runs."""
        return await self._run(lambda: self._in_session(call))

    async def _in_session(self, call: Callable[[Any], Awaitable[R]]) -> R:
        if self._sessions:
            session = self._sessions.pop()
        else:
            starting = self._client.start_session(causal_consistency=True)
            session = await starting if inspect.isawaitable(starting) else starting
        if self._seen is not None:
            session.advance_operation_time(self._seen)
        result = await call(session)
        self._see(session.operation_time)
        # So there are as many as calls were ever in flight together. One whose call failed or was cancelled may be in use: it is left.
        self._sessions.append(session)
        return result

    def _see(self, operation_time: Any) -> None:
        if operation_time is not None and (self._seen is None or operation_time > self._seen):
            self._seen = operation_time

    async def _run(self, call: Callable[[], Awaitable[R]]) -> R:
        if self._calls.closed:
            raise DriverClosedError(self.database)
        with self._calls:
            return await call()
