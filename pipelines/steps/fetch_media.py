"""Claim checks → the bytes they stand for: listed places only, bounded in size and time, sha256 verified.

A ``file:`` URI is opened by its real path, so that no symlink leads out of a root of ``media.roots``. An
``http(s):`` URI goes to a host of ``media.hosts`` (``name``, or ``name:port`` for another port than 80 and
443), without redirects. The name is resolved once and the connection goes to that address: a listed name
that resolves to a private, loopback or link-local address is refused, unless the list holds that address
itself (``127.0.0.1:8000``).
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import random
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

import apache_beam as beam
import urllib3
from apache_beam.pvalue import PCollection

from features.schema import Modality
from pipelines.messages.content import ClaimCheck
from pipelines.messages.parse import Event
from pipelines.messages.record import Reason, RecordError, Rejected
from pipelines.settings import Media, Settings

STAGE: Final = "FetchMedia"
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.1
YOUNG_S: Final = 60.0
"""Content is looked for again after 0.1, 0.2 and 0.4 s where its host is busy, and where it is not there but
the record is younger than a minute: it may land just after its event. In a backlog nothing waits for it."""

_CHUNK_BYTES: Final = 1 << 16
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_GONE: Final = frozenset({404, 410})
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class _MissingError(Exception):
    """Not there (``gone``), or not now."""

    def __init__(self, got: str, *, gone: bool = False) -> None:
        super().__init__(got)
        self.gone = gone


def resolve(
    event: Event,
    media: Media,
    sleep: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.time,
) -> Event | Rejected:
    """The event with its content fetched; unchanged where there is none to fetch. Never raises."""
    if event.ref is None:
        return event
    try:
        young = now_s() - event.record.timestamp_ms / 1000 < YOUNG_S
        content = _fetch_patiently(event.ref, media, young, sleep)
    except RecordError as error:
        return error.reject(event.record, STAGE)
    except Exception as error:
        detail = "expected a claim check that some rule names, got one that none does"
        return Rejected(event.record, Reason.INTERNAL_ERROR, STAGE, type(error).__name__, detail)
    return event._replace(content=content, ref=None)


def _fetch_patiently(ref: ClaimCheck, media: Media, young: bool, sleep: Callable[[float], None]) -> bytes:
    if ref.size_bytes > media.max_bytes:
        raise RecordError(
            Reason.REF_TOO_LARGE, f"expected at most {media.max_bytes} bytes (media.max_bytes), got more"
        )
    attempt = 0
    while True:
        try:
            return _fetch(ref, media)
        except _MissingError as error:
            attempt += 1
            if attempt == ATTEMPTS or (error.gone and not young):
                raise RecordError(
                    Reason.REF_MISSING, f"expected the content, got {error} ({attempt} attempts)"
                ) from None
            sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.8, 1.2))  # noqa: S311 - jitter


def _fetch(ref: ClaimCheck, media: Media) -> bytes:
    try:
        parts = urlsplit(ref.uri)
        port = parts.port
    except ValueError:
        raise _forbidden("a URI of another form") from None
    if parts.scheme == "file":
        return _read_file(_allowed_path(parts, media), ref)
    if parts.scheme in _DEFAULT_PORTS:
        return _read_url(_allowed_target(parts, port, media), ref, media.timeout_s)
    raise _forbidden("another scheme than file, http and https")


def _forbidden(got: str) -> RecordError:
    return RecordError(
        Reason.REF_FORBIDDEN, f"expected a place listed in media.roots or media.hosts, got {got}"
    )


def _allowed_path(parts: SplitResult, media: Media) -> Path:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or "\0" in path:
        raise _forbidden("a file URI with a host, a query or a NUL")
    real = Path(path).resolve()
    if not any(real.is_relative_to(root.resolve()) for root in media.roots):
        raise _forbidden("a path outside the roots")
    return real


def _read_file(path: Path, ref: ClaimCheck) -> bytes:
    try:
        with open(path, "rb", opener=_open_plainly) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _forbidden("something that is not a plain file")
            if path.resolve() != path:  # a directory of it became a link since it was allowed
                raise _forbidden("a path outside the roots")
            return _verified(iter(lambda: file.read(_CHUNK_BYTES), b""), ref)
    except (FileNotFoundError, NotADirectoryError):
        raise _MissingError("no such file", gone=True) from None
    except OSError as error:
        raise RecordError(
            Reason.REF_FORBIDDEN, "expected a readable file, got a refusal", type(error).__name__
        ) from None


def _open_plainly(path: str, flags: int) -> int:
    """No link at the end of the path, and no waiting at a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    address: str  # what the host resolved to: the connection goes there and nowhere else
    path: str


