"""Spoken words, and sounds that are none of them, as log-mel frames; split by speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import soxr
import torch

from models.encoder import OTHER
from models.splits import Split, split_of
from models.voice import FRAME_STEP, MELS, LogMel, pad_waves
from models.voice_decode import MAX_SAMPLE_S, MIN_SAMPLE_S, RATE_HZ, Wave, condition, decode_voice

TEST_SPEAKERS: Final = 5
DEV_SPEAKERS: Final = 3
_MAJOR: Final = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 19, 24)  # semitones
Mel = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VoiceSet:
    """n sounds. ``variants[i]`` holds log-mels [MELS, frames]: the clip itself, then disturbed copies."""

    variants: list[list[Mel]]
    labels: npt.NDArray[np.int64]  # [n] place in words; the last one is other
    words: tuple[str, ...]
    langs: dict[str, str]
    speakers: npt.NDArray[np.str_]  # [n], empty where there is none
    sources: npt.NDArray[np.str_]  # [n] words, commands, sentences, noise, reversed
    split: npt.NDArray[np.str_]  # [n]

    def where(self, split: Split, source: str | None = None) -> npt.NDArray[np.intp]:
        """Places of the sounds of a split (and a source)."""
        chosen = self.split == split
        return np.flatnonzero(chosen if source is None else chosen & (self.sources == source))


def load_voices(
    data: Path, copies: int = 2, seed: int = 0, split: Callable[[str], Split] | None = None
) -> VoiceSet:
    """Read ``aud_*.parquet`` of ``data``; the digits stay unread. ``split`` maps speakers of words.

    Training clips get ``copies`` disturbed variants (speed and pitch, noise), made before denoising, as
    in life. Negatives: other words, sentences, words played backwards, noise and music made here.
    """
    rng = np.random.default_rng(seed)
    rows = pq.read_table(data / "aud_dspspeech20.parquet").to_pylist()
    words = tuple(w for _, w in sorted({(row["word_id"], row["word"]) for row in rows}))
    speakers = sorted({row["speaker"] for row in rows})
    splits = {who: split(who) for who in speakers} if split else speaker_splits(speakers)
    clips = [
        (decode_voice(row["ogg"]), words.index(row["word"]), row["speaker"], "words", splits[row["speaker"]])
        for row in rows
    ]
    backwards = [(w[::-1].copy(), len(words), who, "reversed", s) for w, _, who, _, s in clips[::8]]
    other = [(w, len(words), who, source, s) for w, who, source, s in _negatives(data, rng)]
    sounds = [*clips, *backwards, *other]
    mel = MelOf()
    variants = [
        [mel(w), *(mel(disturb(w, rng)) for _ in range(copies if s == "train" else 0))]
        for w, _, _, _, s in sounds
    ]
    return VoiceSet(
        variants,
        np.array([label for _, label, _, _, _ in sounds], np.int64),
        (*words, OTHER),
        {row["word"]: row["lang"] for row in rows},
        np.array([who for _, _, who, _, _ in sounds]),
        np.array([source for _, _, _, source, _ in sounds]),
        np.array([s for _, _, _, _, s in sounds]),
    )


def speaker_splits(speakers: Sequence[str]) -> dict[str, Split]:
    """Speaker → split, in the order of the names' hashes: TEST_SPEAKERS, DEV_SPEAKERS, all others."""
    order = sorted(set(speakers), key=lambda s: hashlib.sha256(f"speaker:{s}".encode()).digest())
    tuning = TEST_SPEAKERS + DEV_SPEAKERS
    return {s: "test" if i < TEST_SPEAKERS else "dev" if i < tuning else "train" for i, s in enumerate(order)}


class MelOf:
    """One waveform → its log-mel frames, as the encoder sees them."""

    def __init__(self) -> None:
        self._layer = LogMel()

    def __call__(self, wave: Wave) -> Mel:
        with torch.inference_mode():
            mel, counts = self._layer(*pad_waves([wave]))
        return np.asarray(mel[0, :, : counts[0]].numpy(), dtype=np.float32).copy()


