"""Untrusted audio bytes → a short 16 kHz waveform: decoded within limits, resampled, denoised, trimmed."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from models.encoder import ContentError
from models.file_format import sniff_format, tags_before_bytes
from models.voice.container import Sound, whole_sound
from models.voice.hush import hushed

RATE_HZ: Final = 16_000
FORMATS: Final = ("WAV", "FLAC", "Ogg Vorbis", "Ogg Opus", "MP3")
MAX_READ_S: Final = 60
MAX_SAMPLE_S: Final = 3.0
MIN_SAMPLE_S: Final = 0.1
MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000
MAX_CHANNELS: Final = 8
SILENCE_DB: Final = -70.0
"""Loudest 25 ms of a clip, relative to full scale; below it there is nothing to hear."""
DECODER_VERSION: Final = 1
"""Part of the encoder's fingerprint: grows with every change of what the waveform becomes."""

_CANCELLED: Final = 0.4
"""Channels cancel each other where their mean has less of the power than this share of what it would
have if they had nothing in common. Two of equal power do below a correlation of -0.6."""
_MP3_SLACK_FRAMES: Final = 2 * 1152  # encoder delay and padding: two MPEG frames

Wave = npt.NDArray[np.float32]


def decode_voice(content: bytes) -> Wave:
    """WAV, FLAC, Ogg (Vorbis, Opus) or MP3 bytes → float32 mono ``[n]`` at 16 kHz, peak 1, 0.1 to 3 s.

    At most the first 60 s are read; of what is left after denoising and trimming, the loudest 3 s.
    Several channels are mixed to their mean, or, where they cancel each other, the loudest is taken.

    Raises ContentError: ``unsupported_format`` (by name, or a rate or channel count out of range),
    ``corrupt_media`` (cut, altered, shorter than declared, not finite), ``media_too_small`` (under
    0.1 s) or ``no_sound``.
    """
    found = sniff_format(content)
    if found not in FORMATS:
        raise ContentError(
            "unsupported_format",
            f"voice: expected WAV, FLAC, Ogg (Vorbis, Opus) or MP3, got {found};"
            " convert it before sending, for example to WAV with 16-bit PCM",
        )
    if before := tags_before_bytes(content):
        content = content[before:]
    try:
        with hushed(), np.errstate(all="ignore"):
            wave, rate_hz = _read_mono(whole_sound(content, found, MAX_READ_S), found)
    except ContentError:
        raise
    except Exception as error:  # LibsndfileError, RuntimeError, ValueError, …
        raise ContentError(
            "corrupt_media",
            f"voice: expected a whole {found}, got one that does not decode ({type(error).__name__});"
            " send the whole file",
        ) from None
    _check_sound(wave, rate_hz)
    if rate_hz != RATE_HZ:
        wave = soxr.resample(wave, rate_hz, RATE_HZ)
    return condition(wave)


def condition(wave: Wave) -> Wave:
    """Mono at 16 kHz of any level → without steady noise, quiet ends and offset; peak 1, at most 3 s."""
    wave = wave - wave.mean()
    wave = _loudest(trim(denoise(wave / max(float(np.abs(wave).max()), 1e-9))))
    return np.ascontiguousarray(wave / max(float(np.abs(wave).max()), 1e-9), dtype=np.float32)


class _Source(io.BytesIO):
    """Refuses a place before the start in silence: an error in a callback would be printed."""

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(place, whence)
        except (ValueError, OverflowError):
            return -1


class _Powers:
    """Power of each channel and of their mean, without their offsets, as blocks of samples come in."""

    def __init__(self, channels: int) -> None:
        self._frames = 0
        self._sums = np.zeros((2, channels + 1))

    def add(self, block: Wave, mean: Wave) -> None:
        columns = np.column_stack([block, mean]).astype(np.float64)
        self._frames += len(columns)
        self._sums += columns.sum(0), np.square(columns).sum(0)

    def loudest_of_cancelling(self) -> int | None:
        """The channel of most power, where the mean of all has lost theirs."""
        first, second = self._sums / max(self._frames, 1)
        *powers, mean = second - np.square(first)
        share = _CANCELLED * sum(powers) / len(powers) ** 2
        return int(np.argmax(powers)) if mean < share else None


def _read_mono(sound: Sound, found: str) -> tuple[Wave, int]:
    """All channels as one, and the rate in Hz."""
    wave, rate_hz, loudest = _read(sound, found, None)
    return (wave if loudest is None else _read(sound, found, loudest)[0]), rate_hz


def _read(sound: Sound, found: str, channel: int | None) -> tuple[Wave, int, int | None]:
    """One channel, or for None their mean; the rate in Hz; the channel to take where that mean is void.

    Second by second, so that memory follows what is there and not what a header promises.
    """
    with soundfile.SoundFile(_Source(sound.content)) as file:
        rate_hz, channels = file.samplerate, file.channels
        if not (MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and 1 <= channels <= MAX_CHANNELS):
            raise ContentError(
                "unsupported_format",
                f"voice: expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and at most {MAX_CHANNELS} channels,"
                f" got {rate_hz} Hz and {channels}; convert it before sending",
            )
        blocks: list[Wave] = []
        powers = _Powers(channels)
        piece = MAX_READ_S * rate_hz if sound.at_once else rate_hz
        for _ in range(1 if sound.at_once else MAX_READ_S):
            block = np.asarray(file.read(piece, dtype="float32", always_2d=True), np.float32)
            blocks.append(block.mean(axis=1) if channel is None else block[:, channel].copy())
            if channels > 1:
                powers.add(block, blocks[-1])
            if len(block) < piece:
                break
        wave = np.concatenate(blocks)[: sound.kept]
        wanted = min(file.frames, MAX_READ_S * rate_hz)
        if sound.kept is not None:
            wanted = min(wanted, sound.kept)
    slack = _MP3_SLACK_FRAMES if found == "MP3" else 0
    if len(wave) < wanted - slack:
        raise ContentError(
            "corrupt_media",
            f"voice: expected {wanted} frames, as the {found} header declares, got {len(wave)};"
            " send the whole file",
        )
    return wave, rate_hz, powers.loudest_of_cancelling() if channels > 1 else None


