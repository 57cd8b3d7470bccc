"""Claim checks: what may be fetched, from where, and what happens to everything else."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from features.schema import Modality
from pipelines.messages.content import CLAIM_CHECK
from pipelines.messages.parse import Event, ParseEvents, ParseRules, parse
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Media, Settings
from pipelines.steps.fetch_media import ATTEMPTS, FetchMedia, resolve
from tests.support.messages import RECORD_MS, binary

BODY = b"\xff\xd8 a picture"


def check_record(uri: str, body: bytes = BODY, **changes: Any) -> Record:
    check = {
        "uri": uri,
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "content_type": "image/jpeg",
    }
    return binary("images", check | changes, content_type=CLAIM_CHECK)


def fetch(
    uri: str,
    media: Media,
    sleep: Callable[[float], None] = lambda _: None,
    age_s: float = 1.0,
    **changes: Any,
) -> Event | Rejected:
    event = parse(check_record(uri, **changes), ParseRules.of(Settings()))
    assert isinstance(event, Event)
    return resolve(event, media, sleep, lambda: RECORD_MS / 1000 + age_s)


def content_of(fetched: Event | Rejected) -> object:
    assert isinstance(fetched, Event), fetched
    assert fetched.ref is None
    return fetched.content


def reason_of(fetched: Event | Rejected) -> Reason:
    assert isinstance(fetched, Rejected), fetched
    assert fetched.stage == "FetchMedia"
    assert "expected" in fetched.detail
    return fetched.reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media root"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(BODY)
    (tmp_path / "secret").write_bytes(BODY)
    return folder


def test_a_file_under_a_root_is_read(root: Path) -> None:
    assert content_of(fetch((root / "a.jpg").as_uri(), Media(roots=(root,)))) == BODY


def test_a_root_may_be_reached_through_a_link_of_its_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert (
        content_of(fetch((tmp_path / "link" / "a.jpg").as_uri(), Media(roots=(tmp_path / "link",)))) == BODY
    )


def test_nothing_is_allowed_until_it_is_listed(root: Path) -> None:
    assert reason_of(fetch((root / "a.jpg").as_uri(), Media())) is Reason.REF_FORBIDDEN


@pytest.mark.parametrize("uri", [
    "file://{parent}/secret", "file://{root}/../secret", "file://{root}/%2e%2e/secret", "file://{root}/escape",
    "file://{root}/linked/secret", "file://{root}", "file://{root}/pipe", "file://{root}/a.jpg%00",
    "file://{root}/a.jpg?x", "file://host{root}/a.jpg", "{root}/a.jpg", "data:image/jpeg;base64,AA==",
    "s3://bucket/key", "ftp://host/a", "http://[::1/a", "http://host:99999/a", "",
])  # fmt: skip
def test_no_path_leads_out_of_a_root(root: Path, uri: str) -> None:
    (root / "escape").symlink_to(root.parent / "secret")
    (root / "linked").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    fetched = fetch(uri.format(root=root, parent=root.parent), Media(roots=(root,)))
    assert reason_of(fetched) is Reason.REF_FORBIDDEN


def test_a_missing_file_is_looked_for_again_a_bounded_number_of_times(root: Path) -> None:
    pauses: list[float] = []
    fetched = fetch((root / "later.jpg").as_uri(), Media(roots=(root,)), pauses.append)
    assert reason_of(fetched) is Reason.REF_MISSING
    assert len(pauses) == ATTEMPTS - 1
    assert sum(pauses) < 1


def test_a_backlog_does_not_wait_for_what_is_not_there(root: Path) -> None:
    pauses: list[float] = []
    fetched = fetch((root / "never.jpg").as_uri(), Media(roots=(root,)), pauses.append, age_s=61)
    assert reason_of(fetched) is Reason.REF_MISSING
    assert pauses == []


def land(file: Path) -> None:
    file.write_bytes(BODY)


def test_a_file_that_lands_after_its_event_is_read(root: Path) -> None:
    late = root / "later.jpg"
    fetched = fetch(late.as_uri(), Media(roots=(root,)), lambda _: land(late))
    assert content_of(fetched) == BODY


@pytest.mark.parametrize(("changes", "reason"), [
    ({"sha256": "0" * 64}, Reason.REF_MISMATCH),
    ({"size": len(BODY) + 1}, Reason.REF_MISMATCH),
    ({"size": len(BODY) - 1}, Reason.REF_MISMATCH),
    ({"size": 1001}, Reason.REF_TOO_LARGE),
])  # fmt: skip
def test_content_other_than_promised_is_rejected(root: Path, changes: dict[str, Any], reason: Reason) -> None:
    media = Media(roots=(root,), max_bytes=1000)
    assert reason_of(fetch((root / "a.jpg").as_uri(), media, **changes)) is reason


def test_a_detail_names_neither_the_place_nor_the_content(root: Path) -> None:
    rejected = fetch((root / "private-name.jpg").as_uri(), Media(roots=(root,)))
    assert isinstance(rejected, Rejected)
    assert "private-name" not in rejected.detail
    assert "picture" not in rejected.detail


class Site:
    """A web server on loopback that answers from ``pages``: path → (status, headers, body) or a callable."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.pages: dict[str, Any] = {}
        self.hosts: list[str] = []
        self.release = threading.Event()


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.hosts.append(self.headers["Host"])
            status, headers, body = pages.pages.get(self.path, (404, {}, b""))
            if callable(body):
                status, body = body()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        pages = Site(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield pages
        finally:
            pages.release.set()
            server.shutdown()
            thread.join()


def test_a_page_of_a_listed_host_is_read(site: Site) -> None:
    site.pages["/a.jpg?v=1"] = (200, {}, BODY)
    assert content_of(fetch(f"http://{site.address}/a.jpg?v=1", Media(hosts=(site.address,)))) == BODY


@pytest.mark.parametrize("listed", ["", "127.0.0.1", "127.0.0.1:1", "127.0.0.2:{port}", "localhost:{port}"])
def test_a_host_or_port_that_is_not_listed_is_never_asked(site: Site, listed: str) -> None:
    site.pages["/a.jpg"] = (200, {}, BODY)
    media = Media(hosts=(listed.format(port=site.port),))
    assert reason_of(fetch(f"http://{site.address}/a.jpg", media)) is Reason.REF_FORBIDDEN
    assert site.hosts == []


def test_credentials_in_a_uri_are_forbidden(site: Site) -> None:
    media = Media(hosts=(site.address,))
    assert reason_of(fetch(f"http://user:pw@{site.address}/a.jpg", media)) is Reason.REF_FORBIDDEN


def resolving_to(address: str, asked: list[str] | None = None) -> Callable[..., Any]:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> Any:
        if asked is not None:
            asked.append(host)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "fd00::1",
    "::ffff:127.0.0.1", "224.0.0.1", "100.64.0.1",
])  # fmt: skip
def test_a_listed_name_that_leads_inside_is_forbidden(
    site: Site, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(address))
    media = Media(hosts=(f"media.example:{site.port}",))
    assert reason_of(fetch(f"http://media.example:{site.port}/a.jpg", media)) is Reason.REF_FORBIDDEN
    assert site.hosts == []


