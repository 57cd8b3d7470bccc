"""Recordings whose writer could not know how long they become give the same as those that say it."""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.voice.container import whole_sound
from models.voice.decode import RATE_HZ, _read_mono, decode_voice
from tests.unit.models.voice.recordings import (
    case,
    chunk,
    encoded,
    flac_frames,
    hiss,
    id3v1,
    mp3,
    mp3_frames,
    ogg_pages,
    outcome,
    speech,
    streamed_flac,
    without_mark,
)

PLACEHOLDERS = [
    0,
    0xFFFFFFFF,
    0xFFFFFFFF - 44,
    0x80000000,
    0x7FFFFFFF,
    0x7FFFFFFF - 44,
    0x7FFFF000,
    0x7F000000,
]


def wav(size: int, riff: int = 0xFFFFFFFF, wave: np.ndarray | None = None, subtype: str = "PCM_16") -> bytes:
    """A WAV with these two sizes in its header."""
    content = bytearray(encoded(speech() if wave is None else wave, subtype=subtype))
    place = content.index(b"data") + 4
    content[4:8], content[place : place + 4] = struct.pack("<I", riff), struct.pack("<I", size)
    return bytes(content)


# WAV


@pytest.mark.parametrize("size", PLACEHOLDERS)
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF, 0x7FFFF024])
def test_a_wav_from_a_pipe_goes_to_its_end(size: int, riff: int) -> None:
    assert outcome(wav(size, riff)) == outcome(encoded(speech()))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_a_wav_from_a_pipe_may_hold_any_samples(subtype: str) -> None:
    assert outcome(wav(0xFFFFFFFF, subtype=subtype)) == outcome(encoded(speech(), subtype=subtype))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_what_ends_a_wav_from_a_pipe_is_no_sound(size: int) -> None:
    whole = outcome(encoded(speech()))
    side = chunk(b"LIST", b"INFOISFT" + bytes(9)) + chunk(b"id3 ", b"ID3\x04" + bytes(300))
    assert outcome(wav(size) + side) == whole
    assert outcome(wav(size) + side + id3v1()) == whole
    assert outcome(wav(size) + id3v1()) == whole
    assert outcome(wav(size) + b"\x01") == whole  # half a sample


def test_a_wav_that_promises_more_than_it_holds_is_cut() -> None:
    whole = len(encoded(speech())) - 44
    assert [outcome(wav(whole + more)) for more in (1, 2, 44, 10**6, 10**9)] == ["corrupt_media"] * 5


def test_an_empty_wav_is_no_stream() -> None:
    assert outcome(wav(0, wave=np.zeros(0, np.float32))) == "media_too_small"
    assert outcome(wav(0, wave=np.zeros(0, np.float32)) + chunk(b"LIST", b"INFO")) == "media_too_small"


# FLAC


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 12_345])
def test_a_flac_without_a_length_is_counted(subtype: str, rate_hz: int) -> None:
    content = encoded(speech(rate_hz=rate_hz), "FLAC", subtype, rate_hz)
    assert outcome(streamed_flac(content)) == outcome(content)


def test_a_long_flac_without_a_length_is_read_for_a_minute() -> None:
    content = encoded(np.tile(hiss(1.0, rate_hz=8_000), 65), "FLAC", rate_hz=8_000)
    assert outcome(streamed_flac(content)) == outcome(content)
    assert len(whole_sound(streamed_flac(content), "FLAC", 60)[0]) < 0.95 * len(content)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9, 0.999])
def test_an_altered_flac_without_a_length_is_corrupt(place: float) -> None:
    content = bytearray(streamed_flac(encoded(speech() + hiss(1.0, 0.01), "FLAC")))
    content[int(place * len(content))] ^= 0x10
    assert outcome(bytes(content)) == "corrupt_media"


def test_a_flac_without_a_length_that_lacks_a_frame_is_corrupt() -> None:
    content = streamed_flac(encoded(speech() + hiss(1.0, 0.01), "FLAC"))
    frames = flac_frames(content)
    assert len(frames) > 3
    assert outcome(b"".join(frames[:2] + frames[3:])) == "corrupt_media"


# Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.7])
def test_an_ogg_without_the_mark_of_its_last_page_is_whole(subtype: str, seconds: float) -> None:
    content = encoded(speech(seconds), "OGG", subtype)
    assert without_mark(content) != content
    assert outcome(without_mark(content)) == outcome(content)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_an_ogg_that_is_cut_within_a_page_is_corrupt_though_none_is_the_last(part: float) -> None:
    content = without_mark(encoded(hiss(3.0), "OGG", "OPUS"))
    assert outcome(content[: int(part * len(content))]) == "corrupt_media"


def test_an_ogg_without_a_page_in_the_middle_of_a_packet_is_corrupt() -> None:
    pages = ogg_pages(encoded(hiss(3.0), "OGG", "VORBIS"))
    assert len(pages) > 5
    assert outcome(b"".join(pages[:-1])) == "corrupt_media"  # full: more was to come


# MP3


def bare(content: bytes) -> bytes:
    """Without the frame of Xing's that says how long it is."""
    return b"".join(mp3_frames(content)[1:])


def loud_then_quiet(rate_hz: int = RATE_HZ) -> np.ndarray:
    wave = np.concatenate([hiss(0.5, 0.3, rate_hz), 0.02 * speech(2.0, rate_hz), 0.3 * speech(1.0, rate_hz)])
    return wave.astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_an_mp3_that_does_not_say_how_long_it_is_is_read_whole(
    mode: str, backwards: bool, rate_hz: int
) -> None:
    wave = loud_then_quiet(rate_hz)
    content = bare(mp3(wave[::-1] if backwards else wave, mode, rate_hz))
    heard, _ = _read_mono(whole_sound(content, "MP3", 60), "MP3")
    assert len(heard) == len(mp3_frames(content)) * (1152 if rate_hz >= 32_000 else 576)
    assert outcome(content) not in ("corrupt_media", "media_too_small")


def test_the_quiet_rest_of_an_mp3_is_what_was_recorded() -> None:
    content = mp3(loud_then_quiet(), "VARIABLE")
    known, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    guessed, _ = _read_mono(whole_sound(bare(content), "MP3", 60), "MP3")
    skipped = 576 + 529  # samples of delay that only the frame of Xing's tells
    np.testing.assert_allclose(guessed[skipped + 9_000 :][: len(known) - 9_500], known[9_000:-500], atol=1e-4)


def test_an_mp3_longer_than_its_header_says_is_read_to_its_end() -> None:
    content = mp3(speech(1.0))
    both = content + bare(mp3(speech(1.0, seed=2)))
    assert len(_read_mono(whole_sound(both, "MP3", 60), "MP3")[0]) > 1.9 * RATE_HZ
    place = content.index(b"Xing" if b"Xing" in content[:60] else b"Info") + 8
    unknown = content[:place] + bytes(4) + content[place + 4 :]
    assert len(_read_mono(whole_sound(unknown, "MP3", 60), "MP3")[0]) >= RATE_HZ


def test_an_mp3_that_lacks_one_frame_of_those_declared_is_cut() -> None:
    frames = mp3_frames(mp3(speech(1.0)))
    assert outcome(b"".join(frames[:-1])) == "corrupt_media"
    assert outcome(b"".join(frames[:9] + frames[10:])) == "corrupt_media"


