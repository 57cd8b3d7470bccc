"""Voices in the report: cross-fitted trainings, mean spectra beside them, what moments and bands count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.signal import istft, stft  # type: ignore[attr-defined]

from models.encoder import Encoder
from models.evaluation.encoders.attribution import FRACTIONS, deletion_test, occlusion
from models.evaluation.encoders.content import Item, files_of, taxonomy_of
from models.evaluation.encoders.explanations import Explained, explained_section, verdict_score
from models.evaluation.encoders.image import linear_on
from models.evaluation.encoders.retrain import unseen_items
from models.evaluation.encoders.steps import Modality
from models.evaluation.step import Context, Section
from models.registry import load_encoder
from models.training.dataset import load_dataset
from models.training.voice.data import MelOf
from models.voice.decode import RATE_HZ, Wave, decode_voice

MOMENTS: Final = 6
EDGES_HZ: Final = (0, 400, 900, 1800, 3500, 8000)
"""Bands that are hidden one by one, in each of MOMENTS equal parts of a clip."""
HIDDEN_GAIN: Final = 0.03
"""-30 dB: silence would be louder evidence than any sound, since frames are standardised."""


def voice_modality(data: Path) -> Modality:
    """How the report treats voices."""
    return Modality(
        name="voice",
        files=files_of(data, "voice"),
        baselines={"mean spectrum + linear": _spectra},
        baseline_heads=("word",),
        explain=_explain,
        plots=tuple((p.name, "word") for p in load_dataset(data).voice if p.role == "words"),
        subsets={},
        by_language=False,
        baseline_s=60,
    )


def mean_spectrum(mel_of: MelOf, wave: Wave) -> npt.NDArray[np.float32]:
    """[80]: mean and standard deviation of each mel band over a clip."""
    mel = mel_of(wave)
    return np.concatenate([mel.mean(1), mel.std(1)])


def _spectra(items: Sequence[Item], head: str) -> Callable[..., npt.NDArray[Any]]:
    mel_of = MelOf()
    features = np.stack([mean_spectrum(mel_of, decode_voice(item.content)) for item in items])
    return linear_on(features, np.array([item.labels[head] for item in items]))


def _explain(ctx: Context) -> Section:
    """Occlusion of moments and bands in clips of test speakers, and the deletion test."""
    taxonomy = taxonomy_of(ctx.data)
    encoder = load_encoder("voice", ctx.weights / "voice.safetensors", "cpu", taxonomy.words, taxonomy)
    rng = np.random.default_rng(0)
    items = unseen_items(ctx, "voice")
    chosen = rng.permutation(len(items))[: ctx.budget.explained]
    found = [_explain_one(encoder, items[int(i)], rng) for i in chosen]
    note = (
        f"A clip is cut into {MOMENTS} moments x {len(EDGES_HZ) - 1} bands of its short-time spectrum; what "
        "is hidden is made 30 dB quieter, and the sound put together again."
    )
    return explained_section("moments and bands", found, FRACTIONS, ctx.budget.repeats, note)


def _explain_one(encoder: Encoder, item: Item, rng: np.random.Generator) -> Explained:
    wave: Wave = encoder.decode(item.content)
    hide, names = hide_sounds(wave)
    score, said = verdict_score(encoder, "word", lambda sample: sample, wave)
    importance = occlusion(score, hide, len(names))
    marked, random = deletion_test(score, hide, importance, rng)
    marks = [(names[i], float(importance[i])) for i in np.argsort(-importance)[:3]]
    return Explained("word", said, item.labels["word"], marks, marked, random)


def hide_sounds(wave: Wave) -> tuple[Callable[[npt.NDArray[np.bool_]], Wave], list[str]]:
    """What makes a clip quieter in some of its moments and bands, and the names of these regions."""
    hz, at_s, spectrum = stft(wave, RATE_HZ, nperseg=400, noverlap=300)
    band = np.searchsorted(EDGES_HZ[1:-1], hz, side="right")
    moment = np.minimum((np.arange(len(at_s)) * MOMENTS) // max(len(at_s), 1), MOMENTS - 1)
    bands = len(EDGES_HZ) - 1
    cells = moment[None, :] * bands + band[:, None]
    step_s = len(wave) / RATE_HZ / MOMENTS
    names = [
        f"{m * step_s:.2f}-{(m + 1) * step_s:.2f} s, {EDGES_HZ[b]}-{EDGES_HZ[b + 1]} Hz"
        for m in range(MOMENTS)
        for b in range(bands)
    ]

    def hide(hidden: npt.NDArray[np.bool_]) -> Wave:
        _, sound = istft(
            spectrum * np.where(hidden[cells], HIDDEN_GAIN, 1.0), RATE_HZ, nperseg=400, noverlap=300
        )
        whole = np.zeros_like(wave)
        length = min(len(wave), len(sound))
        whole[:length] = sound[:length]
        return whole

    return hide, names
