"""Voice clips: what is accepted, what is refused by which name, and what denoising does."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoder import ContentError
from models.voice.decode import MAX_SAMPLE_S, RATE_HZ, decode_voice, denoise, trim
from tests.unit.models.voice.recordings import encoded, hiss, speech

FORMATS = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def refusal(content: bytes) -> ContentError:
    with pytest.raises(ContentError) as caught:
        decode_voice(content)
    return caught.value


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two waveforms, cut to the shorter, over small shifts."""
    n = min(len(a), len(b)) - 400
    best = [float(np.corrcoef(a[200 : 200 + n], b[200 + s : 200 + s + n])[0, 1]) for s in range(-200, 200)]
    return max(best)


# What is accepted


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_every_accepted_format_becomes_the_same_waveform(format: str, subtype: str) -> None:
    wave = decode_voice(encoded(speech(), format, subtype))
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert np.abs(wave).max() == pytest.approx(1)
    assert likeness(wave, decode_voice(encoded(speech()))) > 0.97


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_sample_type_of_wav_is_read(subtype: str) -> None:
    assert likeness(decode_voice(encoded(speech(), subtype=subtype)), decode_voice(encoded(speech()))) > 0.98


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_every_rate_becomes_16_khz(rate_hz: int) -> None:
    wave = decode_voice(encoded(speech(rate_hz=rate_hz), rate_hz=rate_hz))
    plain = decode_voice(encoded(speech()))
    assert abs(len(wave) - len(plain)) < 0.03 * RATE_HZ
    assert likeness(wave, plain) > 0.97


def test_channels_are_mixed_to_one() -> None:
    stereo = np.stack([speech(), np.zeros_like(speech())] * 4, axis=1)
    assert likeness(decode_voice(encoded(stereo)), decode_voice(encoded(speech()))) > 0.99


def test_the_level_of_a_recording_does_not_matter() -> None:
    loud, quiet = decode_voice(encoded(speech(), subtype="FLOAT")), speech() * 0.01
    np.testing.assert_allclose(decode_voice(encoded(quiet, subtype="FLOAT")), loud, atol=1e-3)
    np.testing.assert_allclose(decode_voice(encoded(speech() * 1e5, subtype="FLOAT")), loud, atol=1e-3)
    np.testing.assert_allclose(decode_voice(encoded(speech() * 0.5 + 0.4, subtype="FLOAT")), loud, atol=1e-2)


def test_quiet_ends_are_trimmed_and_the_word_stays() -> None:
    silence = np.zeros(2 * RATE_HZ, np.float32)
    wave = decode_voice(encoded(np.concatenate([silence, speech(), silence])))
    assert 0.5 * RATE_HZ < len(wave) < 1.3 * RATE_HZ


def test_of_a_long_recording_the_loudest_seconds_remain() -> None:
    long = np.concatenate([0.05 * speech(20), speech(2.5, seed=1), 0.05 * speech(20)])
    wave = decode_voice(encoded(long))
    assert len(wave) <= MAX_SAMPLE_S * RATE_HZ
    alone = decode_voice(encoded(speech(2.5, seed=1)))
    at = int(np.abs(np.correlate(wave, alone[:RATE_HZ], "valid")).argmax())
    assert likeness(wave[at : at + RATE_HZ], alone[:RATE_HZ]) > 0.95


