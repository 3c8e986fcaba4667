from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Batch(_message.Message):
    __slots__ = ("version", "hello", "proof", "commands", "looks")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    LOOKS_FIELD_NUMBER: _ClassVar[int]
    version: int
    hello: Hello
    proof: Proof
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    looks: _containers.RepeatedCompositeFieldContainer[Look]
    def __init__(self, version: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., looks: _Optional[_Iterable[_Union[Look, _Mapping]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "incarnation", "link", "nonce", "log_id", "shard_count")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: bytes
    link: int
    nonce: bytes
    log_id: str
    shard_count: int
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[bytes] = ..., link: _Optional[int] = ..., nonce: _Optional[bytes] = ..., log_id: _Optional[str] = ..., shard_count: _Optional[int] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("mac",)
    MAC_FIELD_NUMBER: _ClassVar[int]
    mac: bytes
    def __init__(self, mac: _Optional[bytes] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("number", "tenant", "actor", "name", "command", "key", "payload_digest", "keyed", "importing", "wait_ms", "trace")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEYED_FIELD_NUMBER: _ClassVar[int]
    IMPORTING_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    number: int
    tenant: str
    actor: str
    name: str
    command: bytes
    key: bytes
    payload_digest: bytes
    keyed: bool
    importing: bool
    wait_ms: int
    trace: Trace
    def __init__(self, number: _Optional[int] = ..., tenant: _Optional[str] = ..., actor: _Optional[str] = ..., name: _Optional[str] = ..., command: _Optional[bytes] = ..., key: _Optional[bytes] = ..., payload_digest: _Optional[bytes] = ..., keyed: _Optional[bool] = ..., importing: _Optional[bool] = ..., wait_ms: _Optional[int] = ..., trace: _Optional[_Union[Trace, _Mapping]] = ...) -> None: ...

class Trace(_message.Message):
    __slots__ = ("correlation_id", "causation_id", "trace_id")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSATION_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    correlation_id: str
    causation_id: str
    trace_id: str
    def __init__(self, correlation_id: _Optional[str] = ..., causation_id: _Optional[str] = ..., trace_id: _Optional[str] = ...) -> None: ...

class Look(_message.Message):
    __slots__ = ("number", "kind", "tenant", "name", "user_id")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[Look.Kind]
        PEEK: _ClassVar[Look.Kind]
        PEEK_AS: _ClassVar[Look.Kind]
        OUTLINE: _ClassVar[Look.Kind]
        USER_EXISTS: _ClassVar[Look.Kind]
    NONE: Look.Kind
    PEEK: Look.Kind
    PEEK_AS: Look.Kind
    OUTLINE: Look.Kind
    USER_EXISTS: Look.Kind
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: Look.Kind
    tenant: str
    name: str
    user_id: str
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[_Union[Look.Kind, str]] = ..., tenant: _Optional[str] = ..., name: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class Answers(_message.Message):
    __slots__ = ("version", "challenge", "welcome", "answers", "heads", "leaving")
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    version: int
    challenge: Challenge
    welcome: Welcome
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    heads: _containers.ScalarMap[int, int]
    leaving: bool
    def __init__(self, version: _Optional[int] = ..., challenge: _Optional[_Union[Challenge, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., heads: _Optional[_Mapping[int, int]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("node", "nonce")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    nonce: bytes
    def __init__(self, node: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("mac",)
    MAC_FIELD_NUMBER: _ClassVar[int]
    mac: bytes
    def __init__(self, mac: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("number", "frame", "nothing", "problem", "state", "outline", "user_exists", "replayed")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OUTLINE_FIELD_NUMBER: _ClassVar[int]
    USER_EXISTS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    number: int
    frame: bytes
    nothing: Nothing
    problem: Problem
    state: State
    outline: Outline
    user_exists: bool
    replayed: bool
    def __init__(self, number: _Optional[int] = ..., frame: _Optional[bytes] = ..., nothing: _Optional[_Union[Nothing, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., state: _Optional[_Union[State, _Mapping]] = ..., outline: _Optional[_Union[Outline, _Mapping]] = ..., user_exists: _Optional[bool] = ..., replayed: _Optional[bool] = ...) -> None: ...

class Nothing(_message.Message):
    __slots__ = ("stream", "shard")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    stream: str
    shard: int
    def __init__(self, stream: _Optional[str] = ..., shard: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "detail", "errors", "retry_after_ms", "not_owner")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_OWNER_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldError]
    retry_after_ms: int
    not_owner: NotOwner
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldError, _Mapping]]] = ..., retry_after_ms: _Optional[int] = ..., not_owner: _Optional[_Union[NotOwner, _Mapping]] = ...) -> None: ...

class FieldError(_message.Message):
    __slots__ = ("field", "message")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class NotOwner(_message.Message):
    __slots__ = ("shard", "owner", "epoch")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    shard: int
    owner: str
    epoch: int
    def __init__(self, shard: _Optional[int] = ..., owner: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class State(_message.Message):
    __slots__ = ("kind", "schema", "parts")
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    schema: int
    parts: _containers.ScalarMap[str, bytes]
    def __init__(self, kind: _Optional[str] = ..., schema: _Optional[int] = ..., parts: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class Outline(_message.Message):
    __slots__ = ("version", "members", "blocked")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    version: int
    members: int
    blocked: bool
    def __init__(self, version: _Optional[int] = ..., members: _Optional[int] = ..., blocked: _Optional[bool] = ...) -> None: ...

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIReply(_message.Message):
    __slots__ = ("version", "node", "serving")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: str
    serving: bool
    def __init__(self, version: _Optional[int] = ..., node: _Optional[str] = ..., serving: _Optional[bool] = ...) -> None: ...
