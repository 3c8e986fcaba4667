"""The bounds of the command stream between nodes, and the files of mutual TLS."""

from __future__ import annotations

from pathlib import Path

import grpc
import msgspec

SECRET_BYTES_MIN = 16


class RpcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue, wait and size of the stream. Times in the unit of the name."""

    batch_commands: int = 256
    """Commands (and answers) of one message; an owner refuses longer batches and ends the stream."""
    batch_bytes: int = 1024 * 1024
    command_bytes_max: int = 512 * 1024
    message_bytes_max: int = 4 * 1024 * 1024
    """What gRPC takes at all."""
    batch_pace_ms: float = 4.0
    """From batch start to batch start; at once after an idle spell. As long as an owner's flush pace: a batch then meets a flush that is
    due."""
    busy_pace_ms: float = 10.0
    """The same while much is asked: a message there and back costs 300 µs of CPU and more, however many commands it carries."""
    busy_commands_per_s: int = 400
    """From so many on much is asked; of one face by one owner."""
    queue_commands: int = 20_000
    """Commands that a face holds for one owner, sent or not; more are refused as `overloaded`."""
    queue_bytes: int = 64 * 1024 * 1024
    in_flight: int = 4_096
    """Commands of one face inside an owner; above it the owner reads no further, and gRPC's flow control holds the face back."""
    in_flight_bytes: int = 32 * 1024 * 1024
    looks: int = 1_000
    """Looks inside an owner, of all faces; more are refused as `overloaded`."""
    look_bytes_max: int = 1024 * 1024
    links: int = 1_024
    strangers: int = 64
    """Streams in their handshake at a time."""
    connect_s: float = 2.0
    """For the connection and the handshake."""
    reconnect_first_ms: float = 50.0
    reconnect_max_ms: float = 2_000.0
    keepalive_s: float = 2.0
    """A link on which nothing moves is tried so often…"""
    keepalive_timeout_s: float = 2.0
    """…and given up when the other node does not answer for so long."""
    heads_pace_ms: float = 25.0
    """How late a face may hear of what other faces wrote."""
    drain_s: float = 5.0
    """How long an owner that stops lets commands under way end."""

    def options(self) -> list[tuple[str, int]]:
        """What both sides tell gRPC."""
        return [
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.max_send_message_length", self.message_bytes_max),
            ("grpc.keepalive_time_ms", int(self.keepalive_s * 1_000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout_s * 1_000)),
            # Without it gRPC waits a minute for the answer to a ping, whatever the time-out of keepalive says.
            ("grpc.http2.ping_timeout_ms", int(self.keepalive_timeout_s * 1_000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
            ("grpc.so_reuseport", 0),  # A second node on the same port is a mistake to be told of.
            ("grpc.enable_retries", 0),  # Whether to try again is the router's to decide.
            ("grpc.use_local_subchannel_pool", 1),
        ]


class Tls(msgspec.Struct, frozen=True):
    """Mutual TLS: the cluster's own authority, and this node's certificate and key, in PEM. The secret is asked for all the same."""

    authority: bytes
    certificate: bytes
    key: bytes

    @staticmethod
    def read(authority: Path, certificate: Path, key: Path) -> Tls:
        """From files. Raises OSError."""
        return Tls(authority.read_bytes(), certificate.read_bytes(), key.read_bytes())

    def of_server(self) -> grpc.ServerCredentials:
        """Takes nobody without a certificate of the authority."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], root_certificates=self.authority, require_client_auth=True
        )

    def of_channel(self) -> grpc.ChannelCredentials:
        """Trusts the authority only."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def checked_secret(secret: bytes) -> bytes:
    """The secret, if it is long enough not to be guessed. Raises ValueError."""
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"the cluster's secret needs at least {SECRET_BYTES_MIN} bytes")
    return secret