def test_nothing_after_the_first_minute_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[int] = []
    read = soundfile.SoundFile.read

    def counted(file: soundfile.SoundFile, n: int, **options: Any) -> Any:
        frames.append(n)
        return read(file, n, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    hours = np.zeros(70 * 8_000, np.float32)
    hours[65 * 8_000 :] = 0.5
    assert refusal(encoded(hours, "FLAC", rate_hz=8_000)).code == "no_sound"
    assert sum(frames) == 60 * 8_000


# What is refused


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00", "M4A"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "MP4"),
        (b"\x00\x00\x00\x14ftyp3gp4\x00\x00\x00\x00", "3GP"),
        (b"#!AMR\n\x3c\x91\x17", "AMR"),
        (b"#!AMR-WB\n\x3c\x91\x17", "AMR"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc", "AAC"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "WMA"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "WebM"),
        (b"caff\x00\x01\x00\x00desc", "CAF"),
        (b".snd\x00\x00\x00\x18", "AU"),
        (b"RF64\xff\xff\xff\xffWAVE", "RF64"),
        (b"OggS\x00\x02" + bytes(22) + b"Speex   1.2", "Ogg Speex"),
        (b"OggS\x00\x02" + bytes(22) + b"\x80theora", "Ogg"),
        (b"MThd\x00\x00\x00\x06", "MIDI"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"<html>", "HTML"),
        (b"", "an unknown format"),
        (b"\x00" * 100, "an unknown format"),
    ],
)
def test_other_formats_are_refused_by_name(content: bytes, name: str) -> None:
    error = refusal(content)
    assert error.code == "unsupported_format"
    assert f"got {name};" in str(error)


def test_aiff_is_refused_though_the_decoder_could_read_it() -> None:
    assert "got AIFF;" in str(refusal(encoded(speech(), "AIFF")))


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_cut_recording_is_corrupt(format: str, subtype: str, part: float) -> None:
    content = encoded(speech(2.0) + hiss(2.0), format, subtype)
    assert refusal(content[: int(part * len(content))]).code == "corrupt_media"


def test_an_ogg_without_its_last_page_is_corrupt() -> None:
    content = encoded(hiss(3.0), "OGG", "VORBIS")
    error = refusal(content[: content.rindex(b"OggS")])
    assert error.code == "corrupt_media"
    assert "last page" in str(error)


