"""Real people in their real order: what category does an Amazon reviewer write about next?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from features.schema import DAY_S, EMBEDDING_DIM, Modality
from models import space
from models.encoder import TextContent
from models.evaluation.encoders.content import CHUNK, taxonomy_of
from models.evaluation.statistics import Paired, holm, mean_estimate, paired
from models.evaluation.step import Context, Section, Step, Table
from models.evaluation.users.next_category import by_linear, ndcg
from models.evaluation.users.streams import Floats, Ints, Streams, moments, one_hot
from models.fusion import load_fusion
from models.registry import load_encoder

FILE: Final = "text_en_amazon_users.parquet"
MIN_PRIOR: Final = 3
"""Reviews before the first moment that is judged."""
FOLDS: Final = 5
YEAR_S: Final = 365 * DAY_S
SELDOM_S: Final = (40 * DAY_S, YEAR_S)
"""Half-lives for people who review a few times a year."""
DEFAULT: Final = "encoder: fusion learned, 40 and 365 days"
"""What a profile says of a reviewer with these."""
_FOREVER_S: Final = (1 << 32) - 1  # the longest half-life that a state takes: 136 years


def amazon_step() -> Step:
    """Next category of real reviewers, beside popularity, mean pool and true labels."""
    code = (
        "models.evaluation.users.streams",
        "models.evaluation.users.next_category",
        "models.evaluation.statistics",
    )
    return Step("amazon", "Amazon users: real people", _amazon, (FILE,), ("text", "fusion"), code, seconds=40)


def read_reviews(ctx: Context) -> tuple[list[dict[str, Any]], list[str]]:
    """Reviews by user and time, and the texts: what was written, and the product's title."""
    rows = pq.read_table(ctx.data / FILE).to_pylist()
    rows.sort(key=lambda r: (r["user_id"], r["ts_ms"]))
    return rows, [f"{r['review'] or ''}. {r['product_title'] or ''}" for r in rows]


def review_vectors(ctx: Context, texts: list[str]) -> Floats:
    """What the shipped text encoder says of the texts, [n, 64]."""
    taxonomy = taxonomy_of(ctx.data)
    encoder = load_encoder("text", ctx.weights / "text.safetensors", "cpu", taxonomy.words, taxonomy)
    samples = [encoder.decode(TextContent(text, "en")) for text in texts]
    return np.concatenate(
        [encoder.encode(samples[i : i + CHUNK]).embedding for i in range(0, len(texts), CHUNK)]
    )


def rare_word_vectors(texts: list[str]) -> Floats:
    """TF-IDF of words and pairs, reduced to as many numbers as an embedding has: the trivial text vector."""
    grams = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)  # type: ignore[no-untyped-call]
    reduced = TruncatedSVD(EMBEDDING_DIM, random_state=0).fit_transform(grams)  # type: ignore[no-untyped-call]
    return space.unit(reduced)


def _streams(rows: list[dict[str, Any]], vector: Floats) -> tuple[Streams, int]:
    """The reviewers' streams without each last review, which is what comes next; and how many categories."""
    users = np.array([row["user_id"] for row in rows])
    names, category = np.unique([row["cat"] for row in rows], return_inverse=True)
    last = np.append(users[1:] != users[:-1], True)
    people = np.unique(users)
    whole = Streams(
        people,
        np.searchsorted(people, users),
        np.array([row["ts_ms"] * 1000 for row in rows], np.int64),
        np.full(len(rows), int(Modality.TEXT)),
        vector,
        category.astype(np.int64),
        np.full(len(rows), ""),
        category[last].astype(np.int64),
        np.zeros(len(people), bool),
    )
    return whole.of(~last), len(names)


