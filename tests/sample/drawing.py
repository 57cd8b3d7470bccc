"""Painting for the sample pictures: smooth outlines, cloth, skin and light, all in code.

Shapes are given in units of the final picture (pixels); everything is painted at :data:`SCALE` times
that size and reduced once at the end, which is what makes the edges smooth.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

SCALE = 6
Point = tuple[float, float]
Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.float32]

SKINS: Sequence[Colour] = ((236, 200, 175), (224, 182, 150), (198, 150, 115), (150, 105, 75))
HAIRS: Sequence[Colour] = ((30, 24, 22), (58, 38, 28), (92, 62, 40))
CLOTHS: Sequence[Colour] = (
    (28, 28, 32), (60, 62, 70), (120, 122, 128), (232, 232, 228), (176, 30, 40), (214, 84, 96),
    (232, 130, 40), (238, 206, 70), (60, 130, 70), (40, 150, 150), (52, 92, 170), (30, 44, 92),
    (110, 66, 140), (236, 150, 180), (120, 84, 56), (196, 172, 134), (150, 196, 226),
)  # fmt: skip
DENIMS: Sequence[Colour] = ((46, 62, 98), (70, 96, 142), (34, 40, 58), (120, 146, 182))
LEATHERS: Sequence[Colour] = (
    (28, 24, 24),
    (78, 46, 30),
    (132, 84, 50),
    (170, 116, 70),
    (110, 30, 36),
    (205, 180, 146),
)


STEEL: Colour = (176, 180, 186)
WHITE: Colour = (244, 244, 242)


class Mask(NamedTuple):
    """What to paint on: a grey cut and where its corner lies, in scaled pixels."""

    left: int
    upper: int
    cut: Image.Image


class Canvas:
    """A picture being painted; ``rng`` decides every detail, so one seed gives one picture."""

    def __init__(
        self, width: int, height: int, rng: random.Random, background: Colour = (255, 255, 255)
    ) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.noise = np.random.default_rng(rng.getrandbits(32))
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), background)

    def shape(self, points: Sequence[Point], *, round_corners: int = 2) -> Mask:
        """A closed outline whose corners are cut ``round_corners`` times (Chaikin 1974)."""
        outline = _chaikin(list(points), round_corners)
        return self._mask(outline, 0, lambda draw, path: draw.polygon(path, fill=255))

    def block(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Mask:
        """A rectangle with round corners."""
        r = radius * SCALE
        return self._mask(
            [(x0, y0), (x1, y1)], 0, lambda draw, path: draw.rounded_rectangle(path, r, fill=255)
        )

    def oval(self, cx: float, cy: float, rx: float, ry: float) -> Mask:
        """An ellipse."""
        corners = [(cx - rx, cy - ry), (cx + rx, cy + ry)]
        return self._mask(corners, 0, lambda draw, path: draw.ellipse(path, fill=255))

    def line(self, points: Sequence[Point], width: float) -> Mask:
        """A curved stroke."""
        path, thick = _chaikin(list(points), 2, closed=False), max(1, round(width * SCALE))
        return self._mask(path, width, lambda draw, p: draw.line(p, fill=255, width=thick, joint="curve"))

    def _mask(
        self, path: list[Point], margin: float, paint: Callable[[ImageDraw.ImageDraw, list[Point]], None]
    ) -> Mask:
        """Paint a path on a mask just large enough for it, cut at the borders of the picture."""
        xs, ys = [x for x, _ in path], [y for _, y in path]
        left, upper = (max(0, int((min(v) - margin) * SCALE) - 1) for v in (xs, ys))
        right = min(self.image.width, int((max(xs) + margin) * SCALE) + 2)
        lower = min(self.image.height, int((max(ys) + margin) * SCALE) + 2)
        cut = Image.new("L", (max(0, right - left), max(0, lower - upper)), 0)
        if cut.width and cut.height:
            paint(ImageDraw.Draw(cut), [(x * SCALE - left, y * SCALE - upper) for x, y in path])
        return Mask(left, upper, cut)

    def fill(self, mask: Mask, colour: Colour, *, light: float = 0.35, folds: float = 0.0,
             pattern: Pixels | None = None) -> None:  # fmt: skip
        """Colour a mask with a rounded light from the upper left and, for cloth, soft folds."""
        columns, rows = mask.cut.size
        if not columns or not rows:
            return
        across = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
        down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
        right, left = np.clip(across * 0.9 + 0.25, 0, None), np.clip(-across - 0.5, 0, None)
        shade = 1 - light * (right**2 + 2 * left**2 + (down + 1) / 8)
        if folds:
            shade = shade + folds * self._clouds(rows, columns)
        base = np.array(colour, np.float32)
        if pattern is not None:
            base = pattern[mask.upper : mask.upper + rows, mask.left : mask.left + columns]
        lit = np.clip(base * shade[..., None] + 14 * (shade[..., None] - 0.6), 0, 255).astype(np.uint8)
        self.image.paste(Image.fromarray(lit), (mask.left, mask.upper), mask.cut)

    def tint(self, mask: Mask, colour: Colour, strength: float, blur: float) -> None:
        """A soft patch of colour without an edge."""
        reach = int(3 * blur * SCALE)
        soft = ImageOps.expand(mask.cut, reach).filter(ImageFilter.GaussianBlur(blur * SCALE))
        self.image.paste(
            colour, (mask.left - reach, mask.upper - reach), soft.point(lambda v: int(v * strength))
        )

    def glow(self, mask: Mask, strength: float = 0.8, blur: float = 0.6) -> None:
        """A soft white highlight."""
        self.tint(mask, (255, 255, 255), strength, blur)

    def shadow(self, cx: float, cy: float, rx: float, ry: float, strength: float = 0.3) -> None:
        """The soft dark a thing throws on the ground."""
        self.tint(self.oval(cx, cy, rx, ry), (40, 40, 44), strength, 0.8)

    def _clouds(self, rows: int, columns: int) -> Pixels:
        """Smooth noise in -1..1, longer downwards than across, as cloth falls."""
        small = self.noise.normal(size=(max(2, rows // (9 * SCALE) + 2), max(2, columns // (4 * SCALE) + 2)))
        grid = Image.fromarray(small.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
        smooth: Pixels = np.clip(np.asarray(grid), -1.5, 1.5)
        return smooth

    def pattern(self, kind: str, colour: Colour, other: Colour) -> Pixels:
        """A cloth's colours over the whole canvas: plain, stripes, checks, dots or flowers."""
        size = (self.height * SCALE, self.width * SCALE)
        y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32) / SCALE
        cloth = np.broadcast_to(np.array(colour, np.float32), (*size, 3)).copy()
        second = np.array(other, np.float32)
        if kind == "stripes":
            cloth[(y % 4.4) < 1.8] = second
        elif kind == "checks":
            for lines in ((x % 5) < 1.6, (y % 5) < 1.6):
                cloth[lines] = 0.5 * cloth[lines] + 0.5 * second
        elif kind == "dots":
            cloth[((x % 4.2) - 2.1) ** 2 + ((y % 4.2) - 2.1) ** 2 < 0.9] = second
        elif kind == "flowers":
            for _ in range(int(self.width * self.height / 26)):
                cx, cy, r = (self.rng.uniform(0, n) for n in (self.width, self.height, 2.0))
                cloth[(x - cx) ** 2 + (y - cy) ** 2 < (r + 0.5) ** 2] = self.rng.choice(
                    [second, np.array(self.rng.choice(CLOTHS), np.float32)]
                )
        return cloth

    def finish(self, grain: float = 3.0, blur: float = 0.0) -> Image.Image:
        """The picture at its final size, with a camera's grain."""
        small = self.image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        if blur:
            small = small.filter(ImageFilter.GaussianBlur(blur))
        pixels = np.asarray(small, np.float32)
        inked = pixels.min(axis=2, keepdims=True) < 250
        return Image.fromarray(
            np.clip(pixels + inked * self.noise.normal(0, grain, pixels.shape), 0, 255).astype(np.uint8)
        )


def _chaikin(points: list[Point], times: int, closed: bool = True) -> list[Point]:
    for _ in range(times):
        nexts = points[1:] + points[:1] if closed else points[1:]
        cut = [
            (near * ax + (1 - near) * bx, near * ay + (1 - near) * by)
            for (ax, ay), (bx, by) in zip(points, nexts, strict=False)
            for near in (0.75, 0.25)
        ]
        points = cut if closed else [points[0], *cut, points[-1]]
    return points


def mirrored(points: Sequence[Point], cx: float) -> list[Point]:
    """An outline from its right half, given from top to bottom."""
    return [*points, *((2 * cx - x, y) for x, y in reversed(points))]


def darker(colour: Colour, by: float = 0.6) -> Colour:
    """The colour times ``by``; above 1 it is lighter."""
    return (min(255, int(colour[0] * by)), min(255, int(colour[1] * by)), min(255, int(colour[2] * by)))


def catalogue_page(rng: random.Random) -> Canvas:
    """A 60x80 picture on white, now and then on grey."""
    grey = rng.randint(205, 235)
    return Canvas(60, 80, rng, (255, 255, 255) if rng.random() < 0.88 else (grey, grey, grey))
