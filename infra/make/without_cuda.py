"""Print a locked requirements file without torch and what only torch's CUDA build needs."""

import re
import sys
from pathlib import Path

CUDA = re.compile(r"^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")


def main() -> None:
    """Drop each matching requirement together with its indented hash lines."""
    keep = True
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace():
            keep = CUDA.match(line) is None
        if keep:
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
