"""Catalogue pictures of briefs and bras, 60x80."""

from __future__ import annotations

import random

from PIL import Image

from tests.sample.drawing import CLOTHS, SKINS, catalogue_page, darker, mirrored
from tests.sample.model import arm, cloth, head


def innerwear(rng: random.Random) -> Image.Image:
    """Briefs or a bra."""
    return rng.choice([_briefs, _briefs, _bra])(rng)


def _briefs(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    skin, worn = rng.choice(SKINS), rng.random() < 0.6
    colour, pattern = cloth(c, ("plain", "plain", "plain", "stripes", "dots"))
    y0 = 24.0
    if worn:
        c.fill(
            c.shape(
                mirrored(
                    [
                        (cx + 1, -4),
                        (cx + 15, -4),
                        (cx + 14, 14),
                        (cx + 17, 34),
                        (cx + 16.5, 84),
                        (cx + 2.5, 84),
                        (cx + 0.5, 48),
                    ],
                    cx,
                ),
                round_corners=1,
            ),
            skin,
            light=0.4,
        )
        c.fill(c.oval(cx, 12, 0.7, 1.0), (120, 84, 66))
        c.fill(c.line([(cx, 50), (cx, 80)], 1.2), darker(skin, 0.72))
    width = 16.8 if worn else 21
    outline = [
        (cx, y0),
        (cx + width - 1, y0),
        (cx + width, y0 + 8),
        (cx + width * 0.55, y0 + 15),
        (cx + 4, y0 + 26),
        (cx, y0 + 27),
    ]
    c.fill(c.shape(mirrored(outline, cx), round_corners=1), colour, folds=0.08, pattern=pattern)
    c.fill(
        c.line([(cx - width + 1, y0 + 0.5), (cx + width - 1, y0 + 0.5)], 3),
        rng.choice([(235, 235, 235), darker(colour, 0.5)]),
    )
    c.fill(c.line([(cx - 2, y0 + 2), (cx - 3, y0 + 14), (cx, y0 + 25)], 0.4), darker(colour, 0.6))
    return c.finish()


def _bra(rng: random.Random) -> Image.Image:
    c, cx = catalogue_page(rng), 30.0
    skin = rng.choice(SKINS)
    colour = rng.choice(CLOTHS)
    for side in (-1, 1):
        arm(c, side, cx, (14, 34), (rng.uniform(16, 18), 80), 5.6, skin)
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx, 26),
                    (cx + 5, 28),
                    (cx + 15, 31),
                    (cx + 14, 46),
                    (cx + 10.5, 62),
                    (cx + 13, 84),
                    (cx, 84),
                ],
                cx,
            ),
            round_corners=1,
        ),
        skin,
        light=0.35,
    )
    head(c, cx, 4, 19, woman=True, skin=skin)
    for side in (-1, 1):
        c.fill(c.line([(cx + side * 8, 44), (cx + side * 9.5, 31)], 1.2), colour)
        c.fill(
            c.shape(
                [
                    (cx + side * 0.8, 49),
                    (cx + side * 4, 43),
                    (cx + side * 8.5, 41),
                    (cx + side * 13, 48),
                    (cx + side * 9, 53),
                    (cx + side * 3, 53.5),
                ]
            ),
            colour,
            folds=0.1,
        )
    c.fill(c.line([(cx - 13, 51.5), (cx, 52.5), (cx + 13, 51.5)], 2), colour)
    return c.finish()
