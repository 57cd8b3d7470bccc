"""Voice clips of the sample: espeak-ng speaks, a room adds its noise. 16 kHz mono."""

from __future__ import annotations

import io
import random
import subprocess

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

RATE_HZ = 16_000
PINYIN = {
    "数字": "shu4 zi4", "语音": "yu3 yin1", "语言": "yu3 yan2", "识别": "shi2 bie2",
    "中国": "zhong1 guo2", "总工": "zong3 gong1", "北京": "bei3 jing1", "背景": "bei4 jing3",
    "上海": "shang4 hai3", "商行": "shang1 hang2", "复旦": "fu4 dan4", "饭店": "fan4 dian4",
}  # fmt: skip
"""How the Chinese words are read; espeak-ng knows too few characters itself."""
FORMATS = ("FLAC", "FLAC", "OGG", "WAV")
SPEAKERS = ("", "+m1", "+m3", "+m7", "+f2", "+f4", "+f5")


def clip(word: str, rng: random.Random) -> tuple[bytes, str]:
    """Bytes (FLAC, Ogg Vorbis or WAV) and media type of ``word`` said by one of several voices.

    Ogg bytes differ from run to run (their stream has a random number), their sound does not.
    Raises FileNotFoundError without espeak-ng.
    """
    language = "cmn-latn-pinyin" if word in PINYIN else "en-us"
    command = ["espeak-ng", "-v", language + rng.choice(SPEAKERS), "-s", str(rng.randint(105, 160)),
               "-p", str(rng.randint(30, 65)), "--stdout", PINYIN.get(word, word)]  # fmt: skip
    spoken, rate_hz = soundfile.read(io.BytesIO(_run(command)), dtype="float32")
    loud = np.flatnonzero(np.abs(spoken) > 0.004)
    sound = soxr.resample(spoken[loud[0] : loud[-1] + 1], rate_hz, RATE_HZ)
    container = rng.choice(FORMATS)
    return _encoded(_in_a_room(sound, rng), container), f"audio/{container.lower()}"


def silence(seconds: float) -> bytes:
    """A WAV file in which nothing is said."""
    return _encoded(np.zeros(int(seconds * RATE_HZ), np.float32), "WAV")


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


def _in_a_room(sound: npt.NDArray[np.float32], rng: random.Random) -> npt.NDArray[np.float32]:
    """Silence around the word, a short echo, hum and hiss; peak 0.25 to 0.8."""
    noise = np.random.default_rng(rng.getrandbits(32))
    before, after = (int(rng.uniform(0.1, 0.35) * RATE_HZ) for _ in range(2))
    padded = np.concatenate([np.zeros(before, np.float32), sound, np.zeros(after, np.float32)])
    delay = int(rng.uniform(0.012, 0.03) * RATE_HZ)
    padded[delay:] += rng.uniform(0.05, 0.2) * padded[:-delay]
    padded *= rng.uniform(0.25, 0.8) / max(float(np.abs(padded).max()), 1e-6)
    time_s = np.arange(len(padded)) / RATE_HZ
    hiss = noise.normal(0, rng.uniform(0.001, 0.006), len(padded))
    hum = rng.uniform(0, 0.004) * np.sin(2 * np.pi * 50 * time_s)
    return np.clip(padded + hiss + hum, -1, 1).astype(np.float32)


def _encoded(sound: npt.NDArray[np.float32], container: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(
        file, sound, RATE_HZ, format=container, subtype="VORBIS" if container == "OGG" else "PCM_16"
    )
    return file.getvalue()
