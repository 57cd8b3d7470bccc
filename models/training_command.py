"""The command line of an encoder's training module: train with other epochs or seeds, or judge weights."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models import checkpoint

Figures = dict[str, Any]


def run(
    description: str | None,
    part: str,
    epochs: int,
    train: Callable[[argparse.Namespace], Figures],
    evaluate: Callable[[argparse.Namespace], Figures],
) -> None:
    """Read the options, then train or only judge; progress goes to stderr, figures to stdout as JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=checkpoint.WEIGHTS_DIR / f"{part}.safetensors")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--evaluate", action="store_true", help="only judge the weights on the test split")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    figures = evaluate(options) if options.evaluate else train(options)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
