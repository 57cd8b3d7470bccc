"""What the shipped text encoder says, and where it holds its tongue."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from models import space
from models.encoder import OTHER, ContentError, Encoded, TextContent
from models.text.encoder import TextEncoder


@cache
def encoder() -> TextEncoder:
    return TextEncoder()


def encode(*texts: str, lang: str | None = None) -> Encoded:
    return encoder().encode([encoder().decode(TextContent(text, lang)) for text in texts])


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("酒店位置很好，房间干净，前台服务热情", "hotel"),
        ("苹果很新鲜，又甜又脆，水分足", "fruit"),
        ("这款手机反应很快，电池也耐用", "digital"),
        ("洗发水用完头发很顺，去屑效果好", "personal_care"),
        ("I love this dress, the skirt part flows and it is perfect for a summer wedding", "dresses"),
        ("These jeans fit great, true to size and the denim is soft", "bottoms"),
        ("The hotel room was clean and the front desk staff were friendly", "hotel"),
        ("This novel has wonderful characters, a book I could not put down", "books"),
        ("The phone battery lasts two days and the screen is sharp", "digital"),
    ],
)
def test_a_review_finds_its_category_and_stands_near_its_prototype(text: str, category: str) -> None:
    encoded = encode(text)
    assert encoded.heads["category"].labels == [category]
    labels = encoder().heads["category"].labels
    cosines = encoded.embedding @ space.category_prototypes(len(labels) - 1).T
    assert labels[int(cosines.argmax())] == category


def test_praise_and_blame_have_opposite_signs() -> None:
    encoded = encode(
        "质量很好，非常满意", "质量太差了，非常失望", "I love it, great fit", "Terrible quality, returned it"
    )
    assert encoded.sentiment is not None
    np.testing.assert_array_equal(np.sign(encoded.sentiment), [1, -1, 1, -1])
    head = encoded.heads["sentiment"]
    assert head.labels == ["positive", "negative", "positive", "negative"]
    np.testing.assert_allclose(head.scores, (encoded.sentiment + 1) / 2, atol=1e-6)


def test_every_head_abstains_in_another_language() -> None:
    encoded = encode("C'est une très belle robe, je suis contente de mon achat", "このドレスはとても素敵です")
    assert all(label == OTHER for head in encoded.heads.values() for label in head.labels)
    assert encoded.sentiment is not None
    assert np.isnan(encoded.sentiment).all()
    assert encoded.lang == ["other", "other"]
    assert encoded.aspects == [{}, {}]


def test_a_head_of_one_script_is_silent_on_the_other() -> None:
    encoded = encode("这件衣服很好看，料子也舒服", "The sweater is warm and soft")
    assert encoded.heads["en_cat"].labels[0] == OTHER
    assert encoded.heads["zh_cat"].labels[1] == OTHER


@pytest.mark.parametrize("text", ["热水器安装师傅很专业，加热快", "衣服质量不错，穿着合身"])
def test_what_maps_to_no_category_is_other(text: str) -> None:
    assert encode(text).heads["category"].labels == [OTHER]


def test_a_declared_language_is_believed_but_the_script_decides_the_table() -> None:
    encoded = encode("酒店房间很干净", lang="en")
    assert encoded.lang == ["en"]
    assert encoded.heads["category"].labels == ["hotel"]


def test_aspects_come_with_the_review() -> None:
    assert encode("物流太慢，但是价格便宜").aspects == [{"price": 1, "delivery": -1}]


@pytest.mark.parametrize("blank", ["", "   ", "\u200b\ufeff", "\x00\x07", "\n\t"])
def test_a_text_of_nothing_visible_is_refused(blank: str) -> None:
    with pytest.raises(ContentError) as caught:
        encoder().decode(TextContent(blank))
    assert caught.value.code == "empty_text"


def test_hostile_text_is_encoded_like_any_other() -> None:
    encoded = encode(
        "\ufdfa" * 5_000, "😀" * 16_000, "'; DROP TABLE users; --", "\u202eevil\u202c", "<script>"
    )
    assert np.isfinite(encoded.embedding).all()
