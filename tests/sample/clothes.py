"""Catalogue pictures of clothes, on a model or laid flat, 60x80 on white."""

from __future__ import annotations

import random

from PIL import Image

from tests.sample.drawing import CLOTHS, DENIMS, SKINS, catalogue_page, darker, mirrored
from tests.sample.model import arm, cloth, head


def top(rng: random.Random) -> Image.Image:
    """T-shirt, shirt, blouse or sweater, worn (mostly) or laid flat."""
    c, cx = catalogue_page(rng), 30 + rng.uniform(-1, 1)
    skin, woman, worn = rng.choice(SKINS), rng.random() < 0.5, rng.random() < 0.85
    colour, pattern = cloth(c)
    long_sleeves = rng.random() < 0.45
    y0, chest, hem = (20, 11.5, 61) if worn else (16, 14, 66)
    if worn:
        below = rng.choice(DENIMS)
        c.fill(
            c.shape(
                mirrored(
                    [(cx + 1, hem - 6), (cx + chest - 2, hem - 6), (cx + chest - 0.5, 80), (cx + 1, 80)], cx
                ),
                round_corners=0,
            ),
            below,
            folds=0.1,
        )
        for side in (-1, 1):
            arm(c, side, cx, (chest + 0.5, y0 + 4), (chest + 1.5, hem + 1), 4.2, skin)
    for side in (-1, 1):
        end = (chest + 2.2, hem - 4) if long_sleeves else (chest + 3.2, y0 + 15)
        arm(c, side, cx, (chest - 2, y0 + 3.5), end, 6.6, colour, pattern)
    body = [
        (cx + 4, y0),
        (cx + chest, y0 + 3),
        (cx + chest - 0.5, y0 + 16),
        (cx + chest - 1.5, y0 + 28),
        (cx + chest - 0.5, hem),
        (cx, hem + 0.6),
    ]
    c.fill(c.shape(mirrored(body, cx), round_corners=1), colour, folds=0.12, pattern=pattern)
    if worn:
        head(c, cx, 3.5, 14, woman=woman, skin=skin)
    kind = rng.choice(["collar", "print", "v", "round"])
    if kind == "collar":
        c.fill(
            c.shape(
                mirrored([(cx + 0.5, y0 + 4.5), (cx + 4.5, y0 + 3), (cx + 3.8, y0 - 1.2)], cx),
                round_corners=0,
            ),
            colour,
            pattern=pattern,
        )
        c.fill(c.line([(cx, y0 + 4), (cx, hem)], 0.5), (250, 250, 250) if sum(colour) < 380 else (60, 60, 60))
        for i in range(6):
            c.fill(c.oval(cx + 0.7, y0 + 7 + i * 6, 0.45, 0.45), (240, 240, 240))
    else:
        depth = {"print": 2.2, "v": 6.0, "round": 2.6}[kind]
        neck = skin if worn else (190, 190, 190)
        c.fill(
            c.shape(mirrored([(cx + 3.6, y0 - 1), (cx + 2.6, y0 + depth * 0.6), (cx, y0 + depth)], cx)), neck
        )
    if kind == "print":
        ink = rng.choice(CLOTHS)
        for _ in range(rng.randint(3, 7)):
            c.fill(
                c.oval(
                    cx + rng.uniform(-4, 4),
                    y0 + rng.uniform(11, 21),
                    rng.uniform(1, 4),
                    rng.uniform(0.5, 2.5),
                ),
                ink,
            )
    return c.finish()


