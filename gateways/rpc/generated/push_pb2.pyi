from gateways.rpc.generated import minutebook_pb2 as _minutebook_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToPusher(_message.Message):
    __slots__ = ("version", "hello", "proof", "number", "want", "unwant", "probe", "hints", "seen")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    UNWANT_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    version: int
    hello: _minutebook_pb2.Hello
    proof: _minutebook_pb2.Proof
    number: int
    want: _containers.RepeatedScalarFieldContainer[str]
    unwant: _containers.RepeatedScalarFieldContainer[str]
    probe: int
    hints: _containers.RepeatedCompositeFieldContainer[Hint]
    seen: int
    def __init__(self, version: _Optional[int] = ..., hello: _Optional[_Union[_minutebook_pb2.Hello, _Mapping]] = ..., proof: _Optional[_Union[_minutebook_pb2.Proof, _Mapping]] = ..., number: _Optional[int] = ..., want: _Optional[_Iterable[str]] = ..., unwant: _Optional[_Iterable[str]] = ..., probe: _Optional[int] = ..., hints: _Optional[_Iterable[_Union[Hint, _Mapping]]] = ..., seen: _Optional[int] = ...) -> None: ...

class ToGateway(_message.Message):
    __slots__ = ("version", "challenge", "welcome", "number", "frames", "reached", "confirmed", "echo", "hints")
    class ReachedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    challenge: _minutebook_pb2.Challenge
    welcome: _minutebook_pb2.Welcome
    number: int
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    reached: _containers.ScalarMap[int, int]
    confirmed: int
    echo: Echo
    hints: _containers.RepeatedCompositeFieldContainer[Hint]
    def __init__(self, version: _Optional[int] = ..., challenge: _Optional[_Union[_minutebook_pb2.Challenge, _Mapping]] = ..., welcome: _Optional[_Union[_minutebook_pb2.Welcome, _Mapping]] = ..., number: _Optional[int] = ..., frames: _Optional[_Iterable[bytes]] = ..., reached: _Optional[_Mapping[int, int]] = ..., confirmed: _Optional[int] = ..., echo: _Optional[_Union[Echo, _Mapping]] = ..., hints: _Optional[_Iterable[_Union[Hint, _Mapping]]] = ...) -> None: ...

class Echo(_message.Message):
    __slots__ = ("probe", "age_ms")
    PROBE_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    probe: int
    age_ms: int
    def __init__(self, probe: _Optional[int] = ..., age_ms: _Optional[int] = ...) -> None: ...

class Hint(_message.Message):
    __slots__ = ("tenant", "conversation_id", "user_id", "typing", "received", "own")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TYPING_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    conversation_id: str
    user_id: str
    typing: bool
    received: int
    own: bool
    def __init__(self, tenant: _Optional[str] = ..., conversation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., typing: _Optional[bool] = ..., received: _Optional[int] = ..., own: _Optional[bool] = ...) -> None: ...
