"""The command stream over mutual TLS: only nodes with a certificate of the cluster's authority get as far as the secret."""

from __future__ import annotations

from pathlib import Path
from subprocess import run

import msgspec
import pytest

from commands.caller import Keyed
from domain.errors import Problem
from domain.user import RegisterUser
from eventlog.memory import MemoryLog
from gateways.rpc.settings import Tls
from tests.contract.command_house import FAST_ROUTER, SHARDS, House, caller, face, owner

pytestmark = pytest.mark.slow
EVERYTHING = f"0-{SHARDS - 1}"
IMPATIENT = msgspec.structs.replace(FAST_ROUTER, deadline_s=1.0)


def _openssl(*arguments: str | Path) -> None:
    run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def cluster(folder: Path) -> Tls:
    """A new authority and a node's certificate for 127.0.0.1, in these files."""
    folder.mkdir()
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    certificate, key, request, names = (
        folder / name for name in ("node.pem", "node.key", "node.csr", "names")
    )
    names.write_text(
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n", encoding="ascii"
    )
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(
        "req",
        "-x509",
        *curve,
        "-keyout",
        authority_key,
        "-out",
        authority,
        "-days",
        "2",
        "-subj",
        "/CN=cluster",
    )
    _openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=node")
    _openssl(
        "x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial",
        "-out", certificate, "-days", "2", "-extfile", names,
    )  # fmt: skip
    return Tls.read(authority, certificate, key)


async def outcome(house: House) -> str:
    """How a registration ends."""
    try:
        await house.router.execute(caller("ann"), "user:ann", RegisterUser(), Keyed("register", "ann"))
    except Problem as problem:
        return problem.code
    return "done"


async def test_only_nodes_with_a_certificate_of_the_authority_are_heard(tmp_path: Path) -> None:
    log = MemoryLog("log-1", SHARDS)
    ours, theirs = cluster(tmp_path / "ours"), cluster(tmp_path / "theirs")
    async with owner(log, tls=ours) as one:
        rows = {"one": (one.address, EVERYTHING)}
        async with face(log, rows, tls=theirs, router=IMPATIENT) as house:
            assert await outcome(house) == "unavailable"
        async with face(log, rows, router=IMPATIENT) as house:
            assert await outcome(house) == "unavailable"
        async with face(log, rows, tls=ours) as house:
            assert await outcome(house) == "done"
        wrong = b"another secret, as long"
        async with face(log, rows, tls=ours, secret=wrong, router=IMPATIENT) as house:
            assert await outcome(house) == "unavailable"
            assert "wrong secret" in str(house.peers.peer("one", one.address).problem)