def bottom(rng: random.Random) -> Image.Image:
    """Jeans, trousers, shorts or a skirt, worn from the waist down or laid flat."""
    c, cx = catalogue_page(rng), 30 + rng.uniform(-1, 1)
    skin, worn = rng.choice(SKINS), rng.random() < 0.75
    kind = rng.choice(["jeans", "jeans", "trousers", "trousers", "shorts", "skirt"])
    jeans = kind == "jeans"
    colour = (
        rng.choice(DENIMS)
        if jeans
        else rng.choice(
            [(40, 42, 48), (196, 172, 134), (92, 96, 92), (60, 66, 96), (108, 84, 60), (150, 150, 150)]
        )
    )
    waist, hip, y0 = rng.uniform(7.5, 8.5), rng.uniform(10.5, 11.5), 11.0 if worn else 9.0
    if worn:
        shirt = rng.choice(CLOTHS)
        for side in (-1, 1):
            arm(c, side, cx, (waist + 2.5, 0), (hip + 2.5, 25), 3.6, skin)
        c.fill(
            c.shape(
                mirrored([(cx, -4), (cx + waist + 2, -4), (cx + waist + 1, y0 + 3), (cx, y0 + 4)], cx),
                round_corners=0,
            ),
            shirt,
            folds=0.1,
        )
    end = {"shorts": rng.uniform(38, 46), "skirt": rng.uniform(34, 54)}.get(kind, 72.0)
    if worn and end < 70:
        for side in (-1, 1):
            c.fill(
                c.line([(cx + side * 6, end - 4), (cx + side * 6.2, 58), (cx + side * 6, 75)], 5.2),
                skin,
                light=0.3,
            )
    if worn:
        for side in (-1, 1):
            c.fill(
                c.oval(cx + side * 7.2, 75.5, 4.4, 2.2),
                rng.choice([(30, 26, 26), (120, 80, 50), (235, 235, 235)]),
            )
    if kind == "skirt":
        outline = mirrored(
            [
                (cx, y0),
                (cx + waist, y0),
                (cx + hip, y0 + 10),
                (cx + hip + rng.uniform(0, 6), end),
                (cx, end + 1),
            ],
            cx,
        )
        colour, pattern = cloth(c)
        c.fill(c.shape(outline, round_corners=1), colour, folds=0.16, pattern=pattern)
        return c.finish()
    cuff = 6.5 if kind == "shorts" else rng.uniform(3.0, 4.6)
    for side in (-1, 1):
        leg = [
            (0.3, y0),
            (waist, y0),
            (hip, y0 + 10),
            (hip - 0.8, y0 + 26),
            (5.6 + cuff, end),
            (5.6 - cuff * 0.6, end),
            (1.4, y0 + 18),
            (0.0, y0 + 13),
        ]
        c.fill(c.shape([(cx + side * x, min(y, end)) for x, y in leg], round_corners=1), colour, folds=0.14)
        if jeans:
            c.glow(c.oval(cx + side * 6.3, y0 + 20, 1.8, 9), 0.28, 1.6)
        c.fill(
            c.line([(cx + side * (waist - 0.5), y0 + 3), (cx + side * (waist - 4), y0 + 5.5)], 0.5),
            (20, 20, 26),
        )
    c.fill(c.block(cx - waist, y0 - 0.5, cx + waist, y0 + 2, 0), rng.choice([colour, (50, 34, 24)]))
    c.fill(c.line([(cx, y0 + 2), (cx, y0 + 12)], 0.4), (24, 24, 30))
    return c.finish()


def dress(rng: random.Random) -> Image.Image:
    """A dress with a narrow waist and a wide skirt, on a model (mostly) or laid flat."""
    c, cx = catalogue_page(rng), 30 + rng.uniform(-1, 1)
    skin, worn = rng.choice(SKINS), rng.random() < 0.65
    colour, pattern = cloth(c, ("plain", "plain", "plain", "flowers", "flowers", "dots"))
    y0, hem = 17.0, rng.uniform(57, 67)
    bust, waist, flare = rng.uniform(7.2, 8), rng.uniform(5.2, 6), rng.uniform(16, 22)
    middle = y0 + rng.uniform(13, 15)
    if worn:
        shoes = rng.choice([(30, 26, 26), (150, 40, 50), (200, 170, 140)])
        for side in (-1, 1):
            c.fill(
                c.line([(cx + side * 3.4, hem - 6), (cx + side * 3.8, 70), (cx + side * 3.0, 76)], 4),
                skin,
                light=0.3,
            )
            c.fill(c.oval(cx + side * 3.3, 77.3, 2.3, 1.6), shoes)
        resting = rng.choice([-1, 1])
        arm(c, resting, cx, (7.4, y0 + 2), (rng.uniform(9.5, 11), 44), 3, skin)
        c.fill(
            c.line(
                [(cx - resting * 7.4, y0 + 2), (cx - resting * 14, y0 + 10), (cx - resting * 6, middle + 2)],
                2.9,
            ),
            skin,
        )
    if rng.random() < 0.2:
        for side in (-1, 1):
            arm(c, side, cx, (6, y0 + 2), (9.4, y0 + 7), 4.6, colour, pattern)
    for i in range(2):
        edge = [(cx + side * (waist + 0.3), middle) for side in (-1, 1)]
        low = [(cx + flare * (1 - k / 4), hem + (k % 2) * 1.2 - i) for k in range(9)]
        c.fill(c.shape([*edge, *low], round_corners=0), colour, folds=0.14, pattern=pattern)
    for k in range(-3, 4):
        c.tint(
            c.line([(cx + k * waist / 4, middle + 3), (cx + k * flare / 4, hem - 1)], 0.7),
            darker(colour, 0.4),
            0.5,
            0.4,
        )
    bodice = [
        (cx + 3.4, y0 - 1),
        (cx + bust - 0.6, y0),
        (cx + bust, y0 + 6),
        (cx + waist, middle),
        (cx, middle + 1),
    ]
    c.fill(c.shape(mirrored(bodice, cx), round_corners=1), colour, folds=0.1, pattern=pattern)
    c.fill(c.line([(cx - waist, middle), (cx + waist, middle)], rng.choice([0.8, 1.8])), darker(colour, 0.5))
    if worn:
        head(c, cx, 2.5, 12, woman=True, skin=skin)
        depth = rng.uniform(2, 5)
        c.fill(c.shape(mirrored([(cx + 3.6, y0 - 2), (cx + 2.6, y0 + 1.5), (cx, y0 + depth)], cx)), skin)
    return c.finish()
