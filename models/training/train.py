"""Train what ships, or a variant of it: ``portrait train --data DIR [--only PART] [--variant NAME]``.

Fixed seeds and one CPU thread (the shipped weights were made so): one machine gives the same bytes again.
An interrupted training goes on after its last whole epoch when it is asked for again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from features.errors import UsageError
from features.taxonomy import Taxonomy, load_taxonomy
from models import checkpoint
from models.pretrained import LocalFolder
from models.registry import LOADERS, load_encoder, resolve_device
from models.training.dataset import dataset_taxonomy

Progress = Callable[[str], None]

TRAINABLE: Final = ("text", "image", "voice", "fusion")
"""In the order that a full training takes: fusion reads what the encoders say."""
THREADS: Final = 1


@dataclass(frozen=True)
class Choice:
    """What may be chosen beside the part: each has a default that ships."""

    variant: str | None = None
    epochs: int | None = None
    device: str = "auto"
    folder: Path | None = None
    """Where the model of the variant ``hf`` lies, in the format of Hugging Face."""
    emotion: bool = False
    """Train the emotion head of the voice encoder: a sensitive inference, off by default."""


class TrainingError(UsageError):
    """What cannot be trained as asked."""


def train(
    data_dir: str | Path,
    only: str | None = None,
    out_dir: str | Path | None = None,
    progress: Progress = print,
    choice: Choice = Choice(),
) -> dict[str, dict[str, Any]]:
    """Train one part (``only``) or all, and write ``<part>.safetensors`` to ``out_dir`` (default: shipped).

    Returns part → figures on its untouched test split, which the weights also hold. A variant of ``image``
    that learns from titles reads the text encoder in ``out_dir``, ``fusion`` all of them; or the shipped
    ones where they are not there.

    Raises TrainingError for a folder that is not there, an unknown part or variant; DatasetError,
    TaxonomyError and CheckpointError for what lies in them; DeviceError.
    """
    _check_choice(only, choice)
    data, parts = _asked(data_dir, only, TRAINABLE)
    out = Path(out_dir or checkpoint.WEIGHTS_DIR)
    taxonomy = dataset_taxonomy(data)
    out.mkdir(parents=True, exist_ok=True)
    figures = {}
    with _quiet_training(progress):
        for part in parts:
            progress(f"{part}: training on {data}")
            figures[part] = _TRAINERS[part](data, out, taxonomy, choice, progress)
            progress(_figures_line(part, figures[part]))
    return figures


def judge(
    data_dir: str | Path,
    only: str | None = None,
    weights_dir: str | Path | None = None,
    progress: Progress = print,
) -> dict[str, dict[str, Any]]:
    """Figures of trained encoders on the test split of a folder, as :func:`train` ends with; trains nothing.

    Raises TrainingError, DatasetError, TaxonomyError and CheckpointError.
    """
    from models.training.image.train import judge_image
    from models.training.text.train import judge_text
    from models.training.voice.train import judge_voice

    data, parts = _asked(data_dir, only, LOADERS)
    weights, taxonomy = Path(weights_dir or checkpoint.WEIGHTS_DIR), dataset_taxonomy(data)
    judges: dict[str, Callable[[Path], dict[str, Any]]] = {
        "text": lambda file: judge_text(data, file, taxonomy),
        "image": lambda file: judge_image(data, file),
        "voice": lambda file: judge_voice(data, file),
    }
    figures = {}
    with _quiet_training(progress):
        for part in parts:
            figures[part] = judges[part](weights / f"{part}.safetensors")
            progress(_figures_line(part, figures[part]))
    return figures


def _asked(data_dir: str | Path, only: str | None, known: Collection[str]) -> tuple[Path, list[str]]:
    """The folder and the parts that are asked for. Raises TrainingError."""
    data = Path(data_dir)
    if not data.is_dir():
        raise TrainingError(f"train: {data}: expected a folder of training data, got none; check --data")
    if only is not None and only not in known:
        raise TrainingError(f"train: expected one of {list(known)}, got {only!r}; correct --only")
    return data, [part for part in known if only in (None, part)]


def _figures_line(part: str, figures: Mapping[str, Any]) -> str:
    return f"{part}: on its test split {json.dumps(figures, ensure_ascii=False)}"


@contextmanager
def _quiet_training(progress: Progress) -> Iterator[None]:
    """THREADS threads, and what the models log goes to ``progress`` alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    handler, logger = _ProgressHandler(progress), logging.getLogger("models")
    passed_on, logger.propagate = logger.propagate, False  # else the command's own log says it once more
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = passed_on
        torch.set_num_threads(before)


