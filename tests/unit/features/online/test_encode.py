"""The wire bytes of Feast values. (tests/integration/test_feast_layout.py compares with Feast.)"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.online.encode import NULL, encode_views, timestamp, varint
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS, VIEWS
from tests.support.profiles import columns_of


def feature(name: str, values: object) -> list[bytes]:
    """Encode two users of whom only one column matters."""
    view = next(f.view for f in PROFILE_FIELDS if f.name == name)
    return [user[view][name] for user in encode_views(columns_of([1, 2]) | {name: values})]


def read_varint(raw: bytes) -> int:
    return sum((byte & 127) << 7 * i for i, byte in enumerate(raw))


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_varint_reads_back_as_the_number_in_64_bits(number: int) -> None:
    raw = varint(number)
    assert read_varint(raw) == number % 2**64
    assert all(byte > 127 for byte in raw[:-1])
    assert raw[-1] <= 127


@given(st.integers(0, 2**45))
def test_a_timestamp_holds_seconds_and_nanoseconds(time_us: int) -> None:
    seconds, micros = divmod(time_us, 1_000_000)
    expected = (b"\x08" + varint(seconds) if seconds else b"") + (
        b"\x10" + varint(micros * 1000) if micros else b""
    )
    assert timestamp(time_us) == expected


def test_each_user_gets_every_feature_of_every_view() -> None:
    users = encode_views(columns_of([1, 2, 3]))
    assert [list(user) for user in users] == [list(VIEWS)] * 3
    for view in VIEWS:
        assert list(users[0][view]) == [field.name for field in PROFILE_FIELDS if field.view == view]


def test_no_users_give_no_views() -> None:
    assert encode_views({field.name: [] for field in PROFILE_FIELDS}) == []


def test_a_string_is_its_length_and_its_utf8() -> None:
    assert feature("top_category", ["", "书"]) == [b"\x12\x00", b"\x12\x03" + "书".encode()]


def test_a_list_of_strings_is_a_message_of_items() -> None:
    assert feature("interests", [[], ["a", "bc"]]) == [b"\x62\x00", b"\x62\x07\x0a\x01a\x0a\x02bc"]


def test_numbers_may_come_as_numpy_arrays() -> None:
    assert feature("version", np.array([5, 300], "u4")) == [b"\x20\x05", b"\x20\xac\x02"]
    assert feature("confidence", np.array([0.5, 1.0], "f4")) == [
        b"\x35" + np.float32(0.5).tobytes(),
        b"\x35" + np.float32(1.0).tobytes(),
    ]


def test_a_time_is_whole_seconds() -> None:
    assert feature("last_event", np.array([1_999_999, 300_000_000])) == [b"\x40\x01", b"\x40\xac\x02"]


def test_what_is_absent_is_null() -> None:
    assert feature("sentiment", [float("nan"), None]) == [NULL, NULL]
    assert feature("version", [None, None]) == [NULL, NULL]
    assert feature("top_category", [None, None]) == [NULL, NULL]
    assert feature("interests", [None, None]) == [NULL, NULL]
    assert feature("text_last_event", [0, None]) == [NULL, NULL]


def test_a_vector_is_its_floats_as_they_lie_in_memory() -> None:
    vectors = np.arange(2 * EMBEDDING_DIM, dtype="f4").reshape(2, EMBEDDING_DIM)
    encoded = feature("embedding", vectors)
    assert [np.frombuffer(raw[-4 * EMBEDDING_DIM :], "<f4").tolist() for raw in encoded] == vectors.tolist()


def test_vectors_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected vectors of shape \(n, 64\), got \(2, 63\)"):
        feature("embedding", np.zeros((2, 63)))


def test_a_missing_column_is_refused_by_name() -> None:
    columns = columns_of([1])
    del columns["tags"]
    with pytest.raises(ValueError, match="expected column 'tags', got none"):
        encode_views(columns)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected columns of one length"):
        encode_views(columns_of([1, 2]) | {"version": [1]})


EDGES_S = (1, 127, 128, (1 << 28) - 1, 1 << 28, (1 << 35) - 1, 1 << 35, 253_402_300_799)


def test_times_of_every_length_are_varints_of_their_seconds() -> None:
    found = encode_views(
        columns_of([*range(len(EDGES_S))]) | {"last_event": [s * 1_000_000 for s in EDGES_S]}
    )
    assert [user["user_profile"]["last_event"] for user in found] == [b"\x40" + varint(s) for s in EDGES_S]


def test_json_may_come_as_text_or_as_its_utf_8() -> None:
    texts = ['["数码"]', "[]"]
    assert feature("tags", texts) == feature("tags", [text.encode() for text in texts])
