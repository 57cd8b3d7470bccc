"""Tags, chunks, zeros and junk before and behind a sound change nothing of it."""

from __future__ import annotations

import random

import pytest

from tests.unit.models.voice.recordings import (
    ape,
    case,
    chunk,
    encoded,
    hiss,
    id3v1,
    id3v2,
    lyrics3,
    mp3,
    mp3_frames,
    outcome,
    speech,
    streamed_flac,
    without_mark,
)

JUNK = random.Random(1).randbytes(3_000)
LYRICS_V1 = b"LYRICSBEGINla la laLYRICSEND"
BEHIND = {
    "ID3v1": id3v1(),
    "ID3v1 with an empty title": id3v1(b""),
    "ID3v1 extended": b"TAG+" + bytes(223) + id3v1(),
    "ID3v2": id3v2(),
    "ID3v2 with a footer": id3v2(footer=True),
    "APEv2": ape(),
    "APEv2 without a header": ape(header=False),
    "APEv2 without a footer": ape(footer=False),
    "APEv2 with a cover": ape(b"cover\xff\xd8\xff\xe0" + JUNK * 100, header=False),
    "APEv2 before ID3v1": ape() + id3v1(),
    "Lyrics3": lyrics3() + id3v1(),
    "Lyrics3 without ID3v1": lyrics3(),
    "Lyrics3 of the first version": LYRICS_V1 + id3v1(),
    "all of them": ape(header=False) + lyrics3() + id3v1(),
    "zeros": bytes(100_000),
    "zeros before ID3v1": bytes(512) + id3v1(),
    "junk": JUNK,
    "a byte": b"\x07",
    "junk before ID3v1": JUNK + id3v1(),
    "a line break": b"\r\n",
}
MP3 = mp3(speech(1.0))
KINDS = {
    "WAV": encoded(speech()),
    "WAV of an odd size": encoded(speech()[:-1], subtype="PCM_U8"),
    "FLAC": encoded(speech(), "FLAC"),
    "FLAC without a length": streamed_flac(encoded(speech(), "FLAC")),
    "Ogg Vorbis": encoded(speech(), "OGG", "VORBIS"),
    "Ogg Opus": encoded(speech(), "OGG", "OPUS"),
    "Ogg without a mark": without_mark(encoded(speech(), "OGG", "OPUS")),
    "MP3": MP3,
    "MP3 without a length": b"".join(mp3_frames(MP3)[1:]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", BEHIND)
def test_what_stands_behind_a_sound_does_not_matter(kind: str, behind: str) -> None:
    content = KINDS[kind]
    assert outcome(content + BEHIND[behind]) == outcome(content)
    assert len(outcome(content)) == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "before",
    [
        id3v2(),
        id3v2(bytes(300_000)),
        id3v2(JUNK, footer=True),
        id3v2() + bytes(700),
        id3v2() + id3v2(),
        ape(),
    ],
)
def test_tags_before_a_sound_do_not_matter(kind: str, before: bytes) -> None:
    assert outcome(before + KINDS[kind]) == outcome(KINDS[kind])


def test_a_tag_with_a_broken_size_before_an_mp3_is_passed_over() -> None:
    broken = bytearray(id3v2(JUNK))
    broken[6:10] = b"\x80\x00\x0b\xb8"
    assert outcome(bytes(broken) + MP3) == outcome(MP3)


def test_tags_between_two_mp3s_in_one_file_do_not_matter() -> None:
    first, second = (b"".join(mp3_frames(mp3(speech(0.5, seed=seed)))[1:]) for seed in (0, 2))
    between = id3v1() + id3v2() + bytes(10)
    assert outcome(first + between + second) == outcome(first + second)


def test_junk_between_the_frames_of_an_mp3_that_has_all_of_them_does_not_matter() -> None:
    frames = mp3_frames(MP3)
    assert outcome(b"".join([*frames[:9], JUNK, *frames[9:]])) == outcome(MP3)
    assert outcome(b"".join([*frames[1:9], JUNK, *frames[9:]])) == "corrupt_media"  # is one torn?


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "FLAC"])  # its decoder never looks there
def test_too_much_junk_is_no_junk(kind: str) -> None:
    assert outcome(KINDS[kind] + JUNK * 30) == "corrupt_media"


# Chunks of WAV


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("name", [b"LIST", b"id3 ", b"bext", b"cue ", b"acid", b"abcd"])
def test_chunks_around_the_sound_may_have_an_odd_size(name: bytes, filled: bool) -> None:
    content = KINDS["WAV"]
    place = content.index(b"data")
    side = chunk(b"LIST", b"INFO\x01", filled)
    assert outcome(content[:place] + side + content[place:]) == outcome(content)
    assert outcome(content[:place] + side + side + content[place:] + side) == outcome(content)
    assert outcome(content + chunk(name, b"x" * 7, filled)) == outcome(content)
    assert outcome(content + chunk(name, b"x" * 7, filled) + side) == outcome(content)
    assert outcome(content + chunk(name, b"x" * 7, filled) + id3v1()) == outcome(content)


@pytest.mark.parametrize("filled", [True, False])
def test_a_sound_of_an_odd_size_may_end_without_the_byte_that_makes_it_even(filled: bool) -> None:
    content = encoded(speech()[:-1], subtype="PCM_U8")
    assert len(content) % 2 == 0  # libsndfile fills up
    content = content if filled else content[:-1]
    assert outcome(content) == outcome(content + chunk(b"LIST", b"INFO")) == outcome(content + id3v1())
    assert len(outcome(content)) == 64


def test_a_side_chunk_behind_the_sound_may_be_cut() -> None:
    content = KINDS["WAV"]
    for cut in (1, 4, 7, 8, 9, 500):
        assert outcome(content + chunk(b"LIST", b"INFO" + bytes(1_000))[:cut]) == outcome(content)


def test_the_size_of_the_whole_wav_does_not_matter() -> None:
    content = KINDS["WAV"] + id3v1()
    for size in (0, 36, len(content), 0xFFFFFFFF):
        assert outcome(content[:4] + size.to_bytes(4, "little") + content[8:]) == outcome(KINDS["WAV"])


def test_sound_that_no_chunk_declares_is_not_left_out_in_silence() -> None:
    content = encoded(hiss())
    place = content.index(b"data") + 4
    for part in (0.1, 0.5, 0.8):
        size = int(part * 32_000).to_bytes(4, "little")
        assert outcome(content[:place] + size + content[place + 4 :]) == "corrupt_media"


# The files that were sent to us


def test_an_mp3_with_a_tag_of_ape() -> None:
    assert outcome(case("bytes_after_the_sound/apev2_tag.mp3")) == outcome(
        case("bytes_after_the_sound/whole.mp3")
    )


def test_a_wav_with_a_tag_of_id3() -> None:
    content = case("bytes_after_the_sound/id3v1.wav")
    assert outcome(content) == outcome(content[:-128])
    assert len(outcome(content)) == 64