@pytest.mark.parametrize(("format", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_flipped_bit_in_a_checked_format_is_corrupt(format: str, subtype: str, place: float) -> None:
    content = bytearray(encoded(speech(2.0) + hiss(2.0, 0.01), format, subtype))
    content[int(place * len(content))] ^= 0x10
    assert refusal(bytes(content)).code == "corrupt_media"


@pytest.mark.parametrize("declared", [100, 10**6])
def test_a_wav_whose_header_lies_about_its_length_is_corrupt(declared: int) -> None:
    content = bytearray(encoded(hiss()))
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", declared)
    assert refusal(bytes(content)).code == "corrupt_media"


def test_a_wav_with_other_chunks_around_its_sound_is_whole() -> None:
    content = encoded(speech())
    chunk = b"LIST" + struct.pack("<I", 5) + b"INFOx\x00"
    place = content.index(b"data")
    assert len(decode_voice(content[:place] + chunk + content[place:] + chunk))


def test_a_flac_that_promises_more_than_it_holds_is_corrupt() -> None:
    content = bytearray(encoded(speech(), "FLAC"))
    content[21] |= 0x0F  # the high bits of the 36-bit total, behind rate, channels and width
    content[22:26] = b"\xff" * 4
    assert refusal(bytes(content)).code == "corrupt_media"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_makes_the_clip_corrupt(bad: float) -> None:
    wave = speech()
    wave[8_000] = bad
    error = refusal(encoded(wave, subtype="FLOAT"))
    assert error.code == "corrupt_media"
    assert "finite" in str(error)


@pytest.mark.parametrize("rate_hz", [0, 4_000, 400_000, 2**31 - 1])
def test_a_rate_out_of_range_is_refused(rate_hz: int) -> None:
    content = bytearray(encoded(speech()))
    content[24:28] = struct.pack("<I", rate_hz)
    assert refusal(bytes(content)).code == ("corrupt_media" if rate_hz == 0 else "unsupported_format")


def test_more_than_eight_channels_are_refused() -> None:
    assert len(decode_voice(encoded(np.stack([speech()] * 8, axis=1))))
    error = refusal(encoded(np.stack([speech()] * 9, axis=1)))
    assert error.code == "unsupported_format"
    assert "got 16000 Hz and 9" in str(error)


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_silence_has_no_sound(format: str, subtype: str) -> None:
    assert refusal(encoded(np.zeros(RATE_HZ, np.float32), format, subtype)).code == "no_sound"


def test_a_constant_offset_is_no_sound() -> None:
    assert refusal(encoded(np.full(RATE_HZ, 0.5, np.float32))).code == "no_sound"


@pytest.mark.parametrize("samples", [0, 1, 100, 1_599])
def test_less_than_a_tenth_of_a_second_is_too_small(samples: int) -> None:
    assert refusal(encoded(hiss()[:samples])).code == "media_too_small"


def test_exactly_a_tenth_of_a_second_is_taken() -> None:
    assert len(decode_voice(encoded(hiss()[:1_600]))) == 1_600


def test_a_refusal_never_quotes_the_content() -> None:
    for content in (
        b"secret-token",
        b"RIFF\x00\x00\x00\x00WAVEsecret-token",
        b"fLaCsecret",
        b"ID3secret-token",
    ):
        assert "secret" not in str(refusal(content))


SEEDS = [encoded(speech(0.3), format, subtype) for format, subtype in FORMATS]
CODES = {"unsupported_format", "corrupt_media", "media_too_small", "no_sound"}


def outcome(content: bytes) -> str:
    try:
        wave = decode_voice(content)
    except ContentError as error:
        return error.code
    sound = np.isfinite(wave).all() and 0.1 * RATE_HZ <= len(wave) <= MAX_SAMPLE_S * RATE_HZ
    return "decoded" if sound else "not a sample"


@settings(max_examples=150, deadline=None)
@given(seed=st.sampled_from(SEEDS), flips=st.lists(st.integers(0, 10**6), max_size=8), keep=st.floats(0, 1))
def test_damage_of_any_kind_gives_a_waveform_or_a_content_error(
    seed: bytes, flips: list[int], keep: float
) -> None:
    damaged = bytearray(seed[: max(int(keep * 2 * len(seed)), 4)])
    for flip in flips:
        damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    assert outcome(bytes(damaged)) in {"decoded", *CODES}


@settings(max_examples=100, deadline=None)
@given(
    prefix=st.sampled_from(
        [b"", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"fLaC", b"OggS\x00", b"ID3\x03", b"\xff\xfb\x90\x64"]
    ),
    rest=st.binary(max_size=300),
)
def test_random_bytes_are_refused_and_nothing_else(prefix: bytes, rest: bytes) -> None:
    assert outcome(prefix + rest) in CODES


# Denoising


def test_denoising_lifts_speech_out_of_steady_noise() -> None:
    pause = np.zeros(RATE_HZ // 2, np.float32)
    clean = np.concatenate([pause, speech(), pause])
    noise = hiss(2.0, 0.02)
    cleaned = denoise(clean + noise)
    before, after = np.sum(noise**2), np.sum((cleaned - clean) ** 2)
    assert after < 0.5 * before
    silent = slice(0, RATE_HZ // 4)
    assert np.sum(cleaned[silent] ** 2) < 0.2 * np.sum(noise[silent] ** 2)


def test_denoising_leaves_clean_speech_alone() -> None:
    pause = np.zeros(RATE_HZ // 2, np.float32)
    clean = np.concatenate([pause, speech(), pause])
    assert np.sum((denoise(clean) - clean) ** 2) < 1e-4 * np.sum(clean**2)


def test_a_clip_without_a_pause_is_not_gated() -> None:
    wave = hiss()
    assert denoise(wave) is wave


def test_trimming_a_single_click_keeps_a_tenth_of_a_second() -> None:
    click = np.zeros(RATE_HZ, np.float32)
    click[-1] = 1
    assert len(trim(click)) == RATE_HZ // 10
