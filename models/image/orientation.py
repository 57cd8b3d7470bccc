"""Which way up a photo is: the one fact that is read from its metadata."""

from __future__ import annotations

import re
import struct
from typing import Final

_TAG: Final = 0x0112  # EXIF 2.3, table 4
_INTEGERS: Final = {3: "H", 4: "L", 8: "h", 9: "l"}  # TIFF 6.0 §2: SHORT, LONG, SSHORT, SLONG
_PREFIX: Final = b"Exif\x00\x00"
_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_MAX_ENTRIES: Final = 1_000


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """EXIF orientation, 1 to 8 where it means something; of XMP where EXIF has none; else 1, upright.

    Blocks that cannot be read count as absent: the photo itself is fine.
    """
    found = _of_exif(exif)
    if found is None and (match := _XMP.search(xmp)):
        found = int(match[1])
    return 1 if found is None else found


def _of_exif(exif: bytes) -> int | None:
    """The entry of the first directory; the last one counts if there are several."""
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (place,) = struct.unpack_from(order + "L", exif, 4)
    if place + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, place)
    found = None
    for i in range(min(count, _MAX_ENTRIES)):
        at = place + 2 + 12 * i
        if at + 12 > len(exif):
            break
        tag, kind, values = struct.unpack_from(order + "HHL", exif, at)
        if tag == _TAG and kind in _INTEGERS and values == 1:
            (found,) = struct.unpack_from(order + _INTEGERS[kind], exif, at + 8)
    return found
