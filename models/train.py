"""Train what ships: ``portrait train --data DIR [--only text|image|voice|fusion] [--out DIR]``.

Fixed seeds and one CPU thread (the shipped weights were made so): one machine gives the same bytes again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from features.errors import UsageError
from features.taxonomy import Taxonomy, load_taxonomy
from models import checkpoint
from models.registry import LOADERS, load_encoder

Progress = Callable[[str], None]

TRAINABLE: Final = ("text", "image", "voice", "fusion")
"""In the order that a full training takes: fusion reads what the encoders say."""
THREADS: Final = 1


class TrainingError(UsageError):
    """What cannot be trained as asked."""


def train(
    data_dir: str | Path,
    only: str | None = None,
    out_dir: str | Path | None = None,
    progress: Progress = print,
) -> dict[str, dict[str, Any]]:
    """Train one part (``only``) or all, and write ``<part>.safetensors`` to ``out_dir`` (default: shipped).

    Returns part → figures on its untouched test split, which the weights also hold. ``fusion`` reads the
    encoders in ``out_dir``, or the shipped ones where they are not there.

    Raises TrainingError for a folder that is not there or an unknown part, DatasetError and
    CheckpointError for what lies in them.
    """
    data, out = Path(data_dir), Path(out_dir or checkpoint.WEIGHTS_DIR)
    if not data.is_dir():
        raise TrainingError(f"train: {data}: expected a folder of training data, got none; check --data")
    if only is not None and only not in TRAINABLE:
        raise TrainingError(f"train: expected one of {list(TRAINABLE)}, got {only!r}; correct --only")
    out.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    told = _Told(progress)
    logging.getLogger("models").addHandler(told)
    logging.getLogger("models").setLevel(logging.INFO)
    try:
        figures = {}
        for part in TRAINABLE:
            if only in (None, part):
                figures[part] = _train_part(part, data, out, progress)
                progress(f"{part}: on its test split {json.dumps(figures[part], ensure_ascii=False)}")
        return figures
    finally:
        logging.getLogger("models").removeHandler(told)
        torch.set_num_threads(before)


class _Told(logging.Handler):
    """Hands what training logs to the progress of the command."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress(record.getMessage())


def _train_part(part: str, data: Path, out: Path, progress: Progress) -> dict[str, Any]:
    target, taxonomy = out / f"{part}.safetensors", load_taxonomy()
    progress(f"{part}: training on {data}")
    if part == "text":
        from models.train_text import train_text

        return train_text(data, target, taxonomy, progress)
    if part == "image":
        from models.train_image import train_image

        return train_image(data, target)
    if part == "voice":
        from models.train_voice import train_voice

        return train_voice(data, target)
    from models.train_fusion import train_fusion

    taxonomy = with_words(data, taxonomy)
    encoders = {}
    for modality in LOADERS:
        mine = out / f"{modality}.safetensors"
        encoders[modality] = load_encoder(
            modality, mine if mine.is_file() else None, words=taxonomy.words, taxonomy=taxonomy
        )
    return train_fusion(data, target, encoders, taxonomy, progress)


def with_words(data: Path, taxonomy: Taxonomy) -> Taxonomy:
    """A taxonomy that maps spoken words as the training folder's ``taxonomy.json`` does, where it has one."""
    file = data / "taxonomy.json"
    if taxonomy.words or not file.is_file():
        return taxonomy
    words = {w: c for w, c in load_taxonomy(file).words.items() if c in taxonomy.slots}
    return replace(taxonomy, words=words)
