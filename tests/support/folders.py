"""Folders that tests read: the repository, and the real content where it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = Path(os.environ.get("PORTRAIT_DATA", ROOT.parent / "shared" / "data"))
"""Real content for training and the larger tests; the project runs without it."""
