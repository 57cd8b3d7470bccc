"""The report's plots as SVG: lines and confusion matrices, drawn from its JSON."""

from __future__ import annotations

import io
import warnings
from typing import Any, Final

_SIZE: Final = (5.0, 3.4)
_COLOURS: Final = ("#1f5fa8", "#c8553d", "#4a8c5c", "#8a5ca8", "#777777")


def svg_of(plot: dict[str, Any]) -> str:
    """One plot as an inline ``<svg>``, the same bytes for the same numbers."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style: Any = {"svg.hashsalt": "portrait", "svg.fonttype": "none", "font.family": _FONTS, "font.size": 9}
    with warnings.catch_warnings(), pyplot.rc_context(style):
        # the browser's fonts draw the text, so it does not matter that matplotlib's lack Chinese
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure, axes = pyplot.subplots(figsize=_size_of(plot), layout="constrained")
        try:
            (_matrix if plot["kind"] == "matrix" else _lines)(axes, plot)
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)
    text = drawn.getvalue()
    return text[text.index("<svg") :]


_FONTS: Final = ["DejaVu Sans", "sans-serif"]


def _size_of(plot: dict[str, Any]) -> tuple[float, float]:
    if plot["kind"] != "matrix":
        return _SIZE
    side = 2.0 + 0.26 * len(plot["labels"])
    return side, side


def _lines(axes: Any, plot: dict[str, Any]) -> None:
    for colour, (name, points) in zip(_COLOURS, plot["lines"].items(), strict=False):
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, color=colour, label=name, linewidth=1.6, marker="." if len(x) < 15 else None)
    axes.set(xlabel=plot["x"], ylabel=plot["y"], xscale=plot.get("scale", "linear"))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _matrix(axes: Any, plot: dict[str, Any]) -> None:
    labels, counts = plot["labels"], plot["counts"]
    shares = [[n / max(sum(row), 1) for n in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="said", ylabel="label")
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 0.005:
                colour = "white" if share > 0.6 else "black"
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6)