def _amazon(ctx: Context) -> Section:
    rows, texts = read_reviews(ctx)
    scores: dict[str, Floats] = {}
    for name, vector in (("encoder", review_vectors(ctx, texts)), ("TF-IDF, 64 d", rare_word_vectors(texts))):
        streams, classes = _streams(rows, vector)
        features, wanted, user, folds = _moments(streams)
        for method, v in _readings(features).items():
            scores[f"{name}: {method}"] = by_linear(v, wanted, folds, classes)
        if name == "encoder":
            for days, memory in (("10 and 40", "10"), ("40 and 365", "40")):
                masks = np.abs(features[memory]).max((2, 3)) > 0
                for kind in ("learned", "average"):
                    fusion = load_fusion(ctx.weights / "fusion.safetensors", kind)
                    v = fusion.fuse(features[memory], masks)
                    scores[f"{name}: fusion {kind}, {days} days"] = by_linear(v, wanted, folds, classes)
    truth, _ = _streams(
        rows, np.pad(one_hot(_categories(rows), classes), ((0, 0), (0, EMBEDDING_DIM - classes)))
    )
    known = _readings(_moments(truth)[0])
    scores["true labels: newest"] = by_linear(known["newest"], wanted, folds, classes)
    scores["true labels: decay 1 year + newest"] = by_linear(
        known["decay 1 year + newest"], wanted, folds, classes
    )
    popular = np.zeros((len(wanted), classes), np.float32)
    for k in range(FOLDS):
        popular[folds == k] = np.bincount(wanted[folds != k], minlength=classes)
    return _section(ctx, {"popular": popular} | scores, wanted, user)


def _categories(rows: list[dict[str, Any]]) -> Ints:
    codes: Ints = np.unique([row["cat"] for row in rows], return_inverse=True)[1].astype(np.int64)
    return codes


def _moments(streams: Streams) -> tuple[dict[str, Floats], Ints, Ints, Ints]:
    """Features by memory, the category that followed, the user and the user's fold of every judged moment."""
    everyone = np.ones(len(streams.users), bool)
    short, seen = moments(streams, everyone)
    long, _ = moments(streams, everyone, (YEAR_S, _FOREVER_S))
    seldom, _ = moments(streams, everyone, SELDOM_S)
    judged = seen >= MIN_PRIOR
    user = np.searchsorted(streams.users, short.user)[judged]
    folds = (np.random.default_rng(3).permutation(len(streams.users)) % FOLDS)[user]
    memories = {"10": short, "40": seldom, "365": long}
    features = {name: memory.features[judged] for name, memory in memories.items()}
    return features, short.following[judged], user, folds


def _readings(features: dict[str, Floats]) -> dict[str, Floats]:
    short, long = features["10"].sum(1), features["365"].sum(1)
    newest = short[:, 2]
    return {
        "newest": newest,
        "mean pool": long[:, 1],
        "decay 10 days": short[:, 0],
        "decay 40 days": short[:, 1],
        "decay 1 year": long[:, 0],
        "decay 1 year + newest": np.concatenate([long[:, 0], newest], axis=1),
        "decay 10 | 40 days | newest": np.concatenate([short[:, 0], short[:, 1], newest], axis=1),
    }


def _section(ctx: Context, scores: dict[str, Floats], wanted: Ints, user: Ints) -> Section:
    repeats = ctx.budget.repeats
    gains = {name: ndcg(s, wanted) for name, s in scores.items()}
    rows = [
        [
            name,
            *(mean_estimate(g, user, repeats) for g in (ndcg(s, wanted, 1), ndcg(s, wanted, 3), gains[name])),
        ]
        for name, s in scores.items()
    ]
    tests: list[list[Any]] = []
    against_default: dict[str, Paired] = {}
    bases = ("popular", "encoder: mean pool", "encoder: newest")
    for name in (n for n in scores if n.startswith("encoder") and n not in bases):
        for base in bases:
            gap = paired(gains[name], gains[base], user, repeats)
            if name == DEFAULT:
                against_default[base] = gap
            tests.append(
                [f"{name} - {base}", {"value": gap.difference, "low": gap.low, "high": gap.high}, gap.p]
            )
    for row, p in zip(tests, holm([row[2] for row in tests]), strict=True):
        row.append(p)
    note = (
        f"{len(np.unique(user))} people, {len(wanted)} moments with {MIN_PRIOR} or more reviews before them; "
        f"vectors read by a linear classifier fitted on other people ({FOLDS} folds). Intervals and p values "
        "by person. The sample holds five reviews per person and category: repeats are commoner than in life."
    )
    columns = ["vector", "hit@1", "hit@3", "NDCG"]
    compared = ["difference", "NDCG", "p", "p after Holm"]
    return Section(
        [Table("Next category", columns, rows, note), Table("Paired tests", compared, tests)],
        notes=[
            "These people review a few times a year, so the default half-lives of 10 and 40 days come down "
            "to the newest review; fold.half_lives_days: [40, 365] is for such."
        ],
        figures={str(row[0]): row[3] for row in rows} | {"paired": against_default},
    )
