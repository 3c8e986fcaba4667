"""Settings: one schema over defaults, a file, the environment (prefix `MINUTEBOOK_`) and flags; each wins over the ones before it."""

from __future__ import annotations

import dataclasses
import os
import re
import socket as _socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as SettingsSourceError
from typing_extensions import override

from commands.settings import NodeSettings
from domain.event import Limits
from gateways.limits import LimitSettings
from gateways.socket.port import SocketLimits

ENVIRONMENT_PREFIX = "MINUTEBOOK_"
CONFIG_FILE = "minutebook.toml"
OF_AN_ADDRESS = "user"
"""A secret that is only the user's part of an address."""
CLUSTER_BUSY_PACE_MS = 10.0
"""`node.flush_busy_pace_ms` of a cluster."""
OFF_WORDS = frozenset({"off", "0", "false", "no"})

T = TypeVar("T")


class SettingsError(Exception):
    """A setting is wrong; the text names it, says what is wanted and never repeats a secret."""


def _model_of(shape: type[Any], name: str, skip: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A pydantic model with the fields and defaults of a struct or dataclass of numbers, so that every bound is a setting."""
    hints = get_type_hints(shape)
    defaults = (
        {field.name: field.default for field in msgspec.structs.fields(shape)}
        if issubclass(shape, msgspec.Struct)
        else {field.name: field.default for field in dataclasses.fields(shape)}
    )
    fields: dict[str, Any] = {
        key: (
            hints[key],
            Field(default=default, gt=0) if hints[key] in (int, float) else Field(default=default),
        )
        for key, default in defaults.items()
        if key not in skip
    }
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
    return model


NodeModel = _model_of(NodeSettings, "NodeModel", frozenset({"limits"}))
LimitsModel = _model_of(Limits, "LimitsModel")
RatesModel = _model_of(LimitSettings, "RatesModel", frozenset({"enabled"}))
SocketModel = _model_of(SocketLimits, "SocketModel")


class OwnerModel(BaseModel):
    """An owner: its node's name, where it listens for other nodes (`host:port`), and its shards (`0-31` or `3,7`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    address: str
    shards: str


class PusherModel(BaseModel):
    """A pusher: its node's name, and where it listens for gateways (`host:port`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    address: str


class ClusterModel(BaseModel):
    """Where the servers of a cluster are. `cluster_id` names it in MongoDB, Kafka and Redis alike. `fast_views_mb`: what copies of the
    newest rows of views may take of Redis (0: none are kept).

    For roles as processes: `owners` says which node owns which shards, `listen` where this owner listens if not at its address there,
    and `secret` is what nodes know each other by. `pushers` route the record to gateways (none: each gateway follows all of it), and
    `push_listen` is where this one listens if not at its address there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster_id: str = Field("main", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    node: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    mongodb_uri: str | None = Field(None, repr=False, json_schema_extra={"secret": OF_AN_ADDRESS})
    mongodb_database: str = Field("minutebook")
    kafka_bootstrap: str | None = Field(None)
    kafka_partitions: int | None = Field(None, ge=1, le=4_096)
    redis_url: str | None = Field(None, repr=False, json_schema_extra={"secret": OF_AN_ADDRESS})
    fast_views_mb: int = Field(256, ge=0, le=1_000_000)
    owners: tuple[OwnerModel, ...] = ()
    pushers: tuple[PusherModel, ...] = ()
    listen: str | None = Field(None)
    push_listen: str | None = Field(None)
    secret: str | None = Field(None, repr=False, json_schema_extra={"secret": True})


class TelemetryModel(BaseModel):
    """Traces by OpenTelemetry; they need the extra `telemetry`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_ratio: float = Field(0.0, ge=0, le=1)
    """How many of the requests are traced; 0: none, and nothing is spent on it."""
    otlp_endpoint: str | None = Field(None, pattern=r"^https?://")
    """Where spans are sent to, by OTLP over HTTP: `http://collector:4318/v1/traces`."""


class Settings(BaseSettings):
    """Everything that can be set. Nested names are written `[node]` in the file, `MINUTEBOOK_NODE__FLUSH_PACE_MS` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8080, ge=0, le=65_535, description="Port of REST, WebSocket and pages; 0: any free one."
    )
    metrics_port: int | None = Field(None, ge=0, le=65_535, description="Port of /metrics; absent: closed.")
    data: Path = Field(Path("data"), description="Data folder of the embedded server.")
    origins: tuple[str, ...] = Field(
        (), description="Origins allowed for CORS and WebSocket, besides the same origin."
    )
    registration_open: bool = Field(True, description="Whether anybody may register.")
    rate_limit: str = Field("on", description="`off` lets everything pass; for load tests.")
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_format: str = Field("auto", description="console, json, or auto: console at a terminal, else json.")
    shards: int = Field(
        64, ge=1, le=4_096, description="Number of shards; fixed when the data folder is made."
    )
    roles: tuple[str, ...] = Field(
        (),
        description="Roles of this process in a cluster: gateway, owner, relay, projector, pusher, jobs; none: all in one.",
    )
    linger_ms: float = Field(
        50.0, ge=0, le=1_000, description="How long views gather events before they write."
    )
    drain_s: float = Field(5.0, ge=0, le=15, description="How long sockets get to leave before a stop.")
    password_workers: int = Field(2, ge=1, le=64, description="Threads that hash passwords.")
    app_key: str | None = Field(
        None, description="A tenant's key, for commands that go through the public interface."
    )
    app_secret: str | None = Field(
        None, repr=False, description="The key's secret.", json_schema_extra={"secret": True}
    )
    node: NodeModel = Field(default_factory=NodeModel)  # type: ignore[valid-type]
    limits: LimitsModel = Field(default_factory=LimitsModel)  # type: ignore[valid-type]
    rates: RatesModel = Field(default_factory=RatesModel)  # type: ignore[valid-type]
    socket: SocketModel = Field(default_factory=SocketModel)  # type: ignore[valid-type]
    cluster: ClusterModel = Field(default_factory=ClusterModel)
    telemetry: TelemetryModel = Field(default_factory=TelemetryModel)

    @property
    def in_cluster(self) -> bool:
        """Whether the stores are the servers of a cluster."""
        cluster = self.cluster
        return any((cluster.mongodb_uri, cluster.kafka_bootstrap, cluster.redis_url))

    @property
    def node_name(self) -> str:
        """What this process is called among others."""
        return self.cluster.node or (
            f"{_socket.gethostname()}-{self.port}" if self.in_cluster else "embedded"
        )

    @property
    def rate_limited(self) -> bool:
        """Whether rate limits hold."""
        return self.rate_limit.lower() not in OFF_WORDS

    def node_settings(self) -> NodeSettings:
        """The write side's bounds."""
        values = _values(self.node)
        if self.in_cluster and not _is_set(self.node, "flush_busy_pace_ms"):
            values["flush_busy_pace_ms"] = CLUSTER_BUSY_PACE_MS
        return NodeSettings(**values, limits=Limits(**_values(self.limits)))

    def limit_settings(self) -> LimitSettings:
        """The gateways' rates."""
        return LimitSettings(**_values(self.rates), enabled=self.rate_limited)

    def socket_limits(self) -> SocketLimits:
        """The bounds of a socket."""
        return SocketLimits(**_values(self.socket))

    def shown(self) -> dict[str, Any]:
        """All values, secrets masked."""
        return _masked(self, self.model_dump(mode="json"))


_USER_PART = re.compile(r"//[^/@]*@")


def _masked(model: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """The values without secrets; of an address only the user's part is one."""
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra
        secret = extra.get("secret") if isinstance(extra, Mapping) else None
        if isinstance(values[name], dict):
            _masked(getattr(model, name), values[name])
        elif secret and values[name] is not None:
            values[name] = (
                _USER_PART.sub("//********@", values[name]) if secret == OF_AN_ADDRESS else "********"
            )
    return values


def _values(model: BaseModel) -> dict[str, Any]:
    return dict(model)


def _is_set(model: BaseModel, name: str) -> bool:
    """Whether anybody gave a value, be it the default."""
    return name in model.model_fields_set


def load_settings(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the file (default: `minutebook.toml` in the working folder, if there is one), the environment and flags.

    Raises SettingsError with one line per wrong value.
    """
    path = config or Path(CONFIG_FILE)
    if config is not None and not path.is_file():
        raise SettingsError(f"{path}: no such file")

    class FileSettings(Settings):
        """Settings with a file under the environment."""

        model_config = SettingsConfigDict(toml_file=path)

        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    try:
        return FileSettings(**{name: value for name, value in (flags or {}).items() if value is not None})
    except ValidationError as error:
        lines = [_wrong(item["loc"], item["type"], item["msg"], flags or {}, path) for item in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except SettingsSourceError as error:
        wrong = _not_json()
        said = f"{', '.join(wrong)}: must be JSON, such as [{{…}}]" if wrong else f"{path}: {error}"
        raise SettingsError(said) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _not_json() -> Sequence[str]:
    """Environment variables of ours that are to be lists or tables and cannot be read as such."""
    wrong = []
    for name, value in sorted(os.environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and value.lstrip()[:1] in ("[", "{"):
            try:
                msgspec.json.decode(value)
            except msgspec.DecodeError:
                wrong.append(name)
    return wrong


_MEANINGS: Mapping[str, str] = {
    "extra_forbidden": "there is no such setting; `minutebook config --print` lists them",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
}


def _wrong(
    place: tuple[int | str, ...], kind: str, message: str, flags: Mapping[str, Any], path: Path
) -> str:
    """What is wrong with a setting, and where it was set."""
    name = ".".join(map(str, place))
    first = str(place[0]) if place else ""
    variables = {ENVIRONMENT_PREFIX + "__".join(map(str, place)).upper(), ENVIRONMENT_PREFIX + first.upper()}
    set_by = sorted(variables.intersection(os.environ))
    where = set_by[-1] if set_by else str(path)
    if flags.get(first) is not None:
        where = f"--{first.replace('_', '-')}"
    return f"{where}: {name}: {_MEANINGS.get(kind, message)}"


def unknown_variables() -> tuple[str, ...]:
    """Environment variables with our prefix that name no setting: worth a warning, since a mistyped limit has no effect."""
    ours = (name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX))
    return tuple(
        name
        for name in ours
        if name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")[0] not in Settings.model_fields
    )
