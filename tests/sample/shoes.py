"""Catalogue pictures of shoes, 60x80 on white."""

from __future__ import annotations

import random

from PIL import Image

from tests.sample.drawing import (
    CLOTHS,
    LEATHERS,
    WHITE,
    Point,
    catalogue_page,
    darker,
)


def shoe(rng: random.Random) -> Image.Image:
    """A trainer, a leather shoe, a heel or a flip-flop, seen from the side, toe to the right or left."""
    picture = rng.choice([_trainer, _trainer, _leather_shoe, _leather_shoe, _heel, _sandal])(rng)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.3 else picture


def _trainer(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour, second = rng.sample(CLOTHS, 2)
    y = rng.uniform(36, 40)
    c.shadow(30, y + 18.5, 27, 2)
    upper = [
        (4, y + 2),
        (5, y - 7),
        (8, y - 11),
        (13, y - 8),
        (20, y - 9),
        (25, y - 7),
        (33, y + 2),
        (43, y + 6),
        (53, y + 9),
        (57, y + 13),
        (56, y + 16),
        (4, y + 15),
    ]
    c.fill(c.shape(upper), colour, light=0.3, folds=0.05)
    c.fill(c.shape([(8, y - 9.5), (20, y - 8), (17, y - 4.5), (10, y - 5)]), darker(colour, 0.35))
    c.fill(c.shape([(23, y - 7), (35, y + 3.5), (31, y + 7), (19, y - 3)]), second, light=0.2)
    for i in range(5):
        c.fill(c.line([(21 + i * 2.6, y - 4.8 + i * 2.3), (25.5 + i * 2.5, y - 6.2 + i * 2.4)], 0.9), WHITE)
    stripe = rng.choice(["swoosh", "bars", "panel"])
    if stripe == "swoosh":
        c.fill(c.shape([(9, y + 9), (16, y + 7.5), (34, y + 5), (18, y + 11.5), (12, y + 12.5)]), second)
    elif stripe == "bars":
        for i in range(3):
            c.fill(c.line([(15 + i * 4, y + 13), (20 + i * 4.4, y)], 1.6), second)
    else:
        c.fill(c.shape([(4, y + 4), (13, y + 3), (17, y + 15), (4, y + 15)]), second)
        c.fill(c.shape([(44, y + 8), (55, y + 12), (56, y + 16), (42, y + 15)]), second)
    sole = [
        (3, y + 14),
        (20, y + 15),
        (40, y + 15),
        (57, y + 14),
        (58.5, y + 17),
        (55, y + 19.5),
        (6, y + 19.5),
        (2.5, y + 18),
    ]
    c.fill(c.shape(sole), rng.choice([WHITE, WHITE, (40, 40, 44)]), light=0.25)
    c.fill(c.line([(4, y + 19), (30, y + 19.4), (56, y + 18.8)], 0.9), darker(colour, 0.5))
    return c.finish()


def _leather_shoe(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour = rng.choice(LEATHERS[:4])
    y = rng.uniform(37, 40)
    c.shadow(30, y + 16.5, 27, 2)
    upper = [
        (3.5, y + 4),
        (4.5, y - 4),
        (9, y - 6.5),
        (18, y - 4),
        (26, y - 4.5),
        (34, y + 1),
        (45, y + 4.5),
        (55, y + 9),
        (58, y + 13),
        (55, y + 14.5),
        (4, y + 13),
    ]
    c.fill(c.shape(upper), colour, light=0.4, folds=0.04)
    c.fill(
        c.shape([(7, y - 5), (18, y - 3.6), (23, y - 3.8), (19, y - 0.6), (10, y - 1.2)]), darker(colour, 0.4)
    )
    c.glow(c.line([(40, y + 5), (49, y + 7.5)], 1.6), 0.5, 0.8)
    c.fill(c.line([(26, y - 4), (30, y + 4), (25, y + 11)], 0.5), darker(colour, 0.5))
    if rng.random() < 0.6:
        for i in range(4):
            c.fill(
                c.line([(22 + i * 2.4, y - 2 + i * 1.3), (25.5 + i * 2.4, y - 3.6 + i * 1.4)], 0.8),
                darker(colour, 0.4),
            )
    c.fill(
        c.shape(
            [(3, y + 12.5), (58, y + 13), (57, y + 15.4), (22, y + 15.4), (20, y + 17.5), (4, y + 17.5)],
            round_corners=1,
        ),
        (26, 22, 22),
    )
    return c.finish()


def _heel(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour = rng.choice([*LEATHERS, (170, 30, 50), (200, 170, 90)])
    y = 34.0
    c.shadow(34, y + 27.5, 24, 1.6)
    c.fill(
        c.shape(
            [(6, y - 1), (12, y + 1), (10.5, y + 14), (9.5, y + 27), (6.5, y + 27), (5.5, y + 12)],
            round_corners=1,
        ),
        darker(colour, 0.8),
    )
    c.fill(
        c.shape(
            [
                (5, y - 6),
                (8, y - 7.5),
                (12, y - 2),
                (22, y + 9),
                (33, y + 16),
                (44, y + 18),
                (54, y + 22),
                (57, y + 26),
                (40, y + 26),
                (28, y + 22),
                (15, y + 8),
                (6, y + 4),
            ]
        ),
        colour,
        light=0.35,
    )
    c.fill(c.line([(40, y + 26.4), (56.5, y + 26.4)], 1.1), (30, 24, 24))
    if rng.random() < 0.5:
        c.fill(c.line([(7, y - 5), (14, y - 9), (21, y - 2), (20, y + 6)], 1.3), colour)
    return c.finish()


def _sandal(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour, strap = rng.sample([*CLOTHS, *LEATHERS], 2)
    y = 38.0
    c.shadow(30, y + 13, 26, 2)
    foot: list[Point] = [
        (3, y + 2),
        (8, y - 4),
        (18, y - 3),
        (32, y + 1),
        (48, y + 2),
        (57, y + 6),
        (54, y + 11),
        (38, y + 13),
        (18, y + 12),
        (6, y + 8),
    ]
    c.fill(c.shape([(px, py + 2.4) for px, py in foot]), darker(colour, 0.55))
    c.fill(c.shape(foot), colour, light=0.25)
    c.fill(c.line([(49, y + 4.5), (42, y - 2), (26, y - 3), (21, y + 0)], 2.2), strap)
    c.fill(c.line([(49, y + 4.5), (40, y + 6), (30, y + 10), (25, y + 11.5)], 2.2), strap)
    return c.finish()
