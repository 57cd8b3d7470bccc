"""What the integration tests need beside Python: say what is missing, or install Debian's packages."""

import argparse
import os
import shutil
import subprocess
import sys

PROGRAMS = {
    "redis-server": "redis-server",
    "java": "default-jre-headless",
    "mvn": "maven",
    "espeak-ng": "espeak-ng",
    "openssl": "openssl",
    "chromium-headless-shell": "chromium-headless-shell",
}


def missing() -> list[str]:
    """Debian packages of the programs that are not on PATH."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def install(packages: list[str]) -> int:
    """apt-get as root; exit code of the first command that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-yq", "--no-install-recommends", *packages],
    ):
        code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
        if code:
            return code
    return 0


def main() -> int:
    """Exit 0 when everything is there or was installed, and also when the line to run was printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--install", action="store_true", help="install what is missing")
    mode.add_argument(
        "--install-or-say", action="store_true", help="install as root, else print the line to run"
    )
    arguments = parser.parse_args()
    packages = missing()
    if not packages:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return install(packages)
    line = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    sys.stderr.write(f"system-deps: missing {', '.join(packages)}; as root run:\n  {line}\n")
    return 1 if arguments.install or os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
