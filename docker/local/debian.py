"""What Debian's packages give: programs installed by root, and single libraries unpacked into the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from docker.local.failures import ServicesError

APT_S_MAX = 600.0
# No service of the distribution shall start because its package is installed.
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
_RELEASES = re.compile(r"(bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)(-\w+)*")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def require(programs: Mapping[str, str]) -> None:
    """See that these programs (name: Debian package) are there; root gets them installed.

    Raises ServicesError with the command to type when they are missing and cannot be installed.
    """
    install(package for program, package in programs.items() if shutil.which(program) is None)


def install(packages: Iterable[str]) -> None:
    """`apt-get install` as root; ServicesError with the command to type otherwise."""
    wanted = sorted(set(packages))
    if not wanted:
        return
    words = " ".join(wanted)
    if shutil.which("apt-get") is None:
        raise ServicesError(
            f"Missing: {words} (names of Debian's packages). Install them and run this again."
        )
    if os.geteuid() != 0:
        raise ServicesError(f"Missing: {words}. As root: apt-get install --no-install-recommends {words}")
    _run(["apt-get", "update", "-qq"])
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted])


def unpack_from_bullseye(package: str, folder: Path) -> Path:
    """Fetch a library of Debian 11 and unpack it under `folder` without installing it; returns `folder`.

    The lists of that release are kept apart from the machine's own, which stay as they are. apt verifies the
    package by the signature of the release.
    """
    for part in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / "apt" / part).mkdir(parents=True, exist_ok=True)
    (folder / "apt/sources/bullseye.sources").write_text("\n".join(_bullseye_sources()))
    own = [
        *("-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={folder}/apt/sources"),
        *("-o", f"Dir::State::Lists={folder}/apt/lists", "-o", f"Dir::Cache={folder}/apt/cache"),
        *("-o", "APT::Sandbox::User="),
    ]
    _run(["apt-get", *own, "update", "-qq"])
    _run(["apt-get", *own, "download", "-qq", package], cwd=folder)
    _run(["dpkg", "-x", *(str(path) for path in folder.glob(f"{package}_*.deb")), str(folder)])
    shutil.rmtree(folder / "apt")
    return folder


def _bullseye_sources() -> list[str]:
    """Debian 11 from the mirrors that this machine uses for its own release."""
    if not _KEYRING.exists():
        raise ServicesError(
            "MongoDB needs OpenSSL 1.1, which comes from Debian 11: this machine has no Debian keyring. "
            "Put libssl.so.1.1 and libcrypto.so.1.1 where the loader finds them, or use docker/compose.yml."
        )
    targets = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"])
    addresses = set()
    for line in targets.splitlines():
        address, release, component = line.split(" ", 2)
        if _RELEASES.fullmatch(release) and component == "main":
            addresses.add(address)
    if not addresses:
        raise ServicesError("No Debian mirror is known to apt: see /etc/apt/sources.list.d.")
    return [
        f"Types: deb\nURIs: {address}\nSuites: {'bullseye-security' if 'security' in address else 'bullseye'}\n"
        f"Components: main\nSigned-By: {_KEYRING}\n"
        for address in sorted(addresses)
    ]


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    environment = {**os.environ, **_QUIET}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=APT_S_MAX, check=False
    )
    if done.returncode != 0:
        raise ServicesError(f"`{' '.join(command)}` failed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return done.stdout