def test_a_private_address_may_be_listed_beside_its_name_and_is_resolved_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/a.jpg"] = (200, {}, BODY)
    asked: list[str] = []
    real = socket.getaddrinfo
    fake = resolving_to("127.0.0.1", asked)
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: (fake if host == "media.example" else real)(host, *a, **k),
    )
    media = Media(hosts=(f"media.example:{site.port}", "127.0.0.1"))
    assert content_of(fetch(f"http://media.example:{site.port}/a.jpg", media)) == BODY
    assert site.hosts == [f"media.example:{site.port}"]
    assert asked == ["media.example"]


def test_a_name_that_does_not_resolve_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    assert reason_of(fetch("https://media.example/a", Media(hosts=("media.example",)))) is Reason.REF_MISSING


def test_redirects_are_not_followed(site: Site) -> None:
    site.pages["/a.jpg"] = (302, {"Location": "/b.jpg"}, b"")
    site.pages["/b.jpg"] = (200, {}, BODY)
    fetched = fetch(f"http://{site.address}/a.jpg", Media(hosts=(site.address,)))
    assert reason_of(fetched) is Reason.REF_FORBIDDEN
    assert len(site.hosts) == 1


@pytest.mark.parametrize(("status", "requests"), [(404, ATTEMPTS), (503, ATTEMPTS), (403, 1)])
def test_a_page_that_is_not_there_is_missing(site: Site, status: int, requests: int) -> None:
    site.pages["/a.jpg"] = (status, {}, b"no")
    fetched = fetch(f"http://{site.address}/a.jpg", Media(hosts=(site.address,)))
    assert reason_of(fetched) is Reason.REF_MISSING
    assert len(site.hosts) == requests


