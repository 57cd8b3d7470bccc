"""Decoders comment on what is damaged, and nobody hears it; log lines of other threads are kept."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys

import pytest

from models.voice.hush import hushed
from tests.support.folders import ROOT
from tests.unit.models.voice.recordings import (
    ape,
    encoded,
    hiss,
    id3v2,
    mp3,
    mp3_frames,
    speech,
    streamed_flac,
)

DECODE_ALL = """
import base64, json, sys
from models.encoder import ContentError
from models.voice.decode import decode_voice
codes = []
for line in sys.stdin:
    try:
        codes.append(len(decode_voice(base64.b64decode(line))))
    except ContentError as error:
        codes.append(error.code)
print(json.dumps(codes))
"""


def hostile() -> list[bytes]:
    """Damaged files of every format, most of them of the one whose decoder talks."""
    rng = random.Random(7)
    wave = speech(1.2) + hiss(1.2, 0.01)
    kinds = [
        *(mp3(wave, mode) for mode in ("CONSTANT", "VARIABLE") for _ in range(4)),
        b"".join(mp3_frames(mp3(wave, "VARIABLE"))[1:]),
        encoded(wave),
        encoded(wave, subtype="FLOAT"),
        encoded(wave, subtype="MS_ADPCM"),
        encoded(wave, "FLAC"),
        streamed_flac(encoded(wave, "FLAC")),
        encoded(wave, "OGG", "VORBIS"),
        encoded(wave, "OGG", "OPUS"),
    ]
    files = [kind + tail for kind in kinds for tail in (b"", ape(header=False)[:-1], rng.randbytes(2_000))]
    for kind in kinds:
        for _ in range(12):
            damaged = bytearray(kind)
            for _ in range(rng.choice((1, 2, 30))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            files.append(bytes(damaged[: rng.choice((len(damaged), rng.randrange(20, len(damaged))))]))
    return [*files, id3v2() + b"\xff\xfb\x90\x64" + rng.randbytes(3_000), b"RIFF\xff\xff\xff\xffWAVEfmt \x10"]


def test_nothing_is_printed_about_hostile_files() -> None:
    files = hostile()
    lines = b"\n".join(base64.b64encode(content) for content in files)
    done = subprocess.run(
        [sys.executable, "-c", DECODE_ALL],
        input=lines,
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=250,
    )
    assert done.stderr == b""
    codes = json.loads(done.stdout)
    assert len(codes) == len(files)
    assert {"corrupt_media"} < set(map(str, codes))


def test_only_the_stream_of_c_is_silent_and_only_within(capfd: pytest.CaptureFixture[str]) -> None:
    import ctypes

    library = ctypes.CDLL(None)

    def print_by_c(text: bytes) -> None:
        stream = ctypes.c_void_p.in_dll(library, "stderr")
        library.fputs(text, stream)
        library.fflush(stream)

    print_by_c(b"before ")
    with hushed():
        print_by_c(b"nobody hears this")
        with hushed():
            os.write(2, b"a log line ")
        print_by_c(b"nor this")
    with pytest.raises(KeyError), hushed():
        raise KeyError
    print_by_c(b"after")
    assert capfd.readouterr().err == "before a log line after"
