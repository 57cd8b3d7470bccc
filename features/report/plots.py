"""The plots of the report as inline SVG: text stays text, and colours are those of the page.

Matplotlib wants colours of its own; marks stand for them and become CSS variables afterwards, so that
one picture is right on light and on dark. Nothing of a user is drawn as text: labels are dates and numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

SERIES: Final = 9
"""Colours of the page: ``--c0`` to ``--c7`` tell kinds apart, ``--c8`` is the rest."""

_MARK: Final = "#f0f00"  # + a digit: a series
_TEXT, _GRID, _PAGE = "#f0f0fa", "#f0f0fb", "#f0f0fc"
_VARIABLES: Final = {_TEXT: "currentColor", _GRID: "var(--grid)", _PAGE: "var(--page)"}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "portrait",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _TEXT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": _GRID,
    "xtick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.color": _GRID,
    "ytick.labelcolor": _TEXT,
    "ytick.major.size": 0,
}
_WIDTHS_IN: Final = {"wide": 9.0, "narrow": 4.2}


def bars_over_time(name: str, bins: Sequence[datetime], series: Mapping[str, Sequence[int]]) -> Markup:
    """Stacked bars, one colour a series, for wide and for narrow screens."""

    def draw(axes: Axes) -> None:
        bottom = np.zeros(len(bins))
        width = _step_days(bins) * 0.86
        for place, counts in enumerate(series.values()):
            axes.bar(list(bins), counts, width, bottom, color=f"{_MARK}{place}", align="edge", linewidth=0)  # type: ignore[arg-type]
            bottom += counts

    return _both(name, f"stacked bars of {', '.join(series)} over time", draw, bins)


def lines_over_time(name: str, bins: Sequence[datetime], series: Mapping[str, Sequence[int]]) -> Markup:
    """Lines with dots, one colour a series, for wide and for narrow screens."""

    def draw(axes: Axes) -> None:
        for place, counts in enumerate(series.values()):
            dots = "o" if len(bins) < 60 else None
            axes.plot(list(bins), counts, color=f"{_MARK}{place}", marker=dots, markersize=3, linewidth=1.8)  # type: ignore[arg-type]
        axes.set_ylim(bottom=0)

    return _both(name, f"lines of {', '.join(series)} over time", draw, bins)


def scatter(name: str, points: npt.NDArray[np.float32], colours: Sequence[int]) -> Markup:
    """A map of points, float [n, 2]; equal distances on both axes, which have no unit."""
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7, 5.2), layout="constrained")
        axes = figure.add_subplot()
        kinds = np.asarray(colours)
        size = float(np.clip(9000 / max(len(points), 1), 6, 40))
        for colour in np.unique(kinds)[::-1]:  # the rest below
            own = points[kinds == colour]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                size,
                color=f"{_MARK}{colour}",
                alpha=0.75,
                edgecolors=_PAGE,
                linewidths=0.3,
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        return _svg(figure, name, f"map of {len(points)} vectors, coloured by top category")


def _both(name: str, said: str, draw: Any, bins: Sequence[datetime]) -> Markup:
    pictures = []
    for kind, width_in in _WIDTHS_IN.items():
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(width_in, 2.9), layout="constrained")
            axes = figure.add_subplot()
            draw(axes)
            locator = AutoDateLocator(minticks=2, maxticks=8 if kind == "wide" else 4)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
            if len(bins) == 1:  # one bar would fill the picture
                axes.set_xlim(_days(bins[0]) - 3 * _step_days(bins), _days(bins[0]) + 4 * _step_days(bins))
            pictures.append(f'<div class="{kind}">{_svg(figure, f"{name}-{kind}", said)}</div>')
    return Markup("".join(pictures))  # noqa: S704 (our own drawing)


def _days(when: datetime) -> float:
    return when.timestamp() / 86_400


def _step_days(bins: Sequence[datetime]) -> float:
    """The width of the narrowest bin, in days."""
    steps = np.diff([_days(bin_) for bin_ in bins])
    return float(steps.min()) if len(steps) else 1.0


def _svg(figure: Figure, name: str, said: str) -> Markup:
    """The drawing alone: sized by the page, ids of its own, colours by name."""
    file = io.StringIO()
    figure.savefig(
        file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', rf'<svg \1 role="img" aria-label="{said}">', text, count=1
    )
    text = text.replace("xlink:href", "href")
    text = re.sub(rf"{_MARK}(\d)", r"var(--c\1)", text)
    for mark, value in _VARIABLES.items():
        text = text.replace(mark, value)
    return Markup(text)  # noqa: S704