@pytest.mark.parametrize("age_s", [1, 1e6])
def test_a_busy_host_is_asked_again(site: Site, age_s: float) -> None:
    answers = [(503, b"busy"), (200, BODY)]
    site.pages["/a.jpg"] = (0, {}, lambda: answers.pop(0))
    media = Media(hosts=(site.address,))
    assert content_of(fetch(f"http://{site.address}/a.jpg", media, age_s=age_s)) == BODY


def test_a_body_longer_than_promised_is_not_read_to_its_end(site: Site) -> None:
    site.pages["/a.jpg"] = (200, {}, BODY + bytes(1 << 20))
    fetched = fetch(f"http://{site.address}/a.jpg", Media(hosts=(site.address,)))
    assert reason_of(fetched) is Reason.REF_MISMATCH


def test_a_body_that_breaks_off_is_missing(site: Site) -> None:
    site.pages["/a.jpg"] = (200, {"Content-Length": str(len(BODY) + 5)}, BODY)
    fetched = fetch(f"http://{site.address}/a.jpg", Media(hosts=(site.address,)))
    assert reason_of(fetched) is Reason.REF_MISSING


def test_a_host_that_hangs_costs_no_more_than_the_timeout(site: Site) -> None:
    def hang() -> tuple[int, bytes]:
        site.release.wait(30)
        return 200, BODY

    site.pages["/a.jpg"] = (0, {}, hang)
    fetched = fetch(f"http://{site.address}/a.jpg", Media(hosts=(site.address,), timeout_s=0.05))
    assert reason_of(fetched) is Reason.REF_MISSING


def test_the_graph_fetches_claim_checks_and_sorts_by_modality(root: Path) -> None:
    settings = Settings(media=Media(roots=(root,)))
    records = [
        binary(),
        binary("images", BODY),
        check_record((root / "a.jpg").as_uri()),
        check_record((root / "a.jpg").as_uri(), sha256="0" * 64),
        binary("controls", {}),
        binary(ce_id=None),
    ]
    with beam.Pipeline(FnApiRunner()) as pipeline:
        parsed = pipeline | beam.Create(records) | ParseEvents(settings)
        fetched = parsed.events | FetchMedia(settings)
        images = fetched[Modality.IMAGE.name] | beam.Map(lambda event: event.content)
        assert_that(images, equal_to([BODY, BODY]), "images")
        assert_that(fetched[Modality.TEXT.name] | beam.Map(lambda e: e.user_id), equal_to(["ann"]), "texts")
        assert_that(parsed.controls | beam.Map(lambda e: e.user_id), equal_to(["ann"]), "controls")
        assert_that(
            fetched.rejected | beam.Map(lambda r: r.reason), equal_to([Reason.REF_MISMATCH]), "fetched"
        )
        assert_that(
            parsed.rejected | beam.Map(lambda r: r.reason), equal_to([Reason.MISSING_FIELD]), "parsed"
        )
