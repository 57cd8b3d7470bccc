"""Fetches what a Flink cluster with Beam's job server is made of, once per version, into a folder.

Beam's runner comes from Maven Central (``pom.xml``), Flink itself from PyPI (``apache-flink-libraries``,
whose archive holds Flink's own distribution). A clean machine refills the cache by starting the cluster.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
INSTALL: Final = "sudo apt-get install -y default-jre-headless maven"
FLINK: Final = "apache-flink-libraries==1.19.3"
FETCH_TIMEOUT_S: Final = 900.0

_OF_FLINK: Final = ("flink-dist-", "log4j-")
"""Jars of Flink's archive that are taken; the rest serves its SQL."""
_SHADOWED: Final = ("flink-", "slf4j-api-", "beam-sdks-java-harness-")
"""Jars of Maven that are left out: flink-dist has its own Flink, log4j its binding, and the harness brings an
older copy of Beam's core classes (NoSuchMethodError when a job starts)."""


class FlinkClusterError(RuntimeError):
    """The cluster cannot be fetched, started or stopped; the message says what to do."""


def missing_programs() -> list[str]:
    """Those of java and mvn that are not on the PATH."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


def fetch_jars(cache: Path = ROOT / ".cache" / "flink") -> Path:
    """The folder of jars, fetched once per ``pom.xml`` and Flink version. Raises FlinkClusterError."""
    pom = HERE / "pom.xml"
    version = hashlib.sha256(pom.read_bytes() + FLINK.encode() + repr((_OF_FLINK, _SHADOWED)).encode())
    jars = cache / version.hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        if missing := missing_programs():
            raise FlinkClusterError(
                f"flink: expected java and mvn, got no {' and no '.join(missing)}; {INSTALL}"
            )
        sys.stderr.write("flink: fetching Beam's runner and Flink (about 400 MB to download, once)\n")
        partial = jars.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _fetch_beam(pom, partial)
        _fetch_flink(partial)
        partial.rename(jars)
    return jars


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _fetch_beam(pom: Path, folder: Path) -> None:
    _run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"])
    for jar in folder.glob("*.jar"):
        if jar.name.startswith(_SHADOWED):
            jar.unlink()


def _fetch_flink(folder: Path) -> None:
    archive = folder / "archive"
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "pip", "download", *options, "--dest", str(archive), FLINK])
    (packed,) = archive.glob("*.tar.gz")
    with tarfile.open(packed) as tar:
        for member in tar:
            name = Path(member.name).name
            if (
                "/deps/lib/" in member.name
                and name.startswith(_OF_FLINK)
                and (file := tar.extractfile(member))
            ):
                with (folder / name).open("wb") as jar:
                    shutil.copyfileobj(file, jar)
    shutil.rmtree(archive)
    if not list(folder.glob("flink-dist-*.jar")):
        raise FlinkClusterError(f"flink: expected flink-dist in {FLINK}, got none; was its archive rebuilt?")


def _run(command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own commands
        command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
    )
    if done.returncode:
        told = (done.stdout + done.stderr)[-2000:]
        raise FlinkClusterError(f"flink: expected {command[0]} to fetch its part, got:\n{told}")
