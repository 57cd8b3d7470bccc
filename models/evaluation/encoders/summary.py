"""The section of one encoder: figures with intervals beside the baselines', paired tests, plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation.encoders.predictions import (
    Key,
    Verdicts,
    accuracy,
    area,
    calibration_error,
    confusion,
    coverage_curve,
    f1,
    joined,
    reliability,
)
from models.evaluation.statistics import holm, mcnemar, paired
from models.evaluation.step import Context, Section, Table

Found = Mapping[Key, Verdicts]
Baselines = Mapping[str, tuple[Sequence[Found], Found]]
"""Name → (verdicts by seed on the usual test split, verdicts out of fold)."""

_COLUMNS = [
    "model",
    "judged on",
    "source",
    "head",
    "n",
    "groups",
    "accuracy",
    "macro F1",
    "AUC",
    "ECE",
    "kept",
]


def summarise(
    ctx: Context,
    shipped: Found,
    seeds: Sequence[Found],
    folds: Sequence[Found],
    baselines: Baselines,
    plots: Sequence[Key],
) -> Section:
    """What the report says of one encoder."""
    pooled, repeats = joined(folds), ctx.budget.repeats
    section = Section()
    by_shipped, by_pooled = _all_figures(shipped, repeats), _all_figures(pooled, repeats)
    rows = _rows("shipped", "test split", shipped, by_shipped)
    rows += _rows("retrained", f"{len(folds)} folds, pooled", pooled, by_pooled)
    for name, (_, out_of_fold) in baselines.items():
        figures = _all_figures(out_of_fold, repeats)
        rows += _rows(name, f"{len(folds)} folds, pooled", out_of_fold, figures)
    rows += _majority(pooled, repeats)
    rows.sort(key=lambda row: (row[2], row[3]))
    note = (
        "Brackets: 95 % bootstrap over whole groups (titles, senders, speakers, texts). ECE: calibration "
        "error of the score in 15 bins. Kept: share on which the served head commits itself."
    )
    section.tables.append(Table("Accuracy", _COLUMNS, rows, note))
    section.tables.append(_spread(seeds, folds, baselines))
    if by_language := _languages(shipped, pooled, repeats):
        section.tables.append(by_language)
    section.tables.append(_tests(shipped, pooled, baselines, repeats))
    for key in plots:
        if key in shipped:
            section.plots += _plots(key, shipped[key])
    section.figures = {
        "shipped": {"/".join(k): f for k, f in by_shipped.items()},
        "out of fold": {"/".join(k): f for k, f in by_pooled.items()},
        "seeds": {"/".join(k): [float(s[k].right.mean()) for s in seeds if k in s] for k in shipped},
    }
    return section


def _figures(v: Verdicts, repeats: int) -> dict[str, Any]:
    return {
        "n": len(v.right),
        "accuracy": accuracy(v, repeats),
        "macro_f1": f1(v, repeats),
        "auc": area(v),
        "calibration_error": calibration_error(v),
        "kept": float((v.score >= v.threshold).mean()) if np.isfinite(v.score).all() else None,
    }


def _all_figures(found: Found, repeats: int) -> dict[Key, dict[str, Any]]:
    return {key: _figures(v, repeats) for key, v in found.items()}


def _rows(model: str, where: str, found: Found, all_figures: Mapping[Key, Any]) -> list[list[Any]]:
    rows = []
    for (source, head), v in found.items():
        f = all_figures[source, head]
        figures = [f["accuracy"], f["macro_f1"], f["auc"], f["calibration_error"]]
        kept = f["kept"] if model == "shipped" else None
        rows.append([model, where, source, head, len(v.right), len(np.unique(v.group)), *figures, kept])
    return rows


def _majority(pooled: Found, repeats: int) -> list[list[Any]]:
    """The commonest label for everything: what a figure is worth."""
    rows = []
    for (source, head), v in pooled.items():
        names, counts = np.unique(v.wanted, return_counts=True)
        always = Verdicts(
            np.full(len(v.wanted), names[counts.argmax()]), v.wanted, v.score, v.positive, v.group, v.lang
        )
        n = len(v.wanted)
        figures = [accuracy(always, repeats), f1(always, repeats), None, None, None]
        rows.append(["commonest label", "all", source, head, n, len(np.unique(v.group)), *figures])
    return rows


def _spread(seeds: Sequence[Found], folds: Sequence[Found], baselines: Baselines) -> Table:
    """Mean and standard deviation over seeds (same test split) and over folds (other content)."""
    columns = ["model", "source", "head", "seeds", "accuracy over seeds", "folds", "accuracy over folds"]
    rows: list[list[Any]] = []
    for key in sorted({k for found in (*seeds, *folds) for k in found}):
        by_seed, by_fold = _accuracies(seeds, key), _accuracies(folds, key)
        rows.append(["retrained", *key, len(by_seed), _mean_sd(by_seed), len(by_fold), _mean_sd(by_fold)])
        for name, (by_seeds, out_of_fold) in baselines.items():
            if key in out_of_fold:
                mine = _accuracies(by_seeds, key)
                parts = _parts_of(out_of_fold[key], [f[key] for f in folds if key in f])
                rows.append([name, *key, len(mine), _mean_sd(mine), len(parts), _mean_sd(parts)])
    note = "Mean ± standard deviation of the accuracy."
    return Table("Seeds and folds", columns, rows, note)


def _parts_of(pooled: Verdicts, folds: Sequence[Verdicts]) -> list[float]:
    """Accuracy of pooled verdicts fold by fold: they lie one fold after the other."""
    ends = np.cumsum([len(f.right) for f in folds])
    if not len(ends) or ends[-1] != len(pooled.right):
        return []
    return [float(part.mean()) for part in np.split(pooled.right, ends[:-1])]


def _accuracies(found: Sequence[Found], key: Key) -> list[float]:
    return [float(f[key].right.mean()) for f in found if key in f]


def _mean_sd(values: Sequence[float]) -> str | None:
    if not values:
        return None
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _languages(shipped: Found, pooled: Found, repeats: int) -> Table | None:
    rows: list[list[Any]] = []
    for model, found in (("shipped, test split", shipped), ("retrained, out of fold", pooled)):
        for head in sorted({head for _, head in found}):
            parts = [v for (_, h), v in found.items() if h == head]
            for lang in sorted({x for v in parts for x in np.unique(v.lang)} - {"none"}):
                whole = _stack([v.where(v.lang == lang) for v in parts])
                rows.append(
                    [
                        model,
                        lang,
                        head,
                        len(whole.right),
                        accuracy(whole, repeats),
                        f1(whole, repeats),
                        area(whole),
                    ]
                )
    if not rows:
        return None
    columns = ["model", "language", "head", "n", "accuracy", "macro F1", "AUC"]
    return Table("By language", columns, rows, "All sources of a language together.")


def _stack(parts: Sequence[Verdicts]) -> Verdicts:
    return joined([{("", ""): part} for part in parts])["", ""]


def _tests(shipped: Found, pooled: Found, baselines: Baselines, repeats: int) -> Table:
    rows: list[list[Any]] = []
    p_values: list[float] = []
    for name, (by_seed, out_of_fold) in baselines.items():
        pairs = [("retrained", pooled, out_of_fold), ("shipped", shipped, by_seed[0] if by_seed else {})]
        for model, ours, theirs in pairs:
            for key in [k for k in ours if k in theirs]:
                a, b = ours[key], theirs[key]
                if np.array_equal(a.wanted, b.wanted):
                    test = paired(a.right, b.right, a.group, repeats)
                    p_values.append(test.p)
                    exact = mcnemar(a.right, b.right)
                    rows.append([f"{model} - {name}", *key, len(a.right), test[:3], test.p, exact])
    for row, p in zip(rows, holm(p_values), strict=True):
        row.insert(6, p)
    columns = ["accuracy of", "source", "head", "n", "difference", "p", "p after Holm", "p of McNemar"]
    note = (
        "Same samples, held out of both: all folds (retrained) or the test split. p: sign flips of "
        "whole groups; McNemar: exact, takes samples as independent."
    )
    return Table("Paired tests", columns, [_estimated(row) for row in rows], note)


def _estimated(row: list[Any]) -> list[Any]:
    value, low, high = row[4]
    return [*row[:4], {"value": value, "low": low, "high": high}, *row[5:]]


def _plots(key: Key, v: Verdicts) -> list[dict[str, Any]]:
    name = "/".join(key)
    drawn: list[dict[str, Any]] = [{"kind": "matrix", "title": f"{name}: confusion, shipped"} | confusion(v)]
    if np.isfinite(v.score).all():
        lines = {"shipped": coverage_curve(v)}
        drawn += [
            {
                "kind": "lines",
                "title": f"{name}: what is kept",
                "x": "share kept",
                "y": "accuracy of the kept",
                "lines": lines,
            },
            {
                "kind": "lines",
                "title": f"{name}: calibration",
                "x": "mean score",
                "y": "share right",
                "lines": {"shipped": [(x, y) for x, y, _ in reliability(v)], "perfect": [(0, 0), (1, 1)]},
            },
        ]
    return drawn
