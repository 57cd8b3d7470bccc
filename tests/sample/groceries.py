"""Natural pictures of fruit in piles and of cartons in a hand before a shelf, 96x96."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageFilter

from tests.sample.drawing import SCALE, SKINS, Canvas, Colour, darker

SIDE_PX = 96


APPLES: list[list[Colour]] = [
    [(176, 36, 40), (196, 60, 50)],
    [(150, 180, 60), (170, 196, 80)],
    [(206, 90, 60), (220, 150, 80)],
]


def fruit(rng: random.Random) -> Image.Image:
    """A crate full of one kind of fruit, seen from above."""
    kind = rng.choice(["apple", "apple", "apple", "pear", "orange", "lemon", "melon"])
    c = Canvas(SIDE_PX, SIDE_PX, rng, (46, 36, 30))
    colours: dict[str, list[Colour]] = {
        "apple": rng.choice(APPLES),
        "pear": [(160, 168, 70), (140, 146, 60), (176, 170, 90)],
        "orange": [(236, 136, 30), (228, 122, 24)],
        "lemon": [(240, 208, 60), (232, 196, 48)],
        "melon": [(206, 186, 120), (194, 170, 110)],
    }  # fmt: skip
    r = {"apple": 9.5, "pear": 8.5, "orange": 9.5, "lemon": 7.5, "melon": 14}[kind] * rng.uniform(0.8, 1.25)
    paint: Callable[..., None] = {"pear": _pear}.get(kind, _round)
    rows = int(SIDE_PX / (r * 1.45)) + 3
    for row in range(rows):
        for column in range(rows):
            x = (column - 0.7 + 0.5 * (row % 2)) * r * 1.75 + rng.uniform(-2, 2)
            y = (row - 0.7) * r * 1.5 + rng.uniform(-2, 2)
            paint(c, kind, x, y, r * rng.uniform(0.9, 1.1), rng.choice(colours[kind]))
    return c.finish(grain=5, blur=0.5)


def _vary(c: Canvas, colour: Colour, by: int = 16) -> Colour:
    shift = c.rng.randint(-by, by)
    red, green, blue = (max(0, min(255, v + shift + c.rng.randint(-4, 4))) for v in colour)
    return red, green, blue


def _round(c: Canvas, kind: str, x: float, y: float, r: float, colour: Colour) -> None:
    rx, ry = (r * 1.2, r * 0.85) if kind == "lemon" and c.rng.random() < 0.7 else (r, r * 0.96)
    colour = _vary(c, colour)
    c.fill(c.oval(x, y + 1.2, rx + 0.8, ry + 0.8), (24, 20, 18))
    c.fill(c.oval(x, y, rx, ry), colour, light=0.55)
    if kind == "apple":
        blush = c.oval(x + c.rng.uniform(-0.4, 0.4) * r, y + c.rng.uniform(-0.3, 0.4) * r, r * 0.6, r * 0.6)
        c.tint(blush, _vary(c, c.rng.choice([(206, 70, 50), (220, 190, 90)]), 10), 0.6, 2.0)
        c.fill(c.oval(x + r * 0.1, y - r * 0.35, r * 0.2, r * 0.12), (70, 50, 28))
    if kind == "melon":
        for i in range(-2, 3):
            c.fill(
                c.line(
                    [
                        (x + i * r * 0.38, y - r * 0.85 + abs(i) * r * 0.2),
                        (x + i * r * 0.52, y),
                        (x + i * r * 0.38, y + r * 0.85 - abs(i) * r * 0.2),
                    ],
                    0.9,
                ),
                (160, 146, 96),
            )
    c.glow(c.oval(x - rx * 0.35, y - ry * 0.4, rx * 0.22, ry * 0.18), 0.6, 1.0)


def _pear(c: Canvas, _kind: str, x: float, y: float, r: float, colour: Colour) -> None:
    colour, a = _vary(c, colour), c.rng.uniform(0, 2 * math.pi)
    dx, dy = math.cos(a) * r * 0.85, math.sin(a) * r * 0.85
    c.fill(c.oval(x, y + 1, r + 0.8, r + 0.8), (24, 20, 18))
    c.fill(c.line([(x, y), (x + dx * 1.4, y + dy * 1.4)], r * 1.05), colour, light=0.4)
    c.fill(c.oval(x + dx * 1.4, y + dy * 1.4, r * 0.52, r * 0.52), colour, light=0.4)
    c.fill(c.oval(x, y, r, r), colour, light=0.5)
    c.glow(c.oval(x - r * 0.3, y - r * 0.4, r * 0.2, r * 0.2), 0.4, 1.2)


def dairy(rng: random.Random) -> Image.Image:
    """A carton of milk, yoghurt or juice held before the cold shelf."""
    c = Canvas(SIDE_PX, SIDE_PX, rng, (150, 148, 146))
    _shelf(c)
    c.image = c.image.filter(ImageFilter.GaussianBlur(1.1 * SCALE))
    skin, back = (
        rng.choice(SKINS),
        rng.choice([(236, 234, 228), (236, 234, 228), (242, 238, 220), (206, 222, 234)]),
    )
    accent: Colour = rng.choice([(196, 36, 44), (30, 70, 160), (50, 130, 60), (226, 186, 50), (30, 30, 34)])
    tilt = rng.uniform(-0.14, 0.14)
    x0, x1, y0, y1 = (
        32 + rng.uniform(-4, 4),
        64 + rng.uniform(-3, 5),
        24 + rng.uniform(-5, 4),
        90 + rng.uniform(-8, 4),
    )

    def at(x: float, y: float) -> tuple[float, float]:
        cx, cy = 48, 60
        return cx + (x - cx) - tilt * (y - cy), cy + (y - cy) + tilt * (x - cx)

    c.fill(
        c.line([at(x0 - 26, y1 + 8), at(x0 - 10, (y0 + y1) / 2 + 18), at(x0 + 4, (y0 + y1) / 2 + 10)], 17),
        skin,
        light=0.3,
    )
    side = 9 * rng.choice([-1, 1])
    edge = x1 if side > 0 else x0
    c.fill(
        c.shape(
            [at(edge, y0), at(edge + side, y0 - 3), at(edge + side, y1 - 5), at(edge, y1)], round_corners=0
        ),
        darker(back, 0.72),
        light=0.2,
    )
    c.fill(c.shape([at(x0, y0), at(x1, y0), at(x1, y1), at(x0, y1)], round_corners=0), back, light=0.22)
    peak = y0 - rng.uniform(11, 15)
    c.fill(
        c.shape(
            [at(x0, y0), at(x1, y0), at(x1 + side * 0.4, peak), at(x0 + side * 0.4, peak)], round_corners=0
        ),
        darker(accent, 0.86),
        light=0.2,
    )
    c.fill(
        c.shape(
            [
                at(x0 + side * 0.4, peak),
                at(x1 + side * 0.4, peak),
                at(x1 + side * 0.4, peak - 4),
                at(x0 + side * 0.4, peak - 4),
            ],
            round_corners=0,
        ),
        accent,
        light=0.2,
    )
    if rng.random() < 0.6:
        mid = at((x0 + x1) / 2 + 3, (y0 + peak) / 2)
        c.fill(c.oval(*mid, 5, 4), rng.choice([(240, 240, 240), accent]), light=0.4)
    low = y0 + (y1 - y0) * rng.uniform(0.6, 0.75)
    c.fill(
        c.shape([at(x0, low), at(x1, low - 4), at(x1, y1), at(x0, y1)], round_corners=0), accent, light=0.25
    )
    _print(c, at, x0, x1, y0 + 6, low - 6, accent)
    for i in range(3):
        y = (y0 + y1) / 2 + 2 + i * 8
        c.fill(c.line([at(x0 - 4, y + 3), at(x0 + 9, y)], 6.4), skin, light=0.35)
    return c.finish(grain=5, blur=0.4)


def _print(
    c: Canvas,
    at: Callable[[float, float], tuple[float, float]],
    x0: float,
    x1: float,
    y0: float,
    y1: float,
    ink: Colour,
) -> None:
    """Big letters that say nothing, and a picture."""
    y = y0
    for line in range(3):
        x, tall = x0 + 4, c.rng.uniform(4, 6)
        while x < x1 - 6:
            step = c.rng.uniform(2.2, 4.2)
            c.fill(c.line([at(x, y), at(x, y + tall)], 1.5), ink)
            if c.rng.random() < 0.6:
                c.fill(
                    c.line(
                        [
                            at(x, y + tall * c.rng.choice([0, 0.5, 1])),
                            at(x + step * 0.7, y + tall * c.rng.choice([0, 0.5, 1])),
                        ],
                        1.2,
                    ),
                    ink,
                )
            x += step + 1.2
        y += tall + 3
        if y > y1 - 8 or line == 2:
            break
    c.fill(
        c.oval(*at((x0 + x1) / 2 + 2, (y + y1) / 2 + 2), 6, 5),
        c.rng.choice([(196, 36, 44), (226, 160, 60), (120, 160, 80)]),
        light=0.3,
    )


def _shelf(c: Canvas) -> None:
    """Rows of other cartons, out of focus."""
    for row in range(4):
        y, x = row * 26 - 6, -4.0
        while x < SIDE_PX:
            wide = c.rng.uniform(7, 12)
            colour = c.rng.choice(
                [
                    (230, 228, 224),
                    (210, 214, 220),
                    (60, 120, 70),
                    (180, 50, 50),
                    (60, 90, 160),
                    (226, 200, 110),
                ]
            )
            c.fill(
                c.shape([(x, y), (x + wide, y), (x + wide, y + 19), (x, y + 19)], round_corners=0),
                colour,
                light=0.3,
            )
            c.fill(
                c.shape(
                    [(x + 1, y + 8), (x + wide - 1, y + 8), (x + wide - 1, y + 14), (x + 1, y + 14)],
                    round_corners=0,
                ),
                c.rng.choice([(60, 60, 70), (200, 60, 60), (240, 240, 240)]),
            )
            x += wide + 0.8
        c.fill(
            c.shape([(-2, y + 19), (98, y + 19), (98, y + 23), (-2, y + 23)], round_corners=0),
            (110, 110, 114),
        )
        c.fill(
            c.shape(
                [
                    (c.rng.uniform(0, 60), y + 19.4),
                    (c.rng.uniform(62, 90), y + 19.4),
                    (90, y + 22.6),
                    (20, y + 22.6),
                ],
                round_corners=0,
            ),
            (240, 240, 236),
        )