def test_an_mp3_with_a_torn_frame_in_its_midst_is_corrupt() -> None:
    frames = mp3_frames(bare(mp3(speech(1.0))))
    torn = [*frames[:9], frames[9][: len(frames[9]) // 2], *frames[10:]]
    assert outcome(b"".join(torn)) == "corrupt_media"


def vbri(content: bytes, more: int = 0) -> bytes:
    """A header of Fraunhofer's that declares ``more`` frames than there are."""
    first, *frames = mp3_frames(content)
    head = bytearray(max(first, *frames, key=len)[:4].ljust(len(first), b"\x00"))
    head[:4] = first[:4]
    body = struct.pack(">4sHHHII", b"VBRI", 1, 0, 75, len(content), len(frames) + more)
    head[36 : 36 + len(body)] = body
    return bytes(head) + b"".join(frames)


def test_a_header_of_fraunhofers_counts_too() -> None:
    content = mp3(speech(1.0), rate_hz=44_100)
    assert outcome(vbri(content)) == outcome(
        bytes(mp3_frames(vbri(content))[0][:36]).ljust(len(mp3_frames(content)[0]), b"\x00") + bare(content)
    )
    assert outcome(vbri(content, more=3)) == "corrupt_media"


# Cuts


@functools.cache
def long_and_streamed(kind: str) -> tuple[bytes, bytes]:
    """Of a kind: a file that says how long it is, one that does not."""
    wave = speech(0.6) + hiss(0.6, 0.01)
    if kind == "WAV":
        return encoded(wave), wav(0xFFFFFFFF, wave=wave)
    if kind == "FLAC":
        return encoded(wave, "FLAC"), streamed_flac(encoded(wave, "FLAC"))
    if kind == "MP3":
        return mp3(wave), bare(mp3(wave))
    whole = encoded(wave, "OGG", kind)
    return whole, without_mark(whole)


KINDS = ["WAV", "FLAC", "VORBIS", "OPUS", "MP3"]


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), part=st.floats(0, 1, exclude_max=True))
def test_a_cut_of_a_recording_of_known_length_is_refused(kind: str, part: float) -> None:
    content, _ = long_and_streamed(kind)
    assert outcome(content[: int(part * len(content))]) in ("corrupt_media", "unsupported_format")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), part=st.floats(0, 1, exclude_max=True))
def test_a_cut_of_a_stream_is_refused_or_gives_all_that_is_left(kind: str, part: float) -> None:
    """Between two frames or pages nobody can tell a cut from an end."""
    _, content = long_and_streamed(kind)
    cut = content[: int(part * len(content))]
    if outcome(cut) in ("corrupt_media", "unsupported_format", "media_too_small", "no_sound"):
        return
    if kind == "MP3":
        assert b"".join(mp3_frames(content)[: len(mp3_frames(cut))]) == cut
    if kind in ("VORBIS", "OPUS"):
        assert b"".join(ogg_pages(content)[: len(ogg_pages(cut))]) == cut
    heard, _ = _read_mono(whole_sound(cut, kind if len(kind) < 5 else f"Ogg {kind.title()}", 60), kind)
    whole, _ = _read_mono(whole_sound(content, kind if len(kind) < 5 else f"Ogg {kind.title()}", 60), kind)
    if kind == "WAV":
        assert len(heard) == (len(cut) - 44) // 2
    np.testing.assert_array_equal(heard[:-600], whole[: len(heard[:-600])])


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "VORBIS", "OPUS"])
def test_a_stream_that_is_cut_within_a_header_is_refused(kind: str) -> None:
    _, content = long_and_streamed(kind)
    parts = {"FLAC": flac_frames, "MP3": mp3_frames}.get(kind, ogg_pages)(content)
    end = sum(map(len, parts[:-1]))
    assert len(outcome(content[:end])) == 64 or kind in ("VORBIS", "OPUS")
    assert {outcome(content[: end + more]) for more in (1, 2, 3)} == {"corrupt_media"}


# The files that were sent to us


@pytest.mark.parametrize("name", ["ffmpeg_pipe.wav", "ffmpeg_pipe.flac"])
def test_a_file_of_a_pipe_of_ffmpeg(name: str) -> None:
    content = case(f"streamed_sound/{name}")
    assert outcome(content) == outcome(case("streamed_sound/ffmpeg_pipe.wav"))
    assert len(decode_voice(content)) > 8_000


def test_a_recording_of_android() -> None:
    whole = case("streamed_sound/whole_opus.ogg")
    assert outcome(case("streamed_sound/android_no_eos_opus.ogg")) == outcome(whole)


def test_a_loud_start_does_not_cut_the_rest() -> None:
    content = case("streamed_sound/vbr_no_xing_loud_start.mp3")
    heard, _ = _read_mono(whole_sound(content, "MP3", 60), "MP3")
    assert len(heard) == 32 * 576
