"""Decoding gives back what was encoded, by us or by Feast's own library, and refuses everything else."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from features.online import feast_import  # noqa: F401

# isort: split

from feast.protos.feast.types.Value_pb2 import FloatList, StringList, Value
from hypothesis import given
from hypothesis import strategies as st

from features.online.decode import DECODERS, parsed_json, real, text, texts, time, vector, whole
from features.schema import EMBEDDING_DIM, FieldType

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_of_feast_come_back(number: int) -> None:
    assert whole(Value(int64_val=number).SerializeToString()) == number


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_times_of_feast_come_back(seconds: int) -> None:
    seen = time(Value(unix_timestamp_val=seconds).SerializeToString())
    assert seen is not None
    assert seen.tzinfo is UTC
    assert (seen - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == seconds


@given(st.floats(width=32))
def test_floats_of_feast_come_back(number: float) -> None:
    seen = real(Value(float_val=number).SerializeToString())
    assert seen == number or (seen is not None and math.isnan(seen) and math.isnan(number))


@given(TEXT, st.lists(TEXT, max_size=5))
def test_strings_of_feast_come_back(string: str, strings: list[str]) -> None:
    assert text(Value(string_val=string).SerializeToString()) == string
    assert texts(Value(string_list_val=StringList(val=strings)).SerializeToString()) == tuple(strings)


def test_vectors_of_feast_come_back_and_cannot_be_changed() -> None:
    numbers = np.random.default_rng(0).normal(size=EMBEDDING_DIM).astype("f4")
    seen = vector(Value(float_list_val=FloatList(val=numbers.tolist())).SerializeToString())
    assert seen is not None
    assert np.array_equal(seen, numbers)
    assert not seen.flags.writeable


def test_json_is_parsed() -> None:
    assert parsed_json(Value(string_val='[{"zh": "书"}]').SerializeToString()) == [{"zh": "书"}]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("raw", [None, b""])
def test_null_and_absent_are_none(kind: FieldType, raw: bytes | None) -> None:
    assert DECODERS[kind](raw) is None


@pytest.mark.parametrize("kind", DECODERS)
@given(raw=st.binary(min_size=1, max_size=12))
def test_other_bytes_are_refused_or_read_but_never_crash(kind: FieldType, raw: bytes) -> None:
    if raw[0] not in (0x12, 0x20, 0x35, 0x40, 0x62):
        with pytest.raises(ValueError, match=r".+"):
            DECODERS[kind](raw)


@pytest.mark.parametrize(
    "raw",
    [
        Value(int64_val=300).SerializeToString()[:-1],
        Value(string_val="word").SerializeToString()[:-1],
        Value(string_val="word").SerializeToString() * 2,
        Value(float_val=0.5).SerializeToString() + b"\x00",
        Value(float_list_val=FloatList(val=[1.0])).SerializeToString(),
    ],
)
def test_cut_and_doubled_values_are_refused(raw: bytes) -> None:
    for decode in DECODERS.values():
        with pytest.raises(ValueError, match=r".+"):
            decode(raw)