def variants_of(part: str) -> list[str]:
    """Names that ``--variant`` takes for a part, the default first."""
    if part == "text":
        from models.training.text.train import DEFAULT_VARIANT, VARIANTS

        names, default = list(VARIANTS), DEFAULT_VARIANT
    elif part == "image":
        from models.training.image import train as train_image

        names, default = list(train_image.VARIANTS), train_image.DEFAULT_VARIANT
    elif part == "voice":
        from models.training.voice import train as train_voice

        names, default = list(train_voice.VARIANTS), train_voice.DEFAULT_VARIANT
    else:
        return []
    return [default, *(name for name in names if name != default)]


def _check_choice(only: str | None, choice: Choice) -> None:
    """Raises TrainingError for what cannot be combined."""
    if choice.variant is not None:
        known = variants_of(only or "")
        if only is None or choice.variant not in known:
            raise TrainingError(
                f"train: expected a variant of one encoder ({only or 'none named'}: {known}), "
                f"got {choice.variant!r}; correct --only and --variant"
            )
    if (choice.folder is None) == (choice.variant or "").startswith("hf"):
        raise TrainingError(
            f"train: expected --folder with a variant hf and only with it, got {choice.folder} and "
            f"{choice.variant}; name both or neither"
        )
    if choice.emotion and only not in (None, "voice"):
        raise TrainingError(f"train: expected --emotion with the voice encoder, got {only}; correct --only")


class _ProgressHandler(logging.Handler):
    """Hands what training logs to the progress of the command."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress(record.getMessage())


def _train_text(
    data: Path, out: Path, taxonomy: Taxonomy, choice: Choice, progress: Progress
) -> dict[str, Any]:
    from models.training.text.train import DEFAULT_VARIANT, VARIANTS, train_text

    recipe = VARIANTS[choice.variant or DEFAULT_VARIANT]
    recipe = recipe._replace(epochs=choice.epochs or recipe.epochs)
    target, device = out / "text.safetensors", resolve_device(choice.device)
    return train_text(data, target, taxonomy, progress, recipe=recipe, device=device, folder=_folder(choice))


def _train_image(
    data: Path, out: Path, taxonomy: Taxonomy, choice: Choice, progress: Progress
) -> dict[str, Any]:
    from models.encoder import TextContent
    from models.training.image.train import DEFAULT_VARIANT, train_image

    def embed(titles: Sequence[str]) -> npt.NDArray[np.float32]:
        reader = load_encoder("text", _mine(out, "text"))
        return reader.encode([reader.decode(TextContent(title or "-")) for title in titles]).embedding

    return train_image(
        data,
        out / "image.safetensors",
        choice.epochs,
        device=resolve_device(choice.device),
        variant=choice.variant or DEFAULT_VARIANT,
        titles=embed,
        taxonomy=taxonomy,
        folder=_folder(choice),
    )


def _train_voice(
    data: Path, out: Path, taxonomy: Taxonomy, choice: Choice, progress: Progress
) -> dict[str, Any]:
    from models.training.voice.train import DEFAULT_VARIANT, EPOCHS, train_voice

    return train_voice(
        data,
        out / "voice.safetensors",
        choice.epochs or EPOCHS,
        device=resolve_device(choice.device),
        variant=choice.variant or DEFAULT_VARIANT,
        emotion=choice.emotion,
        folder=_folder(choice),
    )


def _train_fusion(
    data: Path, out: Path, taxonomy: Taxonomy, choice: Choice, progress: Progress
) -> dict[str, Any]:
    from models.training.fusion.train import train_fusion

    taxonomy = with_words(data, taxonomy)
    encoders = {
        modality: load_encoder(modality, _mine(out, modality), words=taxonomy.words, taxonomy=taxonomy)
        for modality in LOADERS
    }
    return train_fusion(data, out / "fusion.safetensors", encoders, taxonomy, progress)


_TRAINERS: Final[Mapping[str, Callable[[Path, Path, Taxonomy, Choice, Progress], dict[str, Any]]]] = {
    "text": _train_text,
    "image": _train_image,
    "voice": _train_voice,
    "fusion": _train_fusion,
}


def _folder(choice: Choice) -> LocalFolder | None:
    return LocalFolder(choice.folder) if choice.folder else None


def _mine(out: Path, modality: str) -> Path | None:
    """The encoder trained into the same folder, None for the shipped one."""
    file = out / f"{modality}.safetensors"
    return file if file.is_file() else None


def with_words(data: Path, taxonomy: Taxonomy) -> Taxonomy:
    """A taxonomy that maps spoken words as the training folder's ``taxonomy.json`` does, where it has one."""
    file = data / "taxonomy.json"
    if taxonomy.words or not file.is_file():
        return taxonomy
    words = {w: c for w, c in load_taxonomy(file).words.items() if c in taxonomy.slots}
    return replace(taxonomy, words=words)