def _allowed_target(parts: SplitResult, port: int | None, media: Media) -> _Target:
    host = (parts.hostname or "").rstrip(".")
    number = port or _DEFAULT_PORTS[parts.scheme]
    listed = {entry.lower() for entry in media.hosts}
    named = f"[{host}]" if ":" in host else host
    plain = number == _DEFAULT_PORTS[parts.scheme] and {host, named} & listed
    if "@" in parts.netloc or not (plain or f"{named}:{number}" in listed):
        raise _forbidden("another host or port")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(parts.scheme, host, number, _public_address(host, number, listed), path)


def _public_address(host: str, port: int, listed: set[str]) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise _MissingError("a host name that does not resolve") from None
    literals = {entry.rpartition(":")[0].strip("[]") if ":" in entry else entry for entry in listed} | listed
    for *_, (text, *_) in found:
        address = ipaddress.ip_address(str(text).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        public = mapped.is_global and not mapped.is_multicast
        if not public and str(mapped) not in literals:
            raise _forbidden("a host whose address is private and not listed itself")
    return str(found[0][4][0])


def _read_url(target: _Target, ref: ClaimCheck, timeout_s: float) -> bytes:
    deadline_s = time.monotonic() + timeout_s
    try:
        with _get(target, timeout_s) as response:
            if response.status in _GONE or response.status in _BUSY:
                raise _MissingError(f"status {response.status}", gone=response.status in _GONE)
            if response.status != 200:
                redirect = 300 <= response.status < 400
                raise RecordError(
                    Reason.REF_FORBIDDEN if redirect else Reason.REF_MISSING,
                    f"expected status 200 and no redirect, got {response.status}",
                )
            return _verified(_chunks(response, deadline_s), ref)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _MissingError(type(error).__name__) from None


@contextmanager
def _get(target: _Target, timeout_s: float) -> Iterator[urllib3.BaseHTTPResponse]:
    """GET from the resolved address; certificate and Host are those of the name."""
    timeout = urllib3.Timeout(connect=timeout_s, read=timeout_s)
    pool: urllib3.HTTPConnectionPool
    if target.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            target.address,
            target.port,
            timeout=timeout,
            assert_hostname=target.host,
            server_hostname=target.host,
        )
    else:
        pool = urllib3.HTTPConnectionPool(target.address, target.port, timeout=timeout)
    name = f"[{target.host}]" if ":" in target.host else target.host
    host = name if target.port == _DEFAULT_PORTS[target.scheme] else f"{name}:{target.port}"
    with pool:
        response = pool.urlopen(
            "GET",
            target.path,
            headers={"Host": host, "Accept-Encoding": "identity", "User-Agent": "portrait"},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            yield response
        finally:
            response.close()


def _chunks(response: urllib3.BaseHTTPResponse, deadline_s: float) -> Iterator[bytes]:
    while chunk := response.read1(_CHUNK_BYTES):
        if time.monotonic() > deadline_s:
            raise TimeoutError
        yield chunk


def _verified(chunks: Iterator[bytes], ref: ClaimCheck) -> bytes:
    """All of the chunks, if they are what was promised; reads hardly more than that. Raises RecordError."""
    digest, parts, size = hashlib.sha256(), [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > ref.size_bytes:
            raise RecordError(Reason.REF_MISMATCH, f"expected {ref.size_bytes} bytes, got more")
        digest.update(chunk)
        parts.append(chunk)
    if size != ref.size_bytes:
        raise RecordError(Reason.REF_MISMATCH, f"expected {ref.size_bytes} bytes, got {size}")
    if digest.hexdigest() != ref.sha256:
        raise RecordError(Reason.REF_MISMATCH, "expected the sha256 of the claim check, got another")
    return b"".join(parts)


class FetchMedia(beam.PTransform[Any, Any]):
    """``PCollection[Event]`` → one output per modality (``TEXT``, ``IMAGE``, ``VOICE``) and ``rejected``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._media = settings.media

    def expand(self, events: PCollection[Event]) -> Any:
        return events | "Fetch" >> beam.ParDo(_FetchFn(self._media)).with_outputs(
            *(m.name for m in (Modality.TEXT, Modality.IMAGE, Modality.VOICE)), "rejected"
        )


class _FetchFn(beam.DoFn):
    def __init__(self, media: Media) -> None:
        self._media = media

    def process(self, event: Event) -> Iterator[Any]:
        fetched = resolve(event, self._media)
        tag = "rejected" if isinstance(fetched, Rejected) else fetched.modality.name
        yield beam.pvalue.TaggedOutput(tag, fetched)
