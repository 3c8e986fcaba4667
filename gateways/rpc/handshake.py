"""The handshake of a command stream: both nodes prove that they know the cluster's secret, over nonces of both, so that nothing that
was recorded can be played again.

It says who is there. It does not seal what follows: between machines that others can reach, switch TLS on.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import msgspec

from gateways.rpc.generated import minutebook_pb2 as pb

VERSION = 1
NONCE_BYTES = 32
INCARNATION_BYTES = 16
NODE_LENGTH_MAX = 128
FACE = b"face"
OWNER = b"owner"


class HandshakeError(Exception):
    """The other side is not a node of this cluster, or not the one that was asked for; the text says why and holds no secret."""


class Identity(msgspec.Struct, frozen=True):
    """What a node says of itself. `log_id` and `shard_count` must be the same on both sides."""

    node: str
    log_id: str
    shard_count: int


def new_nonce() -> bytes:
    """Never the same twice."""
    return secrets.token_bytes(NONCE_BYTES)


def new_incarnation() -> bytes:
    """One for each start of a process."""
    return secrets.token_bytes(INCARNATION_BYTES)


def mac(secret: bytes, role: bytes, hello: pb.Hello, challenge: pb.Challenge) -> bytes:
    """What `role` proves: it knows the secret, and means this very conversation."""
    parts = (
        b"minutebook.rpc", VERSION.to_bytes(4), role, hello.node.encode(), hello.incarnation,
        hello.link.to_bytes(8), hello.nonce, hello.log_id.encode(), hello.shard_count.to_bytes(4),
        challenge.node.encode(), challenge.nonce,
    )  # fmt: skip
    return hmac.digest(secret, b"".join(len(part).to_bytes(4) + part for part in parts), "sha256")


def check_hello(hello: pb.Hello, own: Identity) -> None:
    """The owner's look at a hello. Raises HandshakeError."""
    if not 0 < len(hello.node) <= NODE_LENGTH_MAX:
        raise HandshakeError("a node needs an id")
    if len(hello.nonce) != NONCE_BYTES or len(hello.incarnation) != INCARNATION_BYTES:
        raise HandshakeError("malformed hello")
    if (hello.log_id, hello.shard_count) != (own.log_id, own.shard_count):
        raise HandshakeError(
            "this node belongs to another log: is it of another cluster, or from before a restore?"
        )


def check_challenge(challenge: pb.Challenge, node: str) -> None:
    """The face's look at a challenge. Raises HandshakeError."""
    if challenge.node != node:
        raise HandshakeError(f"another node answers there: {challenge.node[:NODE_LENGTH_MAX]!r}")
    if len(challenge.nonce) != NONCE_BYTES:
        raise HandshakeError("malformed challenge")


def check_mac(given: bytes, secret: bytes, role: bytes, hello: pb.Hello, challenge: pb.Challenge) -> None:
    """Raises HandshakeError, after the same time whatever is wrong with it."""
    if not hmac.compare_digest(given, mac(secret, role, hello, challenge)):
        raise HandshakeError("wrong secret: all nodes of a cluster need the same one")


class Asking(Protocol):
    """A message of the side that asks, whichever stream it opens; one of these is there."""

    @property
    def hello(self) -> pb.Hello: ...
    @property
    def proof(self) -> pb.Proof: ...


class Asked(Protocol):
    """A message of the side that is asked."""

    @property
    def challenge(self) -> pb.Challenge: ...
    @property
    def welcome(self) -> pb.Welcome: ...


class Proofs(NamedTuple):
    """What the side that asks and the side that is asked prove to be: of each kind of stream its own names, so that no proof serves for
    two.
    """

    asking: bytes
    asked: bytes


COMMAND_STREAM = Proofs(asking=FACE, asked=OWNER)


async def introduce(
    hello: pb.Hello,
    node: str,
    secret: bytes,
    proofs: Proofs,
    say: Callable[[pb.Hello | pb.Proof], Awaitable[None]],
    hear: Callable[[str], Awaitable[Asked]],
) -> None:
    """The asking side, to the node that it means to reach. `hear` brings the next message, if it is this one.

    Raises HandshakeError, and what `say` and `hear` raise.
    """
    await say(hello)
    challenge = (await hear("challenge")).challenge
    check_challenge(challenge, node)
    await say(pb.Proof(mac=mac(secret, proofs.asking, hello, challenge)))
    welcome = (await hear("welcome")).welcome
    check_mac(welcome.mac, secret, proofs.asked, hello, challenge)


async def admit(
    own: Identity,
    secret: bytes,
    proofs: Proofs,
    say: Callable[[pb.Challenge | pb.Welcome], Awaitable[None]],
    hear: Callable[[str], Awaitable[Asking]],
) -> pb.Hello:
    """The side that is asked. `hear` brings the next message, if it is this one. Returns who is there.

    Raises HandshakeError, and what `say` and `hear` raise.
    """
    hello = (await hear("hello")).hello
    check_hello(hello, own)
    challenge = pb.Challenge(node=own.node, nonce=new_nonce())
    await say(challenge)
    proof = (await hear("proof")).proof
    check_mac(proof.mac, secret, proofs.asking, hello, challenge)
    await say(pb.Welcome(mac=mac(secret, proofs.asked, hello, challenge)))
    return hello
