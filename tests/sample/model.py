"""The person who wears the clothes of the sample pictures, and what clothes are made of."""

from __future__ import annotations

from tests.sample.drawing import CLOTHS, HAIRS, Canvas, Colour, Pixels, Point, mirrored


def cloth(
    c: Canvas, kinds: tuple[str, ...] = ("plain", "plain", "stripes", "checks", "flowers")
) -> tuple[Colour, Pixels]:
    """A colour, and the pattern in it."""
    colour, other = c.rng.sample(CLOTHS, 2)
    return colour, c.pattern(c.rng.choice(kinds), colour, other)


def head(c: Canvas, cx: float, top: float, size: float, *, woman: bool, skin: Colour) -> None:
    """Hair, neck and face; ``size`` is the height of the head."""
    hair, r = c.rng.choice(HAIRS), size / 2
    if woman:
        c.fill(
            c.shape(
                mirrored(
                    [
                        (cx, top),
                        (cx + r * 0.95, top + r * 0.4),
                        (cx + r * 1.1, top + r * 2),
                        (cx + r * 0.9, top + size * 1.45),
                    ],
                    cx,
                )
            ),
            hair,
        )
    c.fill(
        c.shape(
            mirrored(
                [
                    (cx + r * 0.38, top + size * 0.6),
                    (cx + r * 0.45, top + size * 1.15),
                    (cx + r * 1.5, top + size * 1.45),
                ],
                cx,
            )
        ),
        skin,
    )
    c.fill(c.oval(cx, top + r * 1.05, r * 0.72, r), skin)
    cap = [
        (cx, top - r * 0.08),
        (cx + r * 0.85, top + r * 0.25),
        (cx + r * 0.75, top + r * 0.95),
        (cx + r * 0.45, top + r * 0.5),
    ]
    c.fill(c.shape(mirrored(cap, cx)), hair)
    for side in (-1, 1):
        c.fill(c.oval(cx + side * r * 0.3, top + r * 1.05, r * 0.1, r * 0.07), (40, 30, 30))
    c.fill(c.oval(cx, top + r * 1.55, r * 0.2, r * 0.06), (170, 80, 80))


def arm(
    c: Canvas,
    side: int,
    cx: float,
    shoulder: Point,
    hand: Point,
    width: float,
    colour: Colour,
    pattern: Pixels | None = None,
) -> None:
    """A limb from shoulder to hand; ``side`` is -1 or 1, x is measured from the middle ``cx``."""
    (sx, sy), (hx, hy) = shoulder, hand
    elbow = (max(sx, hx) + 2.2, (sy + hy) / 2)
    c.fill(
        c.line([(cx + side * x, y) for x, y in ((sx, sy), elbow, (hx, hy))], width),
        colour,
        light=0.25,
        folds=0.08,
        pattern=pattern,
    )
