"""Eight events that must become dead letters, and why."""

from __future__ import annotations

import random

from pipelines.messages.record import Reason
from tests.sample.messages import Message, image, review, voice
from tests.sample.people import END
from tests.sample.pictures import jpeg, picture
from tests.sample.voices import silence

_FUTURE = END.replace(year=2099)
_HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)


def bad_events(rng: random.Random) -> list[tuple[Reason, Message]]:
    """What is rejected, each with the reason it must get."""
    photo = jpeg(picture("shoes", rng))
    good = review("shopper02", "bad-0003", END, {"text": "Lovely blouse, true to size."})
    foreign = review("shopper01", "bad-0006", END, {"text": "苹果又脆又甜。"})
    unnamed = review("shopper03", "bad-0008", END, {"text": "酒店位置很好，房间干净。"})
    return [
        (Reason.CORRUPT_MEDIA, image("shopper08", "bad-0001", END, photo[: len(photo) // 3], "image/jpeg")),
        (Reason.UNSUPPORTED_FORMAT, image("shopper12", "bad-0002", END, _HEIC, "image/jpeg")),
        (Reason.BAD_JSON, good._replace(value=good.value[:-4])),
        (Reason.BAD_TIME, review("shopper07", "bad-0004", _FUTURE, {"text": "这本书写得真好，值得推荐。"})),
        (Reason.EMPTY_TEXT, review("shopper15", "bad-0005", END, {"text": " \n ", "rating": 3})),
        (Reason.KEY_MISMATCH, foreign._replace(key="shopper09")),
        (Reason.NO_SOUND, voice("shopper19", "bad-0007", END, silence(1.0), "audio/wav")),
        (Reason.NOT_CLOUDEVENT, unnamed._replace(headers={"content-type": "application/json"})),
    ]
