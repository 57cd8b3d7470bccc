"""Spoken words, and sounds that are none of them, as log-mel frames; split by speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import soxr

from models.encoder import OTHER
from models.training.dataset import DatasetError, Row, VoicePart, decode_cell, parts_of, read_rows
from models.training.splits import Split, split_of
from models.voice.decode import MAX_SAMPLE_S, MIN_SAMPLE_S, RATE_HZ, Wave, condition, decode_voice
from models.voice.mel import LogMel, log_mel

NO_LABEL: Final = -100
"""A head has nothing to learn from this clip (``ignore_index`` of torch's cross entropy)."""
MADE_SOUNDS: Final = 480
"""Most noises and pieces of music made here; a sixth of the clips in small sets."""
TEST_SHARE: Final = 5 / 26
DEV_SHARE: Final = 3 / 26
_MAJOR: Final = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 19, 24)  # semitones

Heard = npt.NDArray[np.float32]
"""What a network takes of a clip: log-mels [MELS, frames], or the features of a frozen model."""
Hear = Callable[[Wave], Heard]


class _Sound(NamedTuple):
    """One clip before it is heard."""

    wave: Wave
    label: int
    speaker: str
    source: str
    split: Split
    emotion: str = ""


@dataclass(frozen=True)
class VoiceSet:
    """n sounds. ``variants[i]`` holds what is heard of the clip itself, then of disturbed copies."""

    variants: list[list[Heard]]
    labels: npt.NDArray[np.int64]  # [n] place in words; the last one is other
    words: tuple[str, ...]
    langs: dict[str, str]
    speakers: npt.NDArray[np.str_]  # [n], empty where there is none
    sources: npt.NDArray[np.str_]  # [n] words, reversed, noise, and the names of other parts
    split: npt.NDArray[np.str_]  # [n]
    emotions: npt.NDArray[np.int64]  # [n] place in emotion_names, or NO_LABEL
    emotion_names: tuple[str, ...] = ()

    def where(self, split: Split, source: str | None = None) -> npt.NDArray[np.intp]:
        """Places of the sounds of a split (and a source)."""
        chosen = self.split == split
        return np.flatnonzero(chosen if source is None else chosen & (self.sources == source))


