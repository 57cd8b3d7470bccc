"""Several channels become one without cancelling each other, and as before where they do not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from models.voice.container import Sound
from models.voice.decode import _read_mono, decode_voice
from tests.unit.models.voice.recordings import encoded, hiss, mp3, outcome, speech


def mixed(channels: list[np.ndarray], format: str = "WAV", subtype: str = "PCM_16") -> np.ndarray:
    return _read_mono(Sound(encoded(np.stack(channels, axis=1), format, subtype)), format)[0]


@pytest.mark.parametrize("share", [1.0, 0.9, 0.7, 0.5])
@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_speech_in_antiphase_is_speech(format: str, subtype: str, share: float) -> None:
    left = mixed([speech(), -share * speech()], format, subtype)
    right = mixed([-share * speech(), speech()], format, subtype)
    for heard in (left, right):
        assert abs(np.corrcoef(heard, speech())[0, 1]) > 0.95
        assert heard.std() > 0.9 * speech().std()


def test_antiphase_gives_what_the_channel_alone_gives() -> None:
    alone = outcome(encoded(speech()))
    assert outcome(encoded(np.stack([speech(), -speech()], axis=1))) == alone
    assert outcome(encoded(np.stack([speech(), -0.9 * speech()], axis=1))) == alone
    assert outcome(encoded(np.stack([-0.9 * speech(), speech()], axis=1))) == alone
    assert len(decode_voice(mp3(np.stack([speech(), -speech()], axis=1)))) > 8_000


def test_what_both_channels_pick_up_does_not_hide_antiphase() -> None:
    hum = (0.03 * np.sin(np.arange(16_000) / 50)).astype(np.float32)
    heard = mixed([speech() + hum + 0.2, -speech() + hum + 0.2])
    assert abs(np.corrcoef(heard, speech())[0, 1]) > 0.9


def test_antiphase_among_many_channels_is_heard() -> None:
    heard = mixed(
        [speech(), -speech(), speech(), -speech(), np.zeros_like(speech()), 0.9 * speech(), -0.9 * speech()]
    )
    assert np.corrcoef(np.abs(heard), np.abs(speech()))[0, 1] > 0.99


@pytest.mark.parametrize(
    "channels",
    [
        [speech(), speech()],
        [speech(), np.zeros_like(speech())],
        [np.zeros_like(speech()), 0.01 * speech()],
        [speech(), 0.5 * speech(seed=1)],
        [speech(), np.roll(speech(), 40)],
        [speech() + 0.3, speech() - 0.3],
        [speech() + hiss(1.0, 0.01), speech() + hiss(1.0, 0.01)[::-1]],
        [hiss(), hiss()[::-1]],
        [np.zeros_like(speech())] * 7 + [speech()],
    ],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_ordinary_channels_are_mixed_to_their_mean(channels: list[np.ndarray], subtype: str) -> None:
    content = encoded(np.stack(channels, axis=1), subtype=subtype)
    stored, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    np.testing.assert_array_equal(mixed(channels, subtype=subtype), stored.mean(axis=1))


def test_silence_in_all_channels_is_silence() -> None:
    assert outcome(encoded(np.zeros((16_000, 2), np.float32))) == "no_sound"
    assert outcome(encoded(np.full((16_000, 2), (0.5, -0.5), np.float32))) == "no_sound"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_no_number_makes_several_channels_corrupt_too(bad: float) -> None:
    both = np.stack([speech(), -speech()], axis=1)
    both[100] = bad, -bad
    assert outcome(encoded(both, subtype="FLOAT")) == "corrupt_media"