def disturb(wave: Wave, rng: np.random.Generator) -> Wave:
    """The same clip at another speed and pitch (±12 %), behind noise of 3 to 30 dB, conditioned again."""
    wave = soxr.resample(wave, RATE_HZ, RATE_HZ * rng.uniform(0.88, 1.12))
    quiet = np.zeros(rng.integers(0, RATE_HZ // 4), np.float32)
    wave = np.concatenate([quiet, wave, quiet[: len(quiet) // 2]])
    noise = make_noise(len(wave), rng)
    level = float(np.sqrt(np.mean(wave**2) / (np.mean(noise**2) + 1e-12))) * 10 ** (-rng.uniform(3, 30) / 20)
    return _long_enough(condition((wave + level * noise).astype(np.float32)))


def make_noise(samples: int, rng: np.random.Generator) -> Wave:
    """Hiss of any colour, hum, clicks or music, peak 1."""
    t = np.arange(samples) / RATE_HZ
    kind = rng.integers(0, 6)
    if kind <= 2:  # power falls with frequency^slope: white, pink, brown and between
        spectrum = np.fft.rfft(rng.normal(size=samples))
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (-rng.uniform(0, 1))
        sound = np.fft.irfft(spectrum, samples)
    elif kind == 3:
        harmonics = np.arange(1, 8)[:, None]
        sound = (np.sin(2 * np.pi * rng.choice([50, 60]) * harmonics * t) / harmonics).sum(0)
        sound = sound + rng.normal(0, 0.1, samples)
    elif kind == 4:
        sound = np.where(rng.uniform(size=samples) < 5e-4, rng.normal(0, 1, samples), 0)
        sound = np.convolve(sound, np.exp(-np.arange(400) / 60), "same") + rng.normal(0, 0.003, samples)
    else:
        sound = _music(t, rng)
    return np.asarray(sound / max(np.abs(sound).max(), 1e-9), dtype=np.float32)


def _music(t: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Notes of a scale, each with overtones and a decay, two voices."""
    sound = np.zeros_like(t)
    overtones = np.arange(1, 6)[:, None]
    for _ in range(2):
        beat = rng.uniform(0.12, 0.5)
        for start in np.arange(0.0, len(t) / RATE_HZ, beat):
            pitch = 110 * 2 ** (rng.choice(_MAJOR) / 12 + rng.integers(0, 2))
            at = slice(int(start * RATE_HZ), int(start * RATE_HZ) + RATE_HZ)  # a second; the rest is faint
            on = t[at] - start
            waves = np.sin(2 * np.pi * pitch * overtones * on) / overtones ** rng.uniform(0.8, 2)
            sound[at] += np.exp(-on / rng.uniform(0.1, 0.6)) * waves.sum(0)
    return sound


def _negatives(data: Path, rng: np.random.Generator) -> Iterator[tuple[Wave, str, str, Split]]:
    """(wave, speaker, source, split) of what is none of the words."""
    for row in _rows(data / "aud_speech_commands_300.parquet"):
        who = row["speaker_hash"]
        yield decode_voice(row["ogg"]), who, "commands", split_of(f"speaker:{who}")
    for row in _rows(data / "aud_emodb4.parquet"):
        wave, split = decode_voice(row["ogg"]), split_of(f"speaker:emodb{row['speaker']}")
        for _ in range(2):
            length = int(min(rng.uniform(0.4, MAX_SAMPLE_S), len(wave) / RATE_HZ) * RATE_HZ)
            start = rng.integers(0, len(wave) - length + 1)
            yield _long_enough(condition(wave[start : start + length])), row["speaker"], "sentences", split
    splits: tuple[Split, ...] = ("train", "train", "dev", "test")
    for i in range(480):
        noise = make_noise(int(rng.uniform(0.3, MAX_SAMPLE_S) * RATE_HZ), rng)
        yield _long_enough(condition(noise)), "", "noise", splits[i % 4]


def _rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a set that training can do without."""
    return pq.read_table(file).to_pylist() if file.exists() else []


def _long_enough(wave: Wave) -> Wave:
    return np.pad(wave, (0, max(int(MIN_SAMPLE_S * RATE_HZ) - len(wave), 0)))


def pad_mels(mels: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """→ float32 [n, MELS, longest] with zeros after each end, int64 [n]; frames: a multiple of FRAME_STEP."""
    counts = torch.tensor([m.shape[1] for m in mels])
    padded = torch.zeros(len(mels), MELS, -(-int(counts.max()) // FRAME_STEP) * FRAME_STEP)
    for row, mel in zip(padded, mels, strict=True):
        row[:, : mel.shape[1]] = torch.from_numpy(mel)
    return padded, counts
