"""Catalogue pictures of bags, wallets, watches, belts and sunglasses, 60x80 on white."""

from __future__ import annotations

import itertools
import math
import random

from PIL import Image

from tests.sample.drawing import (
    CLOTHS,
    LEATHERS,
    STEEL,
    WHITE,
    Colour,
    Point,
    catalogue_page,
    darker,
    mirrored,
)


def bag(rng: random.Random) -> Image.Image:
    """A handbag, backpack, wallet, watch, belt or sunglasses."""
    return rng.choice([_handbag, _handbag, _backpack, _wallet, _watch, _watch, _belt, _sunglasses])(rng)


def _handbag(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    colour = rng.choice([*LEATHERS, (176, 30, 40), (110, 66, 140), (60, 62, 70)])
    y, wide, low = rng.uniform(32, 36), rng.uniform(17, 21), 64.0
    handle = [
        (cx - wide * 0.5, y + 3),
        (cx - wide * 0.45, y - 12),
        (cx, y - 20),
        (cx + wide * 0.45, y - 12),
        (cx + wide * 0.5, y + 3),
    ]
    c.fill(c.line([(px + 1.6, py - 1) for px, py in handle], 1.5), darker(colour, 0.5))
    c.shadow(cx, low, wide + 2, 1.6)
    body = mirrored(
        [
            (cx, y),
            (cx + wide * 0.75, y),
            (cx + wide, y + 10),
            (cx + wide * 1.08, low - 6),
            (cx + wide, low),
            (cx, low + 0.5),
        ],
        cx,
    )
    c.fill(c.shape(body), colour, light=0.4, folds=0.07)
    c.fill(c.line(handle, 1.8), darker(colour, 0.8))
    c.fill(
        c.line([(cx - wide * 0.8, y + 3.5), (cx, y + 4.5), (cx + wide * 0.8, y + 3.5)], 0.6),
        darker(colour, 0.5),
    )
    if rng.random() < 0.6:
        c.fill(
            c.shape(
                mirrored(
                    [(cx, y + 9), (cx + wide * 0.65, y + 9), (cx + wide * 0.68, low - 4), (cx, low - 3.5)], cx
                )
            ),
            darker(colour, 0.9),
            light=0.3,
        )
    for side in (-1, 1):
        c.fill(c.oval(cx + side * wide * 0.5, y + 4, 1.2, 1.2), (206, 178, 96))
    c.fill(c.oval(cx, y + 8, 1.7, 1.3), (206, 178, 96))
    return c.finish()


def _backpack(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    colour, second = rng.sample(CLOTHS, 2)
    c.shadow(cx, 71, 17, 1.8)
    c.fill(c.line([(cx - 3.5, 14), (cx - 3, 8.5), (cx + 3, 8.5), (cx + 3.5, 14)], 1.6), darker(colour, 0.5))
    for side in (-1, 1):
        c.fill(
            c.line([(cx + side * 14, 26), (cx + side * 19.5, 46), (cx + side * 15, 64)], 2.6),
            darker(colour, 0.5),
        )
    c.fill(
        c.shape(
            mirrored([(cx, 11), (cx + 9, 12), (cx + 15, 22), (cx + 17.5, 50), (cx + 16.5, 70), (cx, 71)], cx)
        ),
        colour,
        light=0.4,
        folds=0.08,
    )
    c.fill(
        c.shape(mirrored([(cx, 44), (cx + 12, 44), (cx + 13, 66), (cx, 67.5)], cx)),
        rng.choice([second, darker(colour, 0.8)]),
        light=0.3,
    )
    c.fill(c.line([(cx - 14, 33), (cx - 9, 18), (cx + 9, 18), (cx + 14, 33)], 0.8), darker(colour, 0.4))
    c.fill(c.line([(cx - 12, 45.5), (cx + 12, 45.5)], 0.9), darker(colour, 0.35))
    c.fill(c.oval(cx, 29, 3, 2), second)
    return c.finish()


def _wallet(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour = rng.choice(LEATHERS)
    tall = rng.random() < 0.3
    x0, x1, y0, y1 = (17, 43, 22, 60) if tall else (10, 50, 28, 57)
    c.shadow(30, y1 + 0.5, (x1 - x0) / 2 + 1, 1.4)
    c.fill(c.block(x0 + 1.5, y0 - 1.4, x1 + 1.2, y1 - 1, 1.2), darker(colour, 0.55))
    c.fill(c.block(x0, y0, x1, y1, 1.4), colour, light=0.3, folds=0.05)
    seam = [
        (x0 + 1.6, y0 + 2),
        (x1 - 1.6, y0 + 2),
        (x1 - 1.6, y1 - 1.8),
        (x0 + 1.6, y1 - 1.8),
        (x0 + 1.6, y0 + 2),
    ]
    for start, end in itertools.pairwise(seam):
        c.fill(c.line([start, end], 0.35), darker(colour, 1.35 if max(colour) < 180 else 0.7))
    if not tall and rng.random() < 0.4:
        c.fill(c.block(x0 + 14, y0 + 8, x1 - 14, y0 + 12, 1), darker(colour, 0.5))
    return c.finish()


def _watch(rng: random.Random) -> Image.Image:
    c, cx, cy = catalogue_page(rng), 30.0, 40.0
    metal = rng.random() < 0.55
    strap = STEEL if metal else rng.choice([*LEATHERS[:4], (32, 32, 36), (40, 150, 150), (232, 130, 40)])
    dial = rng.choice([(24, 24, 28), WHITE, (34, 52, 104), (230, 224, 204)])
    wide = rng.uniform(6.5, 8.5)
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx, 3),
                    (cx + wide * 0.75, 3),
                    (cx + wide, 26),
                    (cx + wide, 54),
                    (cx + wide * 0.75, 77),
                    (cx, 77),
                ],
                cx,
            ),
            round_corners=1,
        ),
        strap,
        light=0.5,
    )
    step = 2.6 if metal else 6.0
    for i in range(int(74 / step)):
        y = 4 + i * step
        c.fill(c.line([(cx - wide, y), (cx + wide, y)], 0.35), darker(strap, 0.6))
    r = rng.uniform(13.5, 16)
    case = rng.choice([STEEL, (205, 172, 96), (44, 44, 48)])
    c.fill(c.oval(cx + r + 1, cy, 1.6, 1.6), darker(case, 0.8))
    c.fill(c.oval(cx, cy, r, r), case, light=0.5)
    c.fill(c.oval(cx, cy, r - 1.6, r - 1.6), darker(case, 0.6))
    c.fill(c.oval(cx, cy, r - 2.4, r - 2.4), dial, light=0.12)
    ink: Colour = (235, 235, 235) if max(dial) < 120 else (40, 40, 44)
    for i in range(12):
        a = i * math.pi / 6
        inner, outer = r - 5.4, r - 3.4
        c.fill(
            c.line(
                [
                    (cx + inner * math.sin(a), cy - inner * math.cos(a)),
                    (cx + outer * math.sin(a), cy - outer * math.cos(a)),
                ],
                0.8,
            ),
            ink,
        )
    if rng.random() < 0.4:
        for dx, dy in ((-4.5, 1), (4.5, 1), (0, 5)):
            c.fill(c.oval(cx + dx, cy + dy, 2.4, 2.4), darker(dial, 0.7) if max(dial) > 120 else (70, 72, 80))
    for angle, length, width in ((1.05, r * 0.5, 1.1), (5.24, r * 0.68, 0.8)):
        c.fill(c.line([(cx, cy), (cx + length * math.sin(angle), cy - length * math.cos(angle))], width), ink)
    return c.finish()


