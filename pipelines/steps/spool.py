"""Dead letters that do not fit their topic: no record may ever stop a run, and none is lost for its size.

A letter larger than its topic takes goes whole into a file of ``outputs.dead_letter_spool`` (mode 0600), and
a small letter that names the file goes to the topic in its place, as a claim check does. Where no folder is
set the letter keeps the first bytes of its value, its size and hash, and the position of the record in its
source topic. Both carry every ``portrait-error-*`` header.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from features.atomic_file import whole_file
from features.errors import PortraitError
from pipelines import metrics
from pipelines.kafka.producer import HEADROOM_BYTES
from pipelines.kafka.topics import max_message_bytes
from pipelines.messages.dead_letter import PREFIX, SPOOLED, TRUNCATED, USERS, Message
from pipelines.messages.record import Record
from pipelines.settings import Kafka, Settings

_LOG = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES: Final = 1_048_588
"""What a topic takes where its brokers do not say: Kafka's default of max.message.bytes."""
KEPT_VALUE_BYTES: Final = 1_000
"""Of a value that is cut: what the letter still holds."""
_KEPT_KEY_BYTES: Final = 1_024
_KEPT_HEADERS_BYTES: Final = 16_384
_ASK_AGAIN_S: Final = 60.0
_EXPIRE_EVERY_S: Final = 3_600.0
_SUFFIX: Final = ".letter.json"


class SpoolError(PortraitError):
    """A spooled letter that is missing or damaged, or a folder that cannot be written."""


def message_bytes(message: Message) -> int:
    """Bytes of a message in a record batch, before compression; a few more rather than fewer."""
    headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in message.headers)
    return 128 + len(message.key or b"") + len(message.value or b"") + headers


