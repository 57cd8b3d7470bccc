"""The event files that the demo runs on: the shipped sample, or real content of a data folder.

The spoken words of both stand for categories by an arbitrary code (word i of the training words says
category i mod 12), which a taxonomy file may hold; the shipped taxonomy has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from features.errors import UsageError
from features.taxonomy import DEFAULT_PATH, VOICE_WORDS, load_taxonomy

EVENT_FILE: Final = pa.schema(
    [
        ("topic", pa.string()),
        ("key", pa.string()),
        ("value", pa.binary()),
        ("headers", pa.map_(pa.string(), pa.string())),
    ]
)
"""What ``portrait produce`` sends, row by row."""

SAMPLE: Final = Path(__file__).with_name("sample")
SAMPLE_EVENTS: Final = SAMPLE / "events.parquet"
SAMPLE_TASTES: Final = SAMPLE / "tastes.json"

_FIRST_LEVEL: Final = [c.id for c in load_taxonomy().categories if c.parent is None]

DEMO_WORDS: Final[Mapping[str, str]] = {word: _FIRST_LEVEL[i % 12] for i, word in enumerate(VOICE_WORDS)}
"""Spoken word → category of the demo."""


def write_demo_taxonomy(file: Path) -> Path:
    """The shipped taxonomy with :data:`DEMO_WORDS`, as a file that ``taxonomy:`` of the settings can name."""
    data = yaml.safe_load(DEFAULT_PATH.read_text(encoding="utf-8"))
    data["words"] = dict(DEMO_WORDS)
    file.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file


def sample_tastes() -> dict[str, list[str]]:
    """User of the sample → the two categories planted in what he or she says."""
    tastes: dict[str, list[str]] = json.loads(SAMPLE_TASTES.read_text(encoding="utf-8"))
    return tastes


class _Content(NamedTuple):
    """Where the content that an event refers to lies, and how it is sent."""

    dataset: str
    id: str
    column: str
    topic: str
    type: str
    content_type: str


_REVIEW: Final = ("reviews", "portrait.review.v1", "application/json")
_IMAGE: Final = ("images", "portrait.image.v1", "image/jpeg")
_CONTENTS: Final = {
    "text_zh_online_shopping": _Content("text_zh_online_shopping", "id", "review", *_REVIEW),
    "text_en_womens_clothing": _Content("text_en_womens_clothing", "id", "review", *_REVIEW),
    "img_fashion_products.title": _Content("img_fashion_products", "product_id", "title", *_REVIEW),
    "img_fashion_products": _Content("img_fashion_products", "product_id", "jpg", *_IMAGE),
    "img_clothing_user_photos": _Content("img_clothing_user_photos", "image", "jpg", *_IMAGE),
    "img_grocery": _Content("img_grocery", "path", "jpg", *_IMAGE),
    "aud_dspspeech20": _Content("aud_dspspeech20", "id", "ogg", "voices", "portrait.voice.v1", "audio/ogg"),
}


def joined_users_stream(data: Path, users: int) -> pa.Table:
    """The events of the first ``users`` users of ``joined_users_events`` as an event file, by event time.

    Texts, photos and clips are looked up by reference and sent as they are, in CloudEvents binary mode;
    labels (category, sentiment, person) enter no message.

    Raises UsageError when the folder lacks a file or a reference.
    """
    events = _read(data, "joined_users_events", ["event_id", "user_id", "ts_ms", "dataset", "ref"])
    wanted = sorted(events["user_id"].unique().to_pylist())[:users]
    chosen = events.filter(pc.is_in(events["user_id"], pa.array(wanted)))
    rows = chosen.sort_by([("ts_ms", "ascending"), ("event_id", "ascending")]).to_pylist()
    contents = {name: _contents(data, name, rows) for name in sorted({row["dataset"] for row in rows})}
    return pa.Table.from_pylist(list(_messages(rows, contents)), EVENT_FILE)


def _messages(rows: list[dict[str, Any]], contents: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        how, content = _CONTENTS[row["dataset"]], contents[row["dataset"]].get(row["ref"])
        if content is None:
            raise UsageError(
                f"joined_users_events: {row['event_id']}: expected {row['ref']} in {how.dataset}, got none; "
                "take all files from the same set"
            )
        time = datetime.fromtimestamp(row["ts_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
        headers = {
            "ce_specversion": "1.0",
            "ce_id": row["event_id"],
            "ce_source": "joined-users",
            "ce_type": how.type,
            "ce_time": time.replace("+00:00", "Z"),
            "ce_subject": row["user_id"],
            "content-type": how.content_type,
        }
        value = (
            json.dumps({"text": content}, ensure_ascii=False).encode()
            if isinstance(content, str)
            else content
        )
        yield {"topic": how.topic, "key": row["user_id"], "value": value, "headers": list(headers.items())}


def _contents(data: Path, dataset: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Reference → content of one data set, for the references in ``rows``."""
    if dataset not in _CONTENTS:
        raise UsageError(f"joined_users_events: expected data sets {sorted(_CONTENTS)}, got {dataset}")
    how = _CONTENTS[dataset]
    table = _read(data, how.dataset, [how.id, how.column])
    refs = pa.array(sorted({row["ref"] for row in rows if row["dataset"] == dataset}))
    found = table.filter(pc.is_in(table[how.id], refs))
    return dict(zip(found[how.id].to_pylist(), found[how.column].to_pylist(), strict=True))


def _read(data: Path, name: str, columns: list[str]) -> pa.Table:
    file = data / f"{name}.parquet"
    try:
        return pq.read_table(file, columns=columns)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise UsageError(
            f"{file}: expected a parquet file with {', '.join(columns)}, got {type(error).__name__}; "
            "name the folder of the real content with --data"
        ) from error
