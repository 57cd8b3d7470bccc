"""A file that is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.atomic_file import whole_file


def test_a_file_appears_when_it_is_whole_and_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "figures.txt"
    file.write_bytes(b"old")
    with whole_file(file) as out:
        out.write(b"new")
        out.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def _write_half(file: Path, failure: BaseException) -> None:
    with whole_file(file) as out:
        out.write(b"half")
        raise failure


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_after_a_failure_what_was_there_still_is_and_nothing_else(
    tmp_path: Path, failure: BaseException
) -> None:
    file = tmp_path / "figures.txt"
    file.write_bytes(b"old")
    with pytest.raises(type(failure)):
        _write_half(file, failure)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "figures.txt"
    with whole_file(file) as first, whole_file(file) as second:
        first.write(b"first")
        second.write(b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]
