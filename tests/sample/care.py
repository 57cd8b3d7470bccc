"""Catalogue pictures of perfume, sprays, make-up and shampoo, 60x80 on white."""

from __future__ import annotations

import random

from PIL import Image

from tests.sample.drawing import (
    CLOTHS,
    STEEL,
    WHITE,
    Canvas,
    Colour,
    catalogue_page,
    darker,
    mirrored,
)


def care(rng: random.Random) -> Image.Image:
    """Perfume, spray, lipstick, nail polish or shampoo."""
    return rng.choice([_perfume, _perfume, _spray, _spray, _lipstick, _polish, _shampoo])(rng)


def _perfume(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    liquid = rng.choice(
        [(220, 190, 130), (230, 170, 180), (170, 205, 225), (190, 215, 170), (200, 140, 90), (96, 110, 160)]
    )
    wide, y0, y1 = rng.uniform(8, 12), rng.uniform(36, 42), 68.0
    c.shadow(cx, y1, wide + 2, 1.4, 0.25)
    cap = rng.choice([(40, 40, 44), STEEL, (205, 172, 96), (230, 230, 230)])
    c.fill(c.block(cx - wide * 0.45, y0 - 14, cx + wide * 0.45, y0 - 3, 1), cap, light=0.5)
    c.fill(c.block(cx - 2.4, y0 - 4, cx + 2.4, y0 + 1, 0), STEEL)
    shoulder = rng.uniform(0, 4)
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx, y0),
                    (cx + wide - shoulder, y0),
                    (cx + wide, y0 + shoulder + 1),
                    (cx + wide, y1),
                    (cx, y1),
                ],
                cx,
            ),
            round_corners=1,
        ),
        (226, 232, 234),
        light=0.2,
    )
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx, y0 + 3),
                    (cx + wide - 1.4, y0 + 3 + shoulder * 0.5),
                    (cx + wide - 1.4, y1 - 1.8),
                    (cx, y1 - 1.8),
                ],
                cx,
            ),
            round_corners=1,
        ),
        liquid,
        light=0.25,
    )
    c.glow(c.line([(cx - wide + 2.4, y0 + 5), (cx - wide + 2.4, y1 - 4)], 1.2), 0.7, 0.5)
    _label(c, cx, (y0 + y1) / 2 + 2, wide * 0.6, 3.4, (250, 250, 246), (80, 80, 80))
    return c.finish()


def _label(c: Canvas, cx: float, cy: float, rx: float, ry: float, paper: Colour | None, ink: Colour) -> None:
    """A label with a line or two of unreadable print."""
    if paper is not None:
        c.fill(c.block(cx - rx, cy - ry, cx + rx, cy + ry, 0), paper, light=0.1)
    for i in range(2):
        y, x = cy - ry * 0.4 + i * ry * 0.8, cx - rx * 0.7
        while x < cx + rx * 0.6:
            step = c.rng.uniform(0.8, 2.2)
            c.fill(c.line([(x, y), (min(x + step, cx + rx * 0.7), y)], 0.9 if i == 0 else 0.5), ink)
            x += step + 0.6


def _spray(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    colour, second = rng.sample([*CLOTHS, STEEL], 2)
    wide, y0, y1 = rng.uniform(5.6, 7), rng.uniform(14, 20), 68.0
    c.shadow(cx, y1, wide + 2, 1.2, 0.25)
    c.fill(
        c.shape(
            mirrored([(cx, y0), (cx + wide * 0.8, y0 + 1), (cx + wide * 0.85, y0 + 14), (cx, y0 + 14)], cx)
        ),
        rng.choice([second, WHITE, (40, 40, 44)]),
        light=0.5,
    )
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx, y0 + 13),
                    (cx + wide * 0.8, y0 + 13),
                    (cx + wide, y0 + 19),
                    (cx + wide, y1),
                    (cx, y1 + 0.6),
                ],
                cx,
            ),
            round_corners=1,
        ),
        colour,
        light=0.55,
    )
    c.fill(
        c.shape(
            [(cx - wide, y0 + 30), (cx + wide, y0 + 27), (cx + wide, y0 + 33), (cx - wide, y0 + 37)],
            round_corners=0,
        ),
        second,
        light=0.5,
    )
    _label(c, cx, y0 + 24.5, wide * 0.75, 2.6, None, WHITE if max(colour) < 200 else (50, 50, 60))
    c.glow(c.line([(cx - wide * 0.5, y0 + 4), (cx - wide * 0.55, y1 - 4)], 1.0), 0.5, 0.6)
    return c.finish()


def _lipstick(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    red = rng.choice([(170, 24, 44), (206, 70, 86), (150, 60, 60), (214, 96, 120), (120, 24, 50)])
    case, gold = rng.choice([(28, 26, 28), (150, 26, 36), (90, 50, 80)]), (206, 174, 100)
    c.shadow(30, 66, 15, 1.4, 0.25)
    c.fill(c.block(17, 50, 27, 66, 1), case, light=0.5)
    c.fill(c.block(18, 42, 26, 51, 0), gold, light=0.6)
    c.fill(c.shape([(19, 43), (19, 30), (23, 25), (25.2, 27), (25.2, 43)], round_corners=1), red, light=0.5)
    c.fill(c.block(33, 38, 44, 66, 1), case, light=0.5)
    c.fill(c.line([(33, 61), (44, 61)], 1.6), gold)
    return c.finish()


def _polish(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    colour = rng.choice(
        [(170, 24, 44), (214, 96, 120), (120, 24, 50), (196, 172, 150), (110, 66, 140), (206, 180, 190)]
    )
    cap = rng.choice([(26, 26, 28), STEEL, (206, 174, 100), (236, 236, 236)])
    wide = rng.uniform(6.5, 8.5)
    c.shadow(cx, 66, wide + 2, 1.2, 0.25)
    c.fill(
        c.shape(mirrored([(cx, 16), (cx + 3, 16), (cx + 4, 42), (cx, 42)], cx), round_corners=1),
        cap,
        light=0.5,
    )
    c.fill(
        c.shape(
            mirrored([(cx, 42), (cx + 4, 42), (cx + wide, 48), (cx + wide, 65), (cx, 66)], cx),
            round_corners=1,
        ),
        colour,
        light=0.45,
    )
    c.glow(c.line([(cx - wide + 2.2, 50), (cx - wide + 2.2, 62)], 1.2), 0.6, 0.5)
    _label(c, cx, 57, wide * 0.7, 2.6, None, WHITE)
    return c.finish()


def _shampoo(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    colour, second = rng.sample([*CLOTHS[3:], WHITE], 2)
    c.shadow(cx, 72, 12, 1.4, 0.25)
    c.fill(
        c.shape(mirrored([(cx, 10), (cx + 6, 11), (cx + 6.4, 20), (cx, 20)], cx), round_corners=1),
        second,
        light=0.5,
    )
    c.fill(
        c.shape(
            mirrored([(cx, 19), (cx + 7, 20), (cx + 10.5, 30), (cx + 11, 52), (cx + 9, 71), (cx, 72)], cx)
        ),
        colour,
        light=0.5,
    )
    c.fill(c.shape(mirrored([(cx, 34), (cx + 8, 35), (cx + 8, 58), (cx, 59)], cx)), second, light=0.3)
    _label(c, cx, 44, 6.4, 4.5, None, darker(colour, 0.6))
    c.glow(c.line([(cx - 7.4, 26), (cx - 8, 64)], 1.1), 0.5, 0.6)
    return c.finish()