class TopicLimits:
    """The largest message that each dead-letter topic takes, asked of the brokers at most once a minute."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._limits: dict[str, tuple[float, int]] = {}
        self._learned: dict[str, int] = {}

    def of(self, topic: str) -> int:
        """Bytes. Raises KafkaUnavailableError."""
        now_s = time.monotonic()
        asked_s, limit = self._limits.get(topic, (-_ASK_AGAIN_S, 0))
        if now_s - asked_s >= _ASK_AGAIN_S:
            limit = max_message_bytes(self._kafka, [topic]).get(topic, DEFAULT_LIMIT_BYTES)
            self._limits[topic] = now_s, limit
        return min(limit, self._learned.get(topic, limit), self._kafka.max_record_bytes + HEADROOM_BYTES)

    def refused(self, topic: str, size: int) -> None:
        """The brokers refused a message of this size: from now on less is tried."""
        self._learned[topic] = min(size, self._learned.get(topic, size)) // 2


class DeadLetterSpool:
    """Files of dead letters that their topics do not take. Safe to share between threads and processes."""

    def __init__(self, folder: Path, keep_days: float) -> None:
        self._folder = folder
        self._keep_s = keep_days * 86_400
        self._expire_at_s = 0.0
        self._lock = threading.Lock()

    def write(self, message: Message, name: str) -> str:
        """Store a letter whole, synced; the name of its file. Equal letters of a position have one file.

        Raises SpoolError where the disk refuses.
        """
        content = json.dumps(
            {
                "topic": message.topic,
                "key": _text(message.key),
                "value": _text(message.value),
                "headers": [[header, _text(value)] for header, value in message.headers],
            }
        ).encode()
        file = self._folder / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}{_SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(file) as out:
                os.fchmod(out.fileno(), 0o600)
                out.write(content)
        except OSError as error:
            raise SpoolError(
                f"outputs.dead_letter_spool: expected to write {self._folder}, got {error.strerror}; make "
                "room or name another folder, then start again: no record is lost"
            ) from error
        return file.name

    def read(self, name: str) -> Message:
        """A letter as it was written. Raises SpoolError where it is missing or was changed."""
        file = self._folder / Path(name).name
        digest = file.name.removesuffix(_SUFFIX).rpartition("-")[2]
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] != digest:
                raise ValueError("another hash")
            stored = json.loads(content)
            headers = tuple((header, _bytes(value)) for header, value in stored["headers"])
            return Message(stored["topic"], _bytes(stored["key"]), _bytes(stored["value"]), headers)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpoolError(
                f"{file}: expected a spooled dead letter, got {type(error).__name__}; it may be older than "
                "kafka.dead_letter_retention_days, or on another machine"
            ) from error

    def remove(self, names: Collection[str]) -> int:
        """Remove letters; how many there were."""
        removed = 0
        for name in names:
            with suppress(FileNotFoundError):
                (self._folder / Path(name).name).unlink()
                removed += 1
        return removed

    def expire(self) -> None:
        """Remove what is older than the retention of dead letters; looks at most once an hour."""
        with self._lock:
            if time.monotonic() < self._expire_at_s:
                return
            self._expire_at_s = time.monotonic() + _EXPIRE_EVERY_S
        oldest_s = time.time() - self._keep_s
        for file in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < oldest_s:
                    file.unlink()


def spool_of(settings: Settings) -> DeadLetterSpool | None:
    """The spool that the settings name; None where they name none."""
    folder = settings.outputs.dead_letter_spool
    return None if folder is None else DeadLetterSpool(folder, settings.kafka.dead_letter_retention_days)


def fitted(
    message: Message,
    record: Record,
    users: Collection[str],
    limits: TopicLimits,
    spool: DeadLetterSpool | None,
) -> Message:
    """The letter itself where its topic takes it, else a small one in its place; counted and logged.

    ``users``: those that the record names; a letter that is cut keeps them, so that it can be erased.

    Raises SpoolError, KafkaUnavailableError.
    """
    size = message_bytes(message)
    if size <= DEFAULT_LIMIT_BYTES // 64 or size <= limits.of(message.topic):
        return message
    kind = "cut" if spool is None else "spooled"
    metrics.DEAD_LETTERS_TOO_LARGE.labels(kind=kind).inc()
    _LOG.warning(
        "%s[%d]@%d: its dead letter of %d bytes is more than %s takes; it is %s",
        record.topic, record.partition, record.offset, size, message.topic, kind,
    )  # fmt: skip
    own = tuple(header for header in message.headers if header[0].startswith(PREFIX))
    facts = (
        (f"{PREFIX}size", str(len(message.value or b"")).encode()),
        (f"{PREFIX}sha256", hashlib.sha256(message.value or b"").hexdigest().encode()),
    )
    key = message.key if len(message.key or b"") <= _KEPT_KEY_BYTES else None
    if spool is not None:
        name = spool.write(message, f"{record.topic}-{record.partition}-{record.offset}")
        return Message(message.topic, key, b"", (*own, *facts, (SPOOLED, name.encode())))
    originals = message.headers[: len(record.headers)]
    if sum(len(name) + len(value or b"") for name, value in originals) > _KEPT_HEADERS_BYTES:
        originals = ()
    value = (message.value or b"")[:KEPT_VALUE_BYTES]
    named = json.dumps(sorted(users)).encode()
    return Message(message.topic, key, value, (*originals, *own, *facts, (TRUNCATED, b"1"), (USERS, named)))


def whole_letter(letter: Record, spool: DeadLetterSpool | None) -> Record:
    """A dead letter as it was before it was spooled; any other as it is.

    Raises SpoolError where its file is missing or damaged, or no folder is set.
    """
    name = dict(letter.headers).get(SPOOLED)
    if name is None:
        return letter
    if spool is None:
        raise SpoolError(
            f"{letter.topic}[{letter.partition}]@{letter.offset}: expected outputs.dead_letter_spool, where "
            "the letter is kept, got none; set it"
        )
    message = spool.read(name.decode(errors="replace"))
    return letter._replace(key=message.key, value=message.value, headers=message.headers)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
