"""Event files of any tool give the same messages, and what does not fit is refused before the first one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import UsageError
from pipelines.messages.dead_letter import Message
from pipelines.operations.produce import produce_file, read_messages
from pipelines.settings import Settings, Topics

TOPICS: Final = Topics(reviews="shop.reviews")
HEADERS: Final = (("ce_id", b"e1"), ("ce_type", b"portrait.review.v1"))
SENT: Final = [
    Message("shop.reviews", b"ann", b'{"text": "fine"}', HEADERS),
    Message("elsewhere", b"bob", None, ()),
]
"""What every writer below writes: a null value is a tombstone, and null headers are none."""
_TOPIC, _KEY, _VALUE = ["reviews", "elsewhere"], ["ann", "bob"], ['{"text": "fine"}', None]
_PAIRS: Final = [["ce_id", "e1"], ["ce_type", "portrait.review.v1"]]


def _pyarrow(file: Path) -> None:
    kinds = pa.map_(pa.string(), pa.binary())
    table = {"topic": _TOPIC, "key": _KEY, "value": pa.array(_VALUE, pa.large_string())}
    pq.write_table(pa.table(table | {"headers": pa.array([HEADERS, None], kinds)}), file)


def _pyarrow_newer_types(file: Path) -> None:
    table = {
        "topic": pa.array(_TOPIC).dictionary_encode(),
        "key": pa.array([b"ann", b"bob"], pa.binary(3)),
        "value": pa.array([_VALUE[0].encode(), None], pa.binary_view()),  # type: ignore[union-attr]
        "headers": pa.array([_PAIRS, None], pa.large_list(pa.list_(pa.string(), 2))),
    }
    pq.write_table(pa.table(table), file)


def _pandas_struct(file: Path) -> None:
    frame = pd.DataFrame({"topic": pd.Categorical(_TOPIC), "key": _KEY, "value": [_VALUE[0], float("nan")]})
    names = {"ce_id": "e1", "ce_type": "portrait.review.v1", "content-type": None}
    frame.assign(headers=[names, {"ce_id": None}]).to_parquet(file)


def _pandas_pairs(file: Path) -> None:
    frame = pd.DataFrame({"topic": _TOPIC, "key": _KEY, "value": pd.array(_VALUE, dtype="string")})
    frame.assign(headers=[list(HEADERS), []]).to_parquet(file)


def _polars(file: Path) -> None:
    headers = [[{"key": name, "value": value} for name, value in _PAIRS], None]
    pl.DataFrame({"topic": _TOPIC, "key": _KEY, "value": _VALUE, "headers": headers}).write_parquet(file)


def _polars_categories(file: Path) -> None:
    headers = [[{"name": name, "value": value} for name, value in HEADERS], []]
    frame = pl.DataFrame({"topic": _TOPIC, "key": _KEY, "value": _VALUE, "headers": headers})
    frame.with_columns(
        pl.col("topic", "key").cast(pl.Categorical), pl.col("value").cast(pl.Binary)
    ).write_parquet(file)


def _duckdb(file: Path) -> None:
    duckdb.sql(
        f"""COPY (SELECT 'reviews' topic, 'ann'::BLOB AS key, '{_VALUE[0]}'::JSON AS value,
                         MAP {{'ce_id': 'e1', 'ce_type': 'portrait.review.v1'}} headers
                  UNION ALL SELECT 'elsewhere', 'bob', NULL, NULL) TO '{file}' (FORMAT parquet)"""
    )


WRITERS: Final = (
    _pyarrow,
    _pyarrow_newer_types,
    _pandas_struct,
    _pandas_pairs,
    _polars,
    _polars_categories,
    _duckdb,
)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.strip("_"))
def test_a_file_of_any_tool_gives_the_same_messages(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "events.parquet")
    assert list(read_messages(tmp_path / "events.parquet", TOPICS)) == SENT


def _file(folder: Path, rows: int = 1, **columns: Any) -> Path:
    """An event file that is right but for the columns given."""
    right = {"topic": ["images"], "key": ["ann"], "value": [b"x"], "headers": pa.nulls(rows)}
    columns = {name: columns.get(name, held) for name, held in right.items()}
    table = {
        name: held * rows if isinstance(held, list) and len(held) == 1 else held
        for name, held in columns.items()
    }
    pq.write_table(pa.table(table), folder / "events.parquet")
    return folder / "events.parquet"


def test_files_of_hugging_face_are_sent_by_their_bytes(tmp_path: Path) -> None:
    media = [{"bytes": b"GIF89a", "path": "1.gif"}, {"bytes": None, "path": None}, None]
    sent = read_messages(_file(tmp_path, 3, value=media), TOPICS)
    assert [message.value for message in sent] == [b"GIF89a", None, None]


def test_bytes_that_are_no_utf8_are_sent_as_they_stand(tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff"))
    (message,) = read_messages(_file(tmp_path, value=broken), TOPICS)
    assert message.value == b"\xff"


def test_a_topic_may_be_named_as_anything_of_the_settings_is(tmp_path: Path) -> None:
    (message,) = read_messages(_file(tmp_path, topic=["all"]), TOPICS)
    assert message.topic == "all"


MISFITS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "number as key": ({"key": [7]}, "column 'key': expected text or bytes, got int64; cast it to text"),
    "float as key": ({"key": [7.0]}, "column 'key': expected text or bytes, got double"),
    "uuid as key": ({"key": pa.array([b"u" * 16], pa.uuid())}, "'key': expected text or bytes, got ext"),
    "time as topic": ({"topic": pa.array([0], pa.date32())}, "column 'topic': expected text, got date32"),
    "object as value": ({"value": [{"text": "x"}]}, "expected text, bytes or {bytes, path}, got struct<text"),
    "list as value": ({"value": [[1, 2]]}, "column 'value': expected text, bytes or"),
    "text as headers": ({"headers": ["{}"]}, "column 'headers': expected a map, a list of {key, value}"),
    "numbers in headers": (
        {"headers": pa.array([[("n", 1)]], pa.map_(pa.string(), pa.int64()))},
        "got map<string, int64",
    ),
    "number in a struct": ({"headers": [{"n": 1}]}, "column 'headers': expected a map"),
    "structs of others": ({"headers": [[{"k": "a", "v": "b"}]]}, "column 'headers': expected a map"),
    "list of texts": ({"headers": [["a", "b"]]}, "column 'headers': expected a map"),
    "path alone": (
        {"value": [{"bytes": None, "path": "1.jpg"}]},
        "column 'value': expected the bytes of every file, got a path alone in 1 of 1 rows, first in row 1; "
        "read the files into `bytes` (Hugging Face: datasets.table.embed_table_storage)",
    ),
    "null topic": ({"rows": 2, "topic": ["a", None]}, "row 2: expected a topic, got a null"),
    "neither": ({"rows": 2, "key": ["a", None], "value": [b"", None]}, "row 2: expected a key or a value"),
    "a pair of three": (
        {"rows": 2, "headers": [[["a", "b"]], [["a", "b", "c"]]]},
        "row 2: column 'headers': expected pairs of a name and a value, got a list of 3; correct the row",
    ),
    "no name": (
        {"headers": [[{"key": "a", "value": "b"}, {"key": None, "value": "secret"}]]},
        "row 1: column 'headers': expected a name for each value, got a null",
    ),
    "a name of other bytes": ({"headers": [[[b"\xff", b"secret"]]]}, "row 1: column 'headers': expected UTF"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_before_anything_is_sent(tmp_path: Path, case: str) -> None:
    columns, said = MISFITS[case]
    with pytest.raises(UsageError) as refused:  # at once: nobody asked for a message yet
        read_messages(_file(tmp_path, **columns), TOPICS)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'events.parquet'}: ")
    assert said in message
    assert "secret" not in message


def test_all_columns_that_do_not_fit_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_messages(_file(tmp_path, topic=[1], key=[1], value=[1], headers=[1]), TOPICS)
    assert [line.split("'")[1] for line in str(refused.value).splitlines()] == [
        "topic", "key", "value", "headers"
    ]  # fmt: skip


def test_a_file_without_a_column_or_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(pa.table({"topic": ["a"], "value": [b""]}), file)
    with pytest.raises(UsageError, match="expected columns topic, key, value, headers, got no key, headers"):
        read_messages(file, TOPICS)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UsageError, match="expected a whole parquet file, got a damaged one"):
        read_messages(file, TOPICS)


def test_a_refused_file_needs_no_broker(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="column 'key'"):
        produce_file(_file(tmp_path, key=[1]), Settings())
