"""``portrait encode`` takes columns of any tool, refuses those that do not fit, and keeps each row."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import UsageError
from features.schema import EMBEDDING_DIM, Modality
from models.encoder import ContentError, Encoded, HeadScores, TextContent
from pipelines.operations import encode_file as module
from pipelines.operations.encode_file import encode_file
from pipelines.settings import Settings

TEXTS: Final = ["good", None, "好"]


class EchoEncoder:
    """Labels a content with itself."""

    fingerprint = "00" * 32
    device = "cpu"

    def __init__(self, modality: str) -> None:
        self.modality = modality

    def decode(self, content: Any) -> str:
        assert isinstance(content, TextContent if self.modality == "text" else bytes)
        text = content.text if isinstance(content, TextContent) else content.decode()
        if not text:
            raise ContentError("empty_text", "expected something visible, got blanks")
        return text

    def sample_bytes(self, sample: str) -> int:
        return len(sample)

    def encode(self, samples: Sequence[str]) -> Encoded:
        vectors = np.zeros((len(samples), EMBEDDING_DIM), np.float32)
        return Encoded(vectors, {"category": HeadScores(list(samples), np.ones(len(samples), np.float32))})


@pytest.fixture(autouse=True)
def _echo(monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = {modality: EchoEncoder(modality.name.lower()) for modality in Modality}
    held = SimpleNamespace(encoders=encoders, spaces=SimpleNamespace(event_space="ab12"))
    monkeypatch.setattr(module, "worker", lambda settings: held)


def _encode(folder: Path, modality: str = "text", column: str = "content", identity: str = "id") -> Any:
    encode_file(folder / "in.parquet", folder / "out.parquet", modality, column, identity, Settings())
    return pq.read_table(folder / "out.parquet")


def _write(folder: Path, content: Any, ids: Any = None) -> None:
    ids = list(range(len(content))) if ids is None else ids
    pq.write_table(pa.table({"id": ids, "content": content}), folder / "in.parquet")


def _pandas(file: Path) -> None:
    pd.DataFrame({"id": [1, 2, 3], "content": ["good", float("nan"), "好"]}).to_parquet(file)


def _pandas_categories(file: Path) -> None:
    pd.DataFrame({"id": [1, 2, 3], "content": pd.Categorical(TEXTS)}).to_parquet(file)


def _polars(file: Path) -> None:
    pl.DataFrame({"id": [1, 2, 3], "content": TEXTS}).write_parquet(file)


def _polars_enum(file: Path) -> None:
    kind = pl.Enum(["good", "好"])
    pl.DataFrame({"id": [1, 2, 3], "content": pl.Series(TEXTS, dtype=kind)}).write_parquet(file)


def _duckdb(file: Path) -> None:
    rows = "SELECT * FROM (VALUES (1, 'good'), (2, NULL), (3, '好')) AS t(id, content)"
    duckdb.sql(f"COPY ({rows}) TO '{file}' (FORMAT parquet)")


def _views(file: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "content": pa.array(TEXTS, pa.string_view())}), file)


@pytest.mark.parametrize(
    "write",
    [_pandas, _pandas_categories, _polars, _polars_enum, _duckdb, _views],
    ids=lambda write: write.__name__.strip("_"),
)
def test_texts_of_any_tool_are_read_and_a_null_is_an_error_row(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "in.parquet")
    table = _encode(tmp_path)
    assert table["id"].to_pylist() == [1, 2, 3]
    assert table["category"].to_pylist() == ["good", None, "好"]
    assert table["error"].to_pylist() == [None, "empty_value", None]


BYTES: Final = [b"good", None, b"more"]


@pytest.mark.parametrize(
    "content",
    [
        pa.array(BYTES),
        pa.array(BYTES, pa.large_binary()),
        pa.array(BYTES, pa.binary_view()),
        pa.array(BYTES, pa.binary(4)),
        pa.array(BYTES).dictionary_encode(),
        pa.array([value and {"bytes": value, "path": "x.jpg"} for value in BYTES]),
        pa.array([{"bytes": value, "path": None} for value in BYTES]),
    ],
    ids=lambda array: str(array.type),
)
def test_media_are_read_from_bytes_of_any_type_and_from_structs_of_hugging_face(
    tmp_path: Path, content: Any
) -> None:
    _write(tmp_path, content)
    table = _encode(tmp_path, "image")
    assert table["category"].to_pylist() == ["good", None, "more"]
    assert table["error"].to_pylist() == [None, "empty_value", None]


def test_a_column_of_nulls_alone_gives_error_rows(tmp_path: Path) -> None:
    _write(tmp_path, pa.nulls(2))
    for modality in ("text", "voice"):
        assert _encode(tmp_path, modality)["error"].to_pylist() == ["empty_value"] * 2


def test_text_that_is_no_utf8_is_an_error_row(tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff"))
    _write(tmp_path, broken)
    assert _encode(tmp_path)["error"].to_pylist() == ["bad_encoding"]


MANY: Final = 600
"""Rows of more than one batch."""
IDS: Final = {
    "int": pa.array(range(MANY)),
    "int8": pa.array([1] * MANY, pa.int8()),
    "text": pa.array([f"r{i}" for i in range(MANY)]),
    "large text": pa.array(["r"] * MANY, pa.large_string()),
    "dictionary": pa.array([f"r{i % 300}" for i in range(MANY)]).dictionary_encode(),
    "uuid": pa.array([uuid.UUID(int=i).bytes for i in range(MANY)], pa.uuid()),
    "16 bytes": pa.array([uuid.UUID(int=i).bytes for i in range(MANY)], pa.binary(16)),
    "date": pa.array([date(2026, 1, 1)] * MANY),
    "time": pa.array([0] * MANY, pa.timestamp("us", "UTC")),
    "decimal": pa.array([Decimal("1.5")] * MANY),
    "null": pa.nulls(MANY),
}


@pytest.mark.parametrize("kind", IDS)
def test_an_id_of_any_type_is_copied(tmp_path: Path, kind: str) -> None:
    _write(tmp_path, ["good"] * MANY, IDS[kind])
    table = _encode(tmp_path)
    assert table["id"].to_pylist() == IDS[kind].to_pylist()
    assert table["id"].type == IDS[kind].type


def test_the_column_may_be_the_id_too(tmp_path: Path) -> None:
    _write(tmp_path, ["good"])
    assert _encode(tmp_path, identity="content")["content"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    ("modality", "content", "got"),
    [
        ("text", [1], "int64"),
        ("text", [1.5], "double"),
        ("text", [True], "bool"),
        ("text", [date(2026, 1, 1)], "date32[day]"),
        ("text", [Decimal("1.5")], "decimal128(2, 1)"),
        ("text", [b"x"], "binary"),
        ("text", [["x"]], "list<"),
        ("text", [{"bytes": b"x", "path": "x"}], "struct<bytes: binary, path: string>"),
        ("text", pd.Categorical([1, 2]), "int64"),
        ("image", ["x.jpg"], "string"),
        ("image", [[1, 2]], "list<"),
        ("voice", [{"array": [0.5], "path": "x", "sampling_rate": 8000}], "struct<array"),
        ("voice", [{"bytes": "x", "path": "x"}], "struct<bytes: string"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str, content: Any, got: str
) -> None:
    monkeypatch.setattr(module, "worker", None)
    _write(tmp_path, pa.array(content))
    expected = "text" if modality == "text" else "bytes or {bytes, path}"
    with pytest.raises(UsageError) as refused:
        _encode(tmp_path, modality)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'in.parquet'}: column 'content': expected {expected}, got {got}")
    assert "; name another column, or" in said
    assert not (tmp_path / "out.parquet").exists()


def test_a_path_alone_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "worker", None)
    rows = [{"bytes": b"x", "path": "1.jpg"}] * 300 + [{"bytes": None, "path": "private.jpg"}] * 2
    _write(tmp_path, rows)
    with pytest.raises(UsageError, match="a path alone in 2 of 302 rows, first in row 301") as refused:
        _encode(tmp_path, "image")
    assert "embed_table_storage" in str(refused.value)
    assert "private" not in str(refused.value)


def test_columns_that_are_absent_double_or_named_as_ours_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, ["good"])
    with pytest.raises(UsageError, match="expected one column 'text', got columns id, content; name"):
        _encode(tmp_path, column="text")
    pq.write_table(pa.table([["a"], ["b"], ["c"]], ["content", "content", "error"]), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match="expected one column 'content', got 2 of that name"):
        _encode(tmp_path, identity="error")
    pq.write_table(pa.table({"content": ["a"], "error": ["b"]}), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match="expected an id column of another name, got 'error'"):
        _encode(tmp_path, identity="error")
    assert not (tmp_path / "out.parquet").exists()
