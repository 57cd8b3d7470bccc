"""``make bench``: every benchmark in a process of its own, one JSON file of all figures.

``SCALE=1m`` sets how many users ``bench_scale`` and ``bench_similar`` make (default: few).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BENCHES = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    """Exit code 1 when a benchmark failed; the others' figures are written all the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("var/bench.json"))
    parser.add_argument("--only", nargs="*", choices=BENCHES, default=BENCHES, help="default: all")
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": os.environ.get("SCALE", "default"),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
    }
    failed = []
    for bench in arguments.only:
        print(f"bench: {bench} …", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{bench}"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            failed.append(bench)
            continue
        found[bench] = json.loads(done.stdout)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
