"""Does a prior help new users, and do several interests of a user retrieve more than one vector?"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.schema import HALF_LIVES_S
from models import space
from models.evaluation.encoders.content import taxonomy_of
from models.evaluation.statistics import mean_estimate, paired
from models.evaluation.step import Context, Section, Step, Table
from models.evaluation.users.next_category import fused, fusion_file, ndcg, user_folds
from models.evaluation.users.streams import (
    EVENTS_FILE,
    NEXT_FILE,
    Floats,
    Ints,
    Streams,
    decayed,
    inputs,
    moments,
    read_streams,
)
from models.fusion import load_fusion
from models.registry import LOADERS

PRIORS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How many events the prior counts for."""
SEEN: Final = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 10_000))
SHARPNESS: Final = 6.0
"""Factor on cosines, as the fusion was trained with."""
INTERESTS: Final = (1, 2, 3, 4, 6)
HELD_OUT: Final = 5
"""Last events of a user that retrieval must find."""
LISTED: Final = 50
_CODE: Final = (
    "models.evaluation.users.streams",
    "models.evaluation.users.next_category",
    "models.evaluation.statistics",
)


def interest_steps() -> tuple[Step, ...]:
    """The prior for new users, and several interests per user."""
    needs = (*(f"users-{modality}" for modality in LOADERS), "users-fit")
    make = partial(Step, files=(EVENTS_FILE, NEXT_FILE), code=_CODE, needs=needs)
    return (
        make("cold-start", "Joined users: a prior for new users", _cold_start, seconds=40),
        make("interests", "Joined users: several interests", _interests, seconds=60),
    )


def _prototypes(ctx: Context) -> Floats:
    return space.category_prototypes(len(taxonomy_of(ctx.data).first_level))


def _cold_start(ctx: Context) -> Section:
    """Chances of the next category after the first events, mixed with what is popular among other users."""
    streams, prototypes = read_streams(ctx), _prototypes(ctx)
    folds = user_folds(streams)
    told, seen = moments(streams, np.ones(len(streams.users), bool))
    user = np.searchsorted(streams.users, told.user)
    chances, popular = np.zeros((2, len(user), len(prototypes)), np.float32)
    for k in np.unique(folds):
        mine = folds[user] == k
        vectors = load_fusion(fusion_file(ctx, int(k), 0)).fuse(told.features[mine], told.mask[mine])
        logits = SHARPNESS * vectors @ prototypes.T
        chances[mine] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        counts = np.bincount(told.following[~mine], minlength=len(prototypes)) + 1
        popular[mine] = counts / counts.sum()
    rows: list[list[Any]] = []
    best: dict[str, float] = {}
    for low, high in SEEN:
        there = (seen >= low) & (seen <= high)
        label = f"{low}" if low == high else f"{low} to {high}" if high < 10_000 else f"{low} or more"
        losses = {}
        for prior in PRIORS:
            weight = seen[there, None] / (seen[there, None] + prior)
            mixed = weight * chances[there] + (1 - weight) * popular[there]
            gain = ndcg(mixed, told.following[there])
            loss = -np.log(mixed[np.arange(len(mixed)), told.following[there]])
            losses[prior] = float(loss.mean())
            estimates = [mean_estimate(x, user[there], ctx.budget.repeats) for x in (gain, loss)]
            rows.append([label, prior, int(there.sum()), *estimates])
        best[label] = min(losses, key=lambda p: losses[p])
    overall = min(PRIORS, key=lambda p: sum(r[4].value for r in rows if r[1] == p))
    columns = ["events seen", "prior, in events", "moments", "NDCG", "log loss"]
    note = (
        "Brackets: bootstrap over users. Log loss: lower is better; it sees confidence, NDCG the order only."
    )
    notes = [
        f"Smallest mean log loss over the groups: a prior of {overall:g} events; by events seen: "
        + ", ".join(f"{label}: {p:g}" for label, p in best.items())
        + ". The simulated categories are nearly equally popular, so a prior gains little here: it tempers "
        "confidence. On skewed catalogues it would matter more; this data cannot show that."
    ]
    return Section(
        [Table("A prior of popular categories", columns, rows, note)], notes=notes, figures={"best": overall}
    )


