"""An invented shop with categories of its own: notes, drawings, sounds and streams, a handful of each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import yaml
from PIL import Image, ImageDraw

KINDS = {"boat": ["sail", "mast", "hull", "anchor"], "cheese": ["brie", "rind", "cheddar", "curd"]}
TAXONOMY = {
    "categories": [
        {"id": "water", "zh": "水上", "en": "On water"},
        {"id": "food", "zh": "食品", "en": "Food"},
    ],
    "maps": {"kind": {"boat": "water", "cheese": "food"}},
    "words": {"ahoy": "water", "yum": "food"},
}
SPEC: dict[str, Any] = {
    "taxonomy": "shop.yaml",
    "text": [
        {
            "file": "notes.parquet",
            "forms": [["note"]],
            "group": "writer",
            "labels": {"kind": "kind"},
            "sentiment": "liked",
            "category": {"kind": "kind"},
        }
    ],
    "image": [
        {
            "file": "drawings.parquet",
            "image": "png",
            "group": "draughtsman",
            "title": "title",
            "labels": {"kind": "kind", "shade": {"column": "hue", "map": {"7": "warm", "200": "cold"}}},
            "category": {"kind": "kind"},
        }
    ],
    "voice": [
        {"file": "calls.parquet", "audio": "wav", "speaker": "who", "word": "word", "lang": "lang"},
        {"file": "moods.parquet", "audio": "wav", "speaker": "who", "role": "other", "emotion": "mood"},
    ],
    "fusion": {
        "events": {
            "file": "events.parquet",
            "user": "user",
            "time_ms": "at",
            "modality": "kind",
            "category": "about",
            "dataset": "set",
        },
        "next": {"file": "next.parquet", "user": "user", "time_ms": "at", "category": "about"},
    },
}


def write_shop(folder: Path) -> Path:
    """All files of the shop."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("notes", _notes()),
        ("drawings", _drawings()),
        ("calls", _calls()),
        ("moods", _moods()),
        ("events", _events()),
        ("next", [{"user": f"u{u}", "at": 10**9, "about": "water" if u % 2 else "food"} for u in range(60)]),
    ):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    write_spec(folder, SPEC)
    (folder / "shop.yaml").write_text(yaml.safe_dump(TAXONOMY), encoding="utf-8")
    return folder


def write_spec(folder: Path, spec: dict[str, Any]) -> None:
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


def _notes() -> list[dict[str, Any]]:
    return [
        {
            "note": f"The {word} number {i} is {'lovely' if i % 2 else 'awful'} and the {words[i % 4]} too",
            "writer": f"w{i}{word}",
            "kind": kind,
            "liked": i % 2,
        }
        for kind, words in KINDS.items()
        for word in words
        for i in range(15)
    ]


def drawing(kind: str, seed: int) -> bytes:
    """A triangle on blue or a yellow disc."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 48), (40, 90, 200) if kind == "boat" else (240, 240, 230))
    x, y = (int(v) for v in rng.integers(4, 18, 2))
    draw = ImageDraw.Draw(image)
    if kind == "boat":
        draw.polygon([(x, y + 24), (x + 12, y), (x + 24, y + 24)], fill="white")
    else:
        draw.ellipse((x, y, x + 24, y + 24), fill=(230, 200, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _drawings() -> list[dict[str, Any]]:
    return [
        {
            "png": drawing(kind, i),
            "draughtsman": f"d{i}",
            "title": f"{kind} number {i}",
            "kind": kind,
            "hue": 200 if kind == "boat" else 7,
        }
        for kind in KINDS
        for i in range(60)
    ]


def call(word: str, seed: int) -> bytes:
    """A falling or a rising tone, as WAV."""
    t = np.arange(8_000) / 16_000
    pitch = 300 + 40 * (seed % 5) + (600 * t if word == "yum" else 600 * (0.5 - t))
    tone = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / 16_000) / k for k in range(1, 6))
    noise = np.random.default_rng(seed).normal(0, 0.003, len(t))
    buffer = io.BytesIO()
    wave = 0.3 * tone * np.sin(np.pi * t / t[-1]) + noise
    soundfile.write(buffer, wave.astype(np.float32), 16_000, format="WAV")
    return buffer.getvalue()


def _calls() -> list[dict[str, Any]]:
    return [
        {"wav": call(word, 7 * s + i), "who": f"s{s}", "word": word, "lang": "en"}
        for s in range(6)
        for word in ("ahoy", "yum")
        for i in range(4)
    ]


def _moods() -> list[dict[str, Any]]:
    return [
        {"wav": call("ahoy" if mood == "calm" else "yum", 50 + s), "who": f"m{s}", "mood": mood}
        for s in range(4)
        for mood in ("calm", "cross")
    ]


def _events() -> list[dict[str, Any]]:
    sets = {"text": "notes", "image": "drawings", "voice": "calls"}
    return [
        {
            "user": f"u{u}",
            "at": (i + 1) * 86_400_000,
            "kind": modality,
            "about": "water" if u % 2 else "food",
            "set": sets[modality],
        }
        for u in range(60)
        for i, modality in enumerate(("text", "image", "voice", "text"))
    ]
