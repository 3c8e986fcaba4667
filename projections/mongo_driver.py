"""PyMongo behind exactly the calls that a view store makes; with `mongo_errors` and `mongo_time` the only module that knows it. All block.

Everything is read at read concern `majority`, or in a moment (`snapshot`), from the primary, and committed with `w: majority, j: true`:
what a view answers is never rolled back. What the URI says about any of it counts for nothing.

A read sees everything that any call over the same `ViewDatabase` saw before it. Majority alone would not do: a primary that was just
elected shows what a majority had some time ago, without what its predecessor has acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from bson.binary import Binary, UuidRepresentation
from bson.int64 import Int64
from bson.max_key import MaxKey
from pymongo import IndexModel, MongoClient, UpdateOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from projections.mongo_errors import (
    ConflictError,
    DuplicateError,
    MongoUnfitError,
    OutcomeUnknownError,
    told,
)
from projections.mongo_time import SeenTime
from projections.store import ViewUnavailableError

__all__ = [
    "ConflictError",
    "DuplicateError",
    "MongoUnfitError",
    "OutcomeUnknownError",
    "Transactions",
    "ViewDatabase",
]

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]
Session = ClientSession

LONG = Int64
"""The type of an integer of more than 32 bits as the driver reads it."""
GREATEST = MaxKey()
"""Greater than every value."""
TIMEOUT_MS = 10_000
"""How long one call may take, the choice of a server and the wait for the majority included."""
CONNECTIONS_MAX = 16
SERVER_MAJOR_MIN = 6
"""What we run against. Servers before 5.0 cannot read several collections at one moment outside of transactions."""
PARTS_MAX = 5_000
"""How many documents one command writes; fewer when they have more than 16 MB."""
KEYS_MAX = 1_000
"""How many keys one query asks for."""
MOMENT_ATTEMPTS = 20
"""A moment must not lie before the newest index of what it reads, which lasts until the majority knows the index."""

_EXISTS = 48
_SNAPSHOT_UNAVAILABLE = 246
_PARTS = {"insert": "documents", "update": "updates", "delete": "deletes"}
_CONCERN = WriteConcern(w="majority", j=True)
_READ = ReadConcern("majority")
_SNAPSHOT = ReadConcern("snapshot")


class Index(msgspec.Struct, frozen=True):
    """An index over fields, each ascending (1) or descending (-1)."""

    fields: tuple[tuple[str, int], ...]
    unique: bool = False


class ViewDatabase:
    """One client and one of its databases; any thread may call. Raises ViewUnavailableError when the server does not answer in time."""

    def __init__(self, client: MongoClient[Document], name: str) -> None:
        self._client = client
        self._seen = SeenTime()
        self._database = client.get_database(name, read_concern=_READ, write_concern=_CONCERN)

    @classmethod
    def connect(
        cls, uri: str, name: str, *, timeout_ms: int = TIMEOUT_MS, listeners: Sequence[Any] = ()
    ) -> ViewDatabase:
        """Connect and look at the server; `listeners` are PyMongo's.

        Raises MongoUnfitError for what cannot keep views, ViewUnavailableError for a server that is away.
        """
        try:
            client: MongoClient[Document] = MongoClient(
                uri,
                appname="minutebook-views",
                w="majority",
                journal=True,
                readConcernLevel="majority",
                readPreference="primary",
                retryWrites=True,
                timeoutMS=timeout_ms,
                serverSelectionTimeoutMS=timeout_ms,
                maxPoolSize=CONNECTIONS_MAX,
                uuidRepresentation="standard",
                event_listeners=list(listeners),
            )
        except (InvalidURI, ConfigurationError) as error:
            # The driver's words may quote the address, and with it a password.
            raise MongoUnfitError(f"the address of MongoDB cannot be used ({type(error).__name__})") from None
        try:
            with told():
                hello = client.admin.command("hello")
                version = client.server_info()["versionArray"]
        except BaseException:
            client.close()
            raise
        if "setName" not in hello:
            client.close()
            raise MongoUnfitError(
                "MongoDB runs as a standalone server: start it with --replSet and initiate the set"
            )
        if version[0] < SERVER_MAJOR_MIN:
            client.close()
            raise MongoUnfitError(f"MongoDB {version[0]} is too old: {SERVER_MAJOR_MIN}.0 or newer is needed")
        return cls(client, name)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._client.close()

    # What there is

    def collections(self, prefix: str) -> list[str]:
        """The names of all collections that begin so, in order."""
        with told(), self._after() as session:
            names = self._database.list_collection_names(session=session)
            return sorted(name for name in names if name.startswith(prefix))

    def create(self, collection: str, indexes: Sequence[Index] = ()) -> None:
        """Make a collection with these indexes, whatever of it is there already."""
        with told(), self._after() as session:
            try:
                self._database.create_collection(collection, check_exists=False, session=session)
            except OperationFailure as error:
                if error.code != _EXISTS:
                    raise
            if indexes:
                self._database[collection].create_indexes(
                    [IndexModel(list(index.fields), unique=index.unique) for index in indexes],
                    session=session,
                )

    def drop(self, collections: Iterable[str]) -> None:
        """Remove collections; absent ones count for nothing."""
        with told(), self._after() as session:
            for collection in collections:
                self._database.drop_collection(collection, session=session)

    # Reading

    def find(
        self,
        collection: str,
        matching: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        batch: int = 0,
        only: Sequence[str] | None = None,
        within: Session | None = None,
    ) -> Iterator[Document]:
        """The documents, as they come; `limit` 0: all; `only`: these fields and `_id`."""
        with told(), self._after(within) as session:
            cursor = self._database[collection].find(
                matching, dict.fromkeys(only, 1) if only else None, session=session
            )
            if sort:
                cursor = cursor.sort(sort)
            if batch:
                cursor = cursor.batch_size(batch)
            with cursor.limit(limit) as found:
                yield from found

    def find_one(
        self, collection: str, matching: Filter, *, sort: Sort = (), within: Session | None = None
    ) -> Document | None:
        """The first document."""
        with told(), self._after(within) as session:
            return self._database[collection].find_one(matching, sort=sort or None, session=session)

    def count(self, collection: str, matching: Filter, *, within: Session | None = None) -> int:
        """How many documents match."""
        pipeline: list[Document] = [{"$match": matching}, {"$count": "n"}]
        with told(), self._after(within) as session:
            for counted in self._database[collection].aggregate(pipeline, session=session):
                return int(counted["n"])
        return 0

    @contextmanager
    def moment(self, first: str) -> Iterator[tuple[Session, list[Document]]]:
        """A session whose reads all see one moment, which is now, and all documents of the collection `first` in it."""
        for _ in range(MOMENT_ATTEMPTS):
            with self._client.start_session(snapshot=True) as session:
                with told():
                    documents = self._first_read(first, session)
                if self._seen.reached(session):
                    yield session, documents
                    return
            # The server chose a moment before what was seen already; this read waits until it can do better.
            self.find_one(first, {})
        raise ViewUnavailableError("MongoDB: no moment that shows what was seen before")

    def _first_read(self, collection: str, session: Session) -> list[Document]:
        for _ in range(MOMENT_ATTEMPTS - 1):
            try:
                return list(self._database[collection].find({}, session=session))
            except OperationFailure as error:
                if error.code != _SNAPSHOT_UNAVAILABLE:
                    raise
        return list(self._database[collection].find({}, session=session))

    @contextmanager
    def _after(self, within: Session | None = None) -> Iterator[Session]:
        """A session for one call, which sees all that was seen before it; `within`, if that is given."""
        if within is not None:
            yield within
            return
        with self._client.start_session(causal_consistency=True) as session:
            self._seen.bring(session)
            yield session
            self._seen.take(session)

    # Writing

    def update_now(self, collection: str, updates: Sequence[tuple[Filter, Document]]) -> int:
        """Change or make one document for each filter, outside of transactions; how many were there already."""
        with told(), self._after() as session:
            changes = [UpdateOne(matching, update, upsert=True) for matching, update in updates]
            return (
                self._database[collection].bulk_write(changes, ordered=False, session=session).matched_count
            )

    def change_one(self, collection: str, matching: Filter, update: Document) -> bool:
        """Change one document if one matches."""
        with told(), self._after() as session:
            return self._database[collection].update_one(matching, update, session=session).matched_count == 1

    def insert_one(self, collection: str, document: Document) -> bool:
        """Insert a document if its key is absent; whether it was."""
        with told(), self._after() as session:
            try:
                self._database[collection].insert_one(document, session=session)
            except DuplicateKeyError:
                return False
            return True

    def remove_one(self, collection: str, key: str) -> None:
        """Remove a document, if it is there."""
        with told(), self._after() as session:
            self._database[collection].delete_one({"_id": key}, session=session)

    def writer(self) -> Transactions:
        """What transactions are made with, one at a time."""
        return Transactions(self._client, self._database, self._seen)

    def end_sessions(self, ids: Iterable[bytes]) -> None:
        """Void the transactions that these writers left open; later ones of theirs are not hindered."""
        sessions = [{"id": Binary(session, 4)} for session in ids]
        if sessions:
            with told():
                self._client.admin.command("killSessions", sessions)


class Transactions:
    """One session's transactions, one at a time. A method that raises has voided the transaction."""

    def __init__(self, client: MongoClient[Document], database: Any, seen: SeenTime) -> None:
        self._seen = seen
        self._session = client.start_session(causal_consistency=True)
        self._database = database
        identity = self._session.session_id["id"]
        assert isinstance(identity, Binary)
        self.id = bytes(identity.as_uuid(UuidRepresentation.STANDARD).bytes)
        """By which another process can end what this one leaves open."""

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A transaction, committed at the end, void after an error.

        Raises ConflictError, DuplicateError, OutcomeUnknownError, ViewUnavailableError.
        """
        self._seen.bring(self._session)
        self._session.start_transaction(read_concern=_SNAPSHOT, write_concern=_CONCERN)
        try:
            with told():
                yield
        except BaseException:
            with suppress(PyMongoError):  # The server ends by itself what it cannot be told of.
                self._session.abort_transaction()
            raise
        with told():
            self._session.commit_transaction()  # Which is sent again until `timeout_ms` have passed.
        self._seen.take(self._session)

    def update(self, collection: str, updates: Sequence[tuple[Filter, Document]]) -> int:
        """Change one document for each filter; how many were found."""
        return self._write(
            "update", collection, [{"q": matching, "u": update} for matching, update in updates]
        )

    def insert(self, collection: str, documents: Sequence[Document]) -> None:
        """Insert documents, none of which may be there."""
        self._write("insert", collection, documents)

    def replace(self, collection: str, documents: Sequence[Document]) -> None:
        """Write documents, whatever stands there."""
        self._write(
            "update", collection, [{"q": {"_id": one["_id"]}, "u": one, "upsert": True} for one in documents]
        )

    def delete(self, collection: str, ids: Sequence[Any]) -> None:
        """Remove documents, those that are there."""
        self._write("delete", collection, [{"q": {"_id": identity}, "limit": 1} for identity in ids])

    def _write(self, command: str, collection: str, parts: Sequence[Document]) -> int:
        """One command for as many parts as fit, and not PyMongo's own bulk writes, which take 4 µs more for each part."""
        touched = 0
        for first in range(0, len(parts), PARTS_MAX):
            several = parts[first : first + PARTS_MAX]
            order = {command: collection, _PARTS[command]: several, "ordered": False}
            try:
                reply = self._database.command(order, session=self._session)
            except DocumentTooLarge:
                if len(several) == 1:
                    raise
                half = len(several) // 2
                touched += self._write(command, collection, several[:half])
                touched += self._write(command, collection, several[half:])
                continue
            if "writeErrors" in reply:
                raise BulkWriteError(reply)
            touched += int(reply["n"])
        return touched

    def read(self, collection: str) -> list[Document]:
        """All documents of a collection, outside of transactions, and not before all that this session was told of is the majority's."""
        with told():
            self._seen.bring(self._session)
            documents = list(self._database[collection].find({}, session=self._session))
            self._seen.take(self._session)
            return documents

    def present(self, collection: str, field: str, values: Sequence[Any]) -> set[Any]:
        """Those values of a field that a document has; embedded documents as tuples of their values."""
        found: set[Any] = set()
        for first in range(0, len(values), KEYS_MAX):
            documents = self._database[collection].find(
                {field: {"$in": values[first : first + KEYS_MAX]}}, {field: 1}, session=self._session
            )
            for document in documents:
                value = document[field]
                found.add(tuple(value.values()) if isinstance(value, dict) else value)
        return found

    def close(self) -> None:
        """Give the session back."""
        self._session.end_session()
