"""Columns of parquet files as other tools write them: which types fit, and their values as bytes.

The same rows come in many types. Texts are string, large_string, string_view or dictionary; headers are a
map (pyarrow, DuckDB), a list of structs (polars), lists of pairs or a struct (pandas); media may be wrapped
as ``{bytes, path}`` (Hugging Face). Types are judged before any row is read, so that nothing is half sent.
A null stays a null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import UsageError
from pipelines.messages.dead_letter import Headers

CAST_TO_TEXT: Final = (
    "cast it to text (pandas: .astype('string'), polars: .cast(pl.String), SQL: CAST(… AS VARCHAR))"
)
_LONGEST_TYPE: Final = 120
"""Characters of a type in a message: a struct may have hundreds of fields."""


def open_parquet(file: Path) -> Any:
    """The ``pq.ParquetFile``. Raises UsageError."""
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        said = "a damaged one" if isinstance(error, pa.ArrowException) else error.strerror or "none"
        raise UsageError(
            f"{file}: expected a whole parquet file, got {said}; check the path, write it again"
        ) from error


def batches(file: Path, parquet: Any, rows: int, columns: Sequence[str]) -> Iterator[Any]:
    """Record batches of so many rows, with these columns. Raises UsageError where the file is damaged."""
    try:
        yield from parquet.iter_batches(rows, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{file}: expected a whole parquet file, got {type(error).__name__} on the way; write it again"
        ) from error


def type_of(file: Path, parquet: Any, column: str) -> Any:
    """The column's Arrow type. Raises UsageError unless exactly one column has this name."""
    names = parquet.schema_arrow.names
    if names.count(column) != 1:
        got = f"{names.count(column)} of that name" if column in names else f"columns {', '.join(names)}"
        raise UsageError(f"{file}: expected one column {column!r}, got {got}; name or rename it")
    return parquet.schema_arrow.field(column).type


def misfit(file: Path, column: str, kind: Any, expected: str, what_to_do: str) -> str:
    """The message for a column whose type does not fit."""
    got = str(kind)
    got = got if len(got) <= _LONGEST_TYPE else f"{got[:_LONGEST_TYPE]}…"
    return f"{file}: column {column!r}: expected {expected}, got {got}; {what_to_do}"


def is_text(kind: Any) -> bool:
    """Text in any of Arrow's forms, or a column of nulls alone."""
    kind, types = _plain(kind), pa.types
    return any(
        test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def is_bytes(kind: Any) -> bool:
    """Bytes in any of Arrow's forms, or a column of nulls alone; a UUID is no text of its bytes."""
    kind, types = _plain(kind), pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in (*tests, types.is_null))


def is_media(kind: Any) -> bool:
    """A struct with the ``bytes`` of a file and perhaps its ``path``, as Hugging Face writes media."""
    return bool(pa.types.is_struct(kind)) and any(f.name == "bytes" and is_bytes(f.type) for f in kind)


def values_of(array: Any) -> list[bytes | None]:
    """Values of a column that is text, bytes or media: text as UTF-8, or what stands there instead of it."""
    if pa.types.is_struct(array.type):
        array = pc.struct_field(array, "bytes")
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    values: list[bytes | None] = array.cast(pa.large_binary()).to_pylist()
    return values


def refuse_paths_alone(file: Path, parquet: Any, column: str) -> None:
    """Refuse media that are named by a path and not there. Raises UsageError.

    Reads the column once where its footer does not say that all bytes are there.
    """
    kind = parquet.schema_arrow.field(column).type
    if not is_media(kind) or kind.get_field_index("path") < 0 or not may_be_null(parquet, f"{column}.bytes"):
        return
    rows, found = 0, list[int]()
    for batch in batches(file, parquet, 256, [column]):
        media = batch.column(column)
        alone = pc.and_(
            pc.is_null(pc.struct_field(media, "bytes")), pc.is_valid(pc.struct_field(media, "path"))
        )
        found += [rows + i for i in pc.indices_nonzero(alone).to_pylist()]
        rows += len(batch)
    if found:
        raise UsageError(
            f"{file}: column {column!r}: expected the bytes of every file, got a path alone in {len(found)} "
            f"of {rows} rows, first in row {found[0] + 1}; read the files into `bytes` (Hugging Face: "
            "datasets.table.embed_table_storage) and write it again"
        )


def may_be_null(parquet: Any, path: str) -> bool:
    """Whether a column (``a``, or ``a.b`` within a struct) may hold nulls, as the footer says."""
    metadata = parquet.metadata
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        columns = [group.column(i) for i in range(group.num_columns)]
        for told in (column.statistics for column in columns if column.path_in_schema == path):
            if told is None or not told.has_null_count or told.null_count:
                return True
    return False


def headers_reader(kind: Any) -> Callable[[Any], Headers] | None:
    """How a row's headers are read from a column of this type; None where it holds no headers.

    A null field of a struct is a header that the row does not have. The reader takes what ``to_pylist``
    gives, and raises ValueError saying what was expected and got.
    """
    types = pa.types
    if types.is_null(kind):
        return lambda row: ()
    if types.is_map(kind):
        return _from_pairs if _is_name(kind.key_type) and _is_value(kind.item_type) else None
    if types.is_struct(kind):
        return _from_struct if all(_is_value(field.type) for field in kind) else None
    if not _is_list(kind):
        return None
    inner = kind.value_type
    if types.is_struct(inner):
        fields = {field.name: field.type for field in inner}
        name = "name" if "name" in fields else "key"
        if fields.keys() != {name, "value"} or not _is_name(fields[name]) or not _is_value(fields["value"]):
            return None
        return lambda row: _from_pairs([pair and (pair[name], pair["value"]) for pair in row or ()])
    pairs = types.is_null(inner) or (_is_list(inner) and _is_value(inner.value_type))
    return _from_pairs if pairs else None


def names_are_sure(kind: Any) -> bool:
    """Whether every row of such headers is one by its type: Arrow's maps and structs have no null names."""
    types = pa.types
    return bool(
        types.is_null(kind) or types.is_struct(kind) or (types.is_map(kind) and is_text(kind.key_type))
    )


def _from_pairs(row: Sequence[Any] | None) -> Headers:
    return tuple(_pair(pair) for pair in row or ())


def _pair(pair: Any) -> tuple[str, bytes | None]:
    if pair is None or len(pair) != 2:
        got = "a null" if pair is None else f"a list of {len(pair)}"
        raise ValueError(f"expected pairs of a name and a value, got {got}")
    name, value = pair
    if name is None:
        raise ValueError("expected a name for each value, got a null")
    return name.decode() if isinstance(name, bytes) else name, _as_bytes(value)


def _from_struct(row: dict[str, Any] | None) -> Headers:
    return tuple((name, _as_bytes(value)) for name, value in (row or {}).items() if value is not None)


def _as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _is_name(kind: Any) -> bool:
    return (is_text(kind) or is_bytes(kind)) and not pa.types.is_null(kind)


def _is_value(kind: Any) -> bool:
    return is_text(kind) or is_bytes(kind)


def _is_list(kind: Any) -> bool:
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view,
             types.is_large_list_view)  # fmt: skip
    return any(test(kind) for test in tests)


def _plain(kind: Any) -> Any:
    """The type behind a dictionary or an extension (JSON); a UUID stays one."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        return _plain(kind.storage_type)
    return kind