def _belt(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    colour = rng.choice(LEATHERS)
    y = rng.uniform(36, 40)
    ring = [(4, y - 1), (14, y - 6), (30, y - 7), (46, y - 6), (56, y - 1)]
    c.fill(c.line(ring, 5), darker(colour, 0.5))
    front = [(3.6, y - 1), (5, y + 7), (18, y + 11), (30, y + 12), (44, y + 11), (55, y + 7), (56.4, y - 1)]
    c.fill(c.line(front, 6.4), colour, light=0.4)
    c.fill(
        c.line([(x, py + 2.2) for x, py in front], 0.4),
        darker(colour, 1.5) if max(colour) < 160 else darker(colour, 0.7),
    )
    buckle = rng.choice([STEEL, (205, 172, 96)])
    c.fill(
        c.shape([(20, y + 6.4), (31, y + 7.4), (31, y + 16), (20, y + 15.2)], round_corners=1),
        buckle,
        light=0.5,
    )
    c.fill(c.shape([(22, y + 8.4), (29, y + 9.2), (29, y + 14), (22, y + 13.4)], round_corners=1), colour)
    c.fill(c.line([(21, y + 11), (30, y + 11.6)], 1), buckle)
    return c.finish()


def _sunglasses(rng: random.Random) -> Image.Image:
    c = catalogue_page(rng)
    frame = rng.choice([(24, 24, 26), (96, 60, 36), STEEL, (150, 130, 70)])
    lens = rng.choice([(40, 42, 46), (96, 70, 48), (76, 60, 92), (120, 140, 120)])
    y = 38.0
    c.fill(c.line([(8, y), (22, y - 8), (40, y - 9)], 1.2), darker(frame, 0.7))
    c.fill(c.line([(56, y + 1), (58, y - 6), (52, y - 12)], 1.2), darker(frame, 0.7))
    for x in (17.5, 43.0):
        outline: list[Point] = [
            (x - 11, y - 3),
            (x, y - 5),
            (x + 11, y - 3),
            (x + 9, y + 7),
            (x, y + 10),
            (x - 9, y + 7),
        ]
        c.fill(c.shape(outline), frame)
        c.fill(
            c.shape([(x + (px - x) * 0.86, y + 1.5 + (py - y - 1.5) * 0.84) for px, py in outline]),
            lens,
            light=0.3,
        )
        c.glow(c.line([(x - 6, y - 1), (x - 1, y + 4)], 1.2), 0.35, 0.8)
    c.fill(c.line([(27, y - 2), (30.2, y - 3.5), (33.4, y - 2)], 1.6), frame)
    return c.finish()