def load_voices(
    data: Path,
    copies: int = 2,
    seed: int = 0,
    split: Callable[[str], Split] | None = None,
    emotion: bool = False,
    hear: Hear | None = None,
) -> VoiceSet:
    """Read the clips of ``dataset.yaml``; those of the role ``judge`` stay unread.

    ``split`` maps speakers of words. Training clips get ``copies`` disturbed variants (speed and pitch,
    noise), made before denoising, as in life. Negatives: other words, sentences, words played backwards,
    noise and music made here. ``emotion`` reads that label too, where a part has it. Raises DatasetError.
    """
    rng = np.random.default_rng(seed)
    parts = parts_of(data, "voice", lambda d: d.voice)
    rows = _rows(data, [part for part in parts if part.role == "words"])
    if not rows:
        raise DatasetError(f"{data}: voice: expected clips of words, got none; add a part without a role")
    words, langs = _words(rows)
    speakers = sorted({str(row[part.speaker]) for part, row in rows})
    splits = {who: split(who) for who in speakers} if split else speaker_splits(speakers)
    clips = [
        _Sound(
            decode_cell(part.file, part.audio, row, decode_voice),
            words.index(part.word_of(row)),
            who,
            "words",
            splits[who],
        )
        for part, row in rows
        if (who := str(row[part.speaker]))
    ]
    backwards = [
        c._replace(wave=c.wave[::-1].copy(), label=len(words), source="reversed") for c in clips[::8]
    ]
    made = min(MADE_SOUNDS, max(len(clips) // 6, 8))
    others = _rows(data, [part for part in parts if part.role == "other"])
    sounds = [*clips, *backwards, *_negatives(others, len(words), emotion, made, rng)]
    hear = hear or MelOf()
    variants = [
        [hear(s.wave), *(hear(disturb(s.wave, rng)) for _ in range(copies if s.split == "train" else 0))]
        for s in sounds
    ]
    emotions = tuple(sorted({s.emotion for s in sounds} - {""}))
    return VoiceSet(
        variants,
        np.array([s.label for s in sounds], np.int64),
        (*words, OTHER),
        langs,
        np.array([s.speaker for s in sounds]),
        np.array([s.source for s in sounds]),
        np.array([s.split for s in sounds]),
        np.array([emotions.index(s.emotion) if s.emotion else NO_LABEL for s in sounds], np.int64),
        emotions,
    )


def _words(rows: Sequence[tuple[VoicePart, Row]]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Words in the order of the column ``order`` (else of the alphabet), and the language of each."""
    order = {part.word_of(row): part.place_of(row) for part, row in rows}
    langs = {part.word_of(row): part.lang_of(row) for part, row in rows}
    return tuple(sorted(order, key=lambda word: order[word])), langs


def speaker_splits(speakers: Sequence[str]) -> dict[str, Split]:
    """Speaker → split, in the order of the names' hashes: about 19 % test, 12 % tune, the others train.

    At least one each: raises DatasetError for fewer than three speakers.
    """
    order = sorted(set(speakers), key=lambda s: hashlib.sha256(f"speaker:{s}".encode()).digest())
    if len(order) < 3:
        raise DatasetError(
            f"voice: expected clips of at least 3 speakers, got {len(order)}: they train, tune and judge; "
            "record more"
        )
    test, dev = max(1, round(len(order) * TEST_SHARE)), max(1, round(len(order) * DEV_SHARE))
    return {s: "test" if i < test else "dev" if i < test + dev else "train" for i, s in enumerate(order)}


class MelOf:
    """One waveform → its log-mel frames, as the encoder sees them."""

    def __init__(self) -> None:
        self._layer = LogMel()

    def __call__(self, wave: Wave) -> Heard:
        return log_mel(self._layer, wave)


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


def _negatives(
    rows: Sequence[tuple[VoicePart, Row]], label: int, emotion: bool, count: int, rng: np.random.Generator
) -> Iterator[_Sound]:
    """What is none of the words; ``count`` of them are made here."""
    feeling = sorted({str(row[p.speaker]) for p, row in rows if emotion and p.emotion})
    judged = speaker_splits(feeling) if feeling else {}
    for part, row in rows:
        who, felt = str(row[part.speaker]), part.emotion_of(row) if emotion else ""
        wave = decode_cell(part.file, part.audio, row, decode_voice)
        found = judged[who] if felt else split_of(f"speaker:{part.speaker_prefix}{who}")
        for piece in _pieces(wave, part.pieces, rng):
            yield _Sound(piece, label, who, part.name, found, felt)
    splits: tuple[Split, ...] = ("train", "train", "dev", "test")
    for i in range(count):
        noise = make_noise(int(rng.uniform(0.3, MAX_SAMPLE_S) * RATE_HZ), rng)
        yield _Sound(_long_enough(condition(noise)), label, "", "noise", splits[i % 4])


def _pieces(wave: Wave, count: int | None, rng: np.random.Generator) -> Iterator[Wave]:
    if count is None:
        yield wave
    for _ in range(count or 0):
        length = int(min(rng.uniform(0.4, MAX_SAMPLE_S), len(wave) / RATE_HZ) * RATE_HZ)
        start = rng.integers(0, len(wave) - length + 1)
        yield _long_enough(condition(wave[start : start + length]))


def _rows(data: Path, parts: Sequence[VoicePart]) -> list[tuple[VoicePart, Row]]:
    """Rows of parts; an optional file that is not there has none."""
    return [
        (part, row)
        for part in parts
        if (data / part.file).is_file() or not part.optional
        for row in read_rows(data / part.file, part.columns())
    ]


def judged_clips(data: Path, hear: Hear) -> dict[str, list[Heard]]:
    """Name → what is heard of the clips that no training may read."""
    found: dict[str, list[Heard]] = {}
    for part, row in _rows(
        data, [p for p in parts_of(data, "voice", lambda d: d.voice) if p.role == "judge"]
    ):
        found.setdefault(part.name, []).append(hear(decode_cell(part.file, part.audio, row, decode_voice)))
    return found


def _long_enough(wave: Wave) -> Wave:
    return np.pad(wave, (0, max(int(MIN_SAMPLE_S * RATE_HZ) - len(wave), 0)))
