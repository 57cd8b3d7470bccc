"""Lets kafka-python read records whose header names are no UTF-8: it would stop before them for good.

Java clients cannot write such names, others can. The record keeps its key and value; its headers are lost and
replaced by :data:`~pipelines.messages.record.UNREADABLE`, so that parsing rejects it and its neighbours go
through.
"""

from __future__ import annotations

import functools
from typing import Any

from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from pipelines.messages.record import UNREADABLE


def install() -> None:
    """Make it so for this process; once is enough, again changes nothing."""
    batches: Any = DefaultRecordBatch
    read = batches._read_msg
    if hasattr(read, "__wrapped__"):
        return

    @functools.wraps(read)
    def read_replacing_bad_headers(batch: Any) -> Any:
        start = batch._pos
        try:
            return read(batch)
        except UnicodeDecodeError as error:
            return _without_headers(batch, start, type(error).__name__)

    batches._read_msg = read_replacing_bad_headers


def _without_headers(batch: Any, pos: int, reason: str) -> DefaultRecord:
    """The record at ``pos`` (message format 2) up to its value; the batch moves on to the next one."""
    length, pos = decode_varint(batch._buffer, pos)
    end = pos + length
    _, pos = decode_varint(batch._buffer, pos)  # attributes: unused
    delta_ms, pos = decode_varint(batch._buffer, pos)
    offset_delta, pos = decode_varint(batch._buffer, pos)
    key, pos = _bytes(batch._buffer, pos)
    value, _ = _bytes(batch._buffer, pos)
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    timestamp_ms = batch.max_timestamp if appended else batch.first_timestamp + delta_ms
    batch._pos = end
    headers = [(UNREADABLE, reason.encode())]
    offset = batch.base_offset + offset_delta
    return DefaultRecord(length, offset, timestamp_ms, batch.timestamp_type, key, value, headers)


def _bytes(buffer: Any, pos: int) -> tuple[bytes | None, int]:
    size, pos = decode_varint(buffer, pos)
    return (None, pos) if size < 0 else (bytes(buffer[pos : pos + size]), pos + size)
