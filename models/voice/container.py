"""What a decoder can read of an audio file: whole, of a known length, with nothing behind it."""

from __future__ import annotations

from typing import NamedTuple

from models.voice.flac import whole_flac
from models.voice.mpeg import whole_mp3
from models.voice.ogg import whole_ogg
from models.voice.wav import whole_wav


class Sound(NamedTuple):
    """What to give a decoder."""

    content: bytes
    kept: int | None = None
    """Samples of each channel that are sound; None: all."""
    at_once: bool = False
    """To be read in one piece: see :func:`models.voice.mpeg.whole_mp3`."""


def whole_sound(content: bytes, found: str, most_s: float) -> Sound:
    """The bytes of a file to decode, whole and with the true length.

    A length that a writer to a pipe could not know is found, and tags and a little junk behind the
    sound are dropped. A file that says all of this itself comes back as it is. ``found``: the name of
    ``sniff_format``; ``most_s``: seconds that are listened to.

    Raises ContentError: ``corrupt_media`` for a file that is cut or altered (decoders stop quietly at
    damage that the container gives away), ``unsupported_format`` for a WAV of another codec.
    """
    if found == "WAV":
        return Sound(whole_wav(content))
    if found == "FLAC":
        return Sound(whole_flac(content, most_s))
    if found == "MP3":
        return Sound(*whole_mp3(content, most_s))
    return Sound(whole_ogg(content, found))