def _check_sound(wave: Wave, rate_hz: int) -> None:
    if len(wave) < MIN_SAMPLE_S * rate_hz:
        raise ContentError(
            "media_too_small", f"voice: expected at least {MIN_SAMPLE_S} s, got {len(wave) / rate_hz:.3f} s"
        )
    if not np.isfinite(wave).all():
        raise ContentError("corrupt_media", "voice: expected finite samples, got NaN or infinity")
    steady = np.clip(wave, -1e6, 1e6).astype(np.float64)
    loudest = _frame_power(steady - steady.mean(), rate_hz // 40).max()
    if 10 * np.log10(loudest + 1e-20) < SILENCE_DB:
        raise ContentError("no_sound", f"voice: expected sound above {SILENCE_DB:.0f} dBFS, got silence")


def _frame_power(wave: npt.NDArray[np.floating], frame: int) -> npt.NDArray[np.floating]:
    """Mean square of each whole frame of ``wave``, which must hold at least one."""
    whole = wave[: len(wave) // frame * frame].reshape(-1, frame)
    power: npt.NDArray[np.floating] = np.einsum("ij,ij->i", whole, whole) / frame
    return power


_FFT, _HOP = 512, 128
_WINDOW: Final = np.hanning(_FFT + 1)[:-1].astype(np.float32)
_QUIET_SHARE: Final = 0.15  # of the frames: taken as noise alone
_QUIET_DB: Final = 12.0  # they must lie that far below the loud ones, or the clip is speech throughout
_OVERSUBTRACT: Final = 2.0  # of the noise power (Berouti et al. 1979)
_FLOOR: Final = 0.03  # gain that is left of pure noise, in power: -15 dB


def denoise(wave: Wave) -> Wave:
    """Spectral gating: per frequency, what is no louder than the clip's quietest frames is turned down.

    A clip whose quiet frames are not clearly quieter than its loud ones comes back as it was.
    """
    if len(wave) < 8 * _FFT:
        return wave
    padded = np.pad(wave, _FFT // 2, mode="reflect")
    spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP] * _WINDOW)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    level = power.mean(1)
    order = np.argsort(level)
    quiet = order[: max(int(_QUIET_SHARE * len(order)), 4)]
    loud = order[-max(len(order) // 10, 1) :]
    if level[quiet].mean() * 10 ** (_QUIET_DB / 10) > level[loud].mean():
        return wave
    noise = power[quiet].mean(0)
    gain = np.clip(1 - _OVERSUBTRACT * noise / np.maximum(power, 1e-12), _FLOOR, 1)
    gain = _smooth(_smooth(gain).T).T
    frames = np.fft.irfft(spectrum * np.sqrt(gain), _FFT)
    inner = slice(_FFT // 2, _FFT // 2 + len(wave))  # what was padded ends here, and with it frames of zeros
    windows = _overlap_add(np.broadcast_to(_WINDOW**2, frames.shape))
    return np.asarray(_overlap_add(frames * _WINDOW)[inner] / windows[inner], dtype=np.float32)


def _smooth(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Mean of each row and its neighbours: without it single bins would ring (musical noise)."""
    total, count = x.copy(), np.full((len(x), 1), 3.0, np.float32)
    total[1:] += x[:-1]
    total[:-1] += x[1:]
    count[[0, -1]] = 2
    return total / count


def _overlap_add(frames: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """[n, _FFT] frames, _HOP apart → their sum, [samples]."""
    parts = _FFT // _HOP
    total = np.zeros((len(frames) + parts - 1, _HOP), np.float32)
    for k in range(parts):
        total[k : k + len(frames)] += frames[:, k * _HOP : (k + 1) * _HOP]
    return total.ravel()


_TRIM_DB: Final = 30.0
_TRIM_FRAME: Final = RATE_HZ // 100
_TRIM_MARGIN: Final = 6  # frames of 10 ms kept on both sides: soft consonants


def trim(wave: Wave) -> Wave:
    """Cut ends that are more than 30 dB below the loudest 10 ms; keeps 60 ms around and at least 0.1 s."""
    power = _frame_power(wave, _TRIM_FRAME)
    heard = np.flatnonzero(power >= power.max() / 10 ** (_TRIM_DB / 10))
    least = int(MIN_SAMPLE_S * RATE_HZ)
    start = max(min((int(heard[0]) - _TRIM_MARGIN) * _TRIM_FRAME, len(wave) - least), 0)
    return wave[start : max((int(heard[-1]) + 1 + _TRIM_MARGIN) * _TRIM_FRAME, start + least)]


def _loudest(wave: Wave) -> Wave:
    """The window of MAX_SAMPLE_S that holds most energy; the whole where it is shorter."""
    window = int(MAX_SAMPLE_S * RATE_HZ)
    if len(wave) <= window:
        return wave
    energy = np.concatenate([[0.0], np.cumsum(_frame_power(wave, _TRIM_FRAME).astype(np.float64))])
    frames = window // _TRIM_FRAME
    start = int(np.argmax(energy[frames:] - energy[:-frames])) * _TRIM_FRAME
    return wave[start : start + window]