def _interests(ctx: Context) -> Section:
    """Retrieve other users' content by one vector of a user, or by vectors of the strongest categories."""
    streams, prototypes = read_streams(ctx), _prototypes(ctx)
    counts = np.bincount(streams.user, minlength=len(streams.users))
    late = streams.place >= counts[streams.user] - HELD_OUT
    judged = counts >= HELD_OUT + 3
    past = streams.of(~late)
    features, mask = inputs(past)
    one = fused(ctx, "learned", features, mask, user_folds(streams))
    centres, weights = category_vectors(past, (past.vector @ prototypes.T).argmax(1), len(prototypes))
    rng = np.random.default_rng(2)
    pool = rng.choice(len(streams.user), min(3000, len(streams.user)), replace=False)
    wanted = np.zeros((len(streams.users), len(prototypes)))
    np.add.at(wanted, (streams.user[late], streams.category[late]), 1)
    measures: dict[str, npt.NDArray[np.float64]] = {}
    for user in np.flatnonzero(judged):
        theirs = pool[streams.user[pool] != user]
        items, shown = streams.vector[theirs], streams.category[theirs]
        lists = {"one fused vector": _top(items @ one[user])}
        for k in INTERESTS:
            lists["1 interest" if k == 1 else f"{k} interests"] = interleaved(
                items, centres[user], weights[user], k
            )
        for name, ranked in lists.items():
            found = measures.setdefault(name, np.full((len(streams.users), 3), np.nan))
            found[user] = retrieval(shown[ranked], wanted[user])
    rows: list[list[Any]] = []
    base = measures["one fused vector"][judged]
    for name, found in measures.items():
        mine = found[judged]
        gap = paired(mine[:, 1], base[:, 1], None, ctx.budget.repeats)
        estimates = [mean_estimate(mine[:, i], None, ctx.budget.repeats) for i in range(3)]
        rows.append([name, *estimates, {"value": gap.difference, "low": gap.low, "high": gap.high}, gap.p])
    columns = [
        "retrieved by",
        f"precision@{LISTED}",
        f"events found@{LISTED}",
        "NDCG@50",
        "found, against one vector",
        "p",
    ]
    note = (
        f"{int(judged.sum())} users; the last {HELD_OUT} events are held out, {len(pool)} contents of other "
        "users are ranked. Precision: of the listed, the share of a held-out category; found: of the "
        "held-out events, the share whose category is listed; NDCG: of categories in the order in which the "
        "list first shows them, gain = held-out events. Interests are the decayed sums (40 days) of the "
        "events that the encoder places in a category: any order gives the same. Their lists alternate, the "
        "stronger ones more often."
    )
    return Section(
        [Table("One vector or several", columns, rows, note)], figures={r[0]: r[1:4] for r in rows}
    )


def category_vectors(streams: Streams, said: Ints, classes: int) -> tuple[Floats, Floats]:
    """[u, classes, 64] unit decayed sums by category said, and their weights [u, classes]."""
    hot = np.eye(classes, dtype=np.float32)[said]
    weights = decayed(streams, hot, HALF_LIVES_S[1])
    sums = np.stack(
        [decayed(streams, streams.vector * hot[:, [c]], HALF_LIVES_S[1]) for c in range(classes)], 1
    )
    return space.unit(sums), weights


def _top(scores: Floats) -> Ints:
    order: Ints = np.argsort(-scores, kind="stable")[:LISTED]
    return order


def interleaved(items: Floats, centres: Floats, weights: Floats, k: int) -> Ints:
    """LISTED places of items: each of the k strongest interests gives its best, the stronger more often."""
    chosen = np.argsort(-weights, kind="stable")[:k]
    chosen = chosen[weights[chosen] > 0]
    queues = {int(c): iter(np.argsort(-(items @ centres[c]), kind="stable")) for c in chosen}
    given = dict.fromkeys(queues, 0)
    listed: dict[int, None] = {}
    while queues and len(listed) < min(LISTED, len(items)):
        turn = max(queues, key=lambda c: float(weights[c]) / (given[c] + 1))
        given[turn] += 1
        listed[next(int(i) for i in queues[turn] if int(i) not in listed)] = None
    return np.fromiter(listed, np.int64)


def retrieval(shown: Ints, wanted: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Precision, share of held-out events whose category is listed, and NDCG of categories shown in order."""
    precision = float((wanted[shown] > 0).mean())
    found = float(wanted[np.unique(shown)].sum() / wanted.sum())
    discount = 1 / np.log2(np.arange(len(shown)) + 2)
    first = np.zeros(len(shown), bool)
    first[np.unique(shown, return_index=True)[1]] = True  # a category gains once, where it first appears
    places = discount[: int(first.sum())]
    best = np.sort(wanted)[::-1]
    ideal = float((best[: len(discount)] * discount[: len(best)]).sum())
    gained = float((wanted[shown[first]] * places).sum())
    return precision, found, gained / ideal if ideal else 0.0
