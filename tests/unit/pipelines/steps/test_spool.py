"""Dead letters that their topic does not take: spooled or cut; each can be read back or erased."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.kafka.client import KafkaUnavailableError
from pipelines.messages.dead_letter import PREFIX, SPOOLED, TRUNCATED, USERS, Message, dead_letter, original
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Kafka
from pipelines.steps import spool as module
from pipelines.steps.spool import (
    DEFAULT_LIMIT_BYTES,
    KEPT_VALUE_BYTES,
    DeadLetterSpool,
    SpoolError,
    TopicLimits,
    fitted,
    message_bytes,
    whole_letter,
)

RECORD = Record(
    "reviews", "id", 2, 17, 1_750_000_000_000, b"ann", b"x", (("ce_id", b"1"), ("ce_subject", b"ann"))
)


def rejected(record: Record) -> Rejected:
    return Rejected(record, Reason.TOO_LARGE, "ParseEvents", "", "expected fewer bytes")


def limits_of(monkeypatch: pytest.MonkeyPatch, most: int | None) -> TopicLimits:
    answer = {} if most is None else {"reviews.dead": most}
    monkeypatch.setattr(module, "max_message_bytes", lambda _kafka, _topics: answer)
    return TopicLimits(Kafka())


def as_record(message: Message) -> Record:
    """A message as a reader of its topic gives it."""
    return Record(message.topic, "dead", 0, 0, 1, message.key, message.value, message.headers)


@pytest.fixture
def spool(tmp_path: Path) -> DeadLetterSpool:
    return DeadLetterSpool(tmp_path / "spool", keep_days=30)


def test_a_letter_that_fits_goes_as_it_is(monkeypatch: pytest.MonkeyPatch, spool: DeadLetterSpool) -> None:
    letter = dead_letter(rejected(RECORD))
    assert fitted(letter, RECORD, {"ann"}, limits_of(monkeypatch, None), spool) is letter


def test_a_letter_that_is_too_large_is_spooled_and_read_back_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, spool: DeadLetterSpool, tmp_path: Path
) -> None:
    record = RECORD._replace(value=os.urandom(2_000_000))
    letter = dead_letter(rejected(record))
    small = fitted(letter, record, {"ann"}, limits_of(monkeypatch, None), spool)
    assert message_bytes(small) < 5_000
    assert small.key == b"ann"
    headers = dict(small.headers)
    assert (headers[f"{PREFIX}reason"], headers[f"{PREFIX}size"]) == (b"too_large", b"2000000")
    (file,) = (tmp_path / "spool").iterdir()
    assert file.name == (headers[SPOOLED] or b"").decode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    whole = whole_letter(as_record(small), spool)
    before = original(whole)
    assert (before.key, before.value, before.headers) == (record.key, record.value, record.headers)


def test_a_repeated_round_leaves_one_file(monkeypatch: pytest.MonkeyPatch, spool: DeadLetterSpool) -> None:
    record = RECORD._replace(value=b"y" * 2_000_000)
    limits = limits_of(monkeypatch, None)
    names = {
        dict(fitted(dead_letter(rejected(record)), record, (), limits, spool).headers)[SPOOLED]
        for _ in range(2)
    }
    assert len(names) == 1


def test_without_a_folder_the_letter_keeps_size_hash_position_users_and_first_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = RECORD._replace(key=None, value=b"z" * 3_000_000)
    small = fitted(dead_letter(rejected(record)), record, {"bob", "ann"}, limits_of(monkeypatch, None), None)
    headers = dict(small.headers)
    assert small.value == b"z" * KEPT_VALUE_BYTES
    assert (headers[f"{PREFIX}offset"], headers[f"{PREFIX}size"]) == (b"17", b"3000000")
    assert json.loads(headers[USERS] or b"") == ["ann", "bob"]
    assert TRUNCATED in headers
    with pytest.raises(ValueError, match=r"the record is at reviews\[2\]@17"):
        original(as_record(small))


@given(
    key=st.binary(max_size=5_000),
    value=st.one_of(st.none(), st.binary(max_size=5_000)),
    headers=st.lists(
        st.tuples(st.text(max_size=50), st.one_of(st.none(), st.binary(max_size=9_000))), max_size=6
    ),
)
def test_whatever_is_too_large_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory,
    key: bytes,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        limits = limits_of(patch, 0)
        spool = DeadLetterSpool(tmp_path_factory.mktemp("spool"), keep_days=30)
        record = RECORD._replace(key=key, value=value, headers=(*headers, ("pad", b"p" * 20_000)))
        letter = dead_letter(rejected(record))
        small = fitted(letter, record, (), limits, spool)
        assert message_bytes(small) < DEFAULT_LIMIT_BYTES // 64
        whole = whole_letter(as_record(small), spool)
        assert (whole.key, whole.value, whole.headers) == (letter.key, letter.value, letter.headers)


def test_headers_alone_may_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    record = RECORD._replace(headers=(("h", b"q" * 2_000_000),))
    small = fitted(dead_letter(rejected(record)), record, (), limits_of(monkeypatch, None), None)
    assert message_bytes(small) < 5_000


def test_the_limit_is_what_the_brokers_say_and_less_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limits_of(monkeypatch, 50_000)
    assert limits.of("reviews.dead") == 50_000
    limits.refused("reviews.dead", 40_000)
    assert limits.of("reviews.dead") == 20_000
    limits.refused("reviews.dead", 19_000)
    assert limits.of("reviews.dead") == 9_500


def test_brokers_are_asked_at_most_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def answer(_kafka: Kafka, topics: list[str]) -> dict[str, int]:
        asked.append(topics)
        if len(asked) > 1:
            raise KafkaUnavailableError("asked twice")
        return {}

    monkeypatch.setattr(module, "max_message_bytes", answer)
    limits = TopicLimits(Kafka())
    assert [limits.of("reviews.dead") for _ in range(5)] == [DEFAULT_LIMIT_BYTES] * 5


def test_a_letter_that_was_changed_or_is_gone_is_refused_by_name(
    spool: DeadLetterSpool, tmp_path: Path
) -> None:
    name = spool.write(dead_letter(rejected(RECORD)), "reviews-2-17")
    file = tmp_path / "spool" / name
    file.write_bytes(file.read_bytes().replace(b"reviews.dead", b"reviews.deaf"))
    with pytest.raises(SpoolError, match=r"expected a spooled dead letter, got ValueError"):
        spool.read(name)
    assert spool.remove([name]) == 1
    assert spool.remove([name]) == 0
    with pytest.raises(SpoolError, match="FileNotFoundError"):
        spool.read(name)


def test_a_name_from_a_header_leads_nowhere_else(spool: DeadLetterSpool, tmp_path: Path) -> None:
    secret = tmp_path / "secret.letter.json"
    secret.write_text("{}", encoding="utf-8")
    with pytest.raises(SpoolError):
        spool.read("../secret.letter.json")
    assert spool.remove(["../secret.letter.json"]) == 0
    assert secret.exists()


def test_a_spooled_letter_without_a_folder_says_which_setting_is_missing() -> None:
    letter = as_record(Message("reviews.dead", b"ann", b"", ((SPOOLED, b"x"),)))
    with pytest.raises(SpoolError, match=r"expected outputs\.dead_letter_spool, where the letter is kept"):
        whole_letter(letter, None)


def test_letters_go_with_the_retention_of_dead_letters(tmp_path: Path) -> None:
    spool = DeadLetterSpool(tmp_path, keep_days=1)
    old, new = (spool.write(dead_letter(rejected(RECORD)), name) for name in ("old", "new"))
    two_days_ago = time.time() - 2 * 86_400
    os.utime(tmp_path / old, (two_days_ago, two_days_ago))
    spool.expire()
    assert [file.name for file in tmp_path.iterdir()] == [new]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("", encoding="utf-8")
    with pytest.raises(SpoolError, match=r"outputs\.dead_letter_spool: expected to write"):
        DeadLetterSpool(tmp_path / "spool", keep_days=1).write(dead_letter(rejected(RECORD)), "a")
