"""``portrait audience`` and ``portrait similar``: who meets a condition, who is like whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from features.audience.find import NEVER, Audience, check_out, find_audience, write_members
from features.audience.language import Expression, compile_expression
from features.errors import UsageError
from features.online.erased_users import erased_users
from features.online.lookup import Profile, lookup
from features.online.open import open_store
from features.schema import JOIN_KEY, visible
from features.similar.index import Similar, SimilarUsers
from features.taxonomy import load_taxonomy
from pipelines.console.lookup import check_text, json_line
from pipelines.console.user_list import read_user_list
from pipelines.settings import Settings

Say = Callable[[str], object]
_ERASED_ASKED: Final = 20
"""Neighbours asked for beside ``--top``: some may be erased since the index was refreshed."""


def run_audience(
    settings: Settings,
    text: str | None,
    *,
    like: Path | None,
    limit: int | None,
    out: Path | None,
    count: bool,
    as_json: bool,
    say: Say,
) -> str:
    """Find an audience, tell its counts through ``say``, write it to ``out``; gives what to print."""
    if text is None and like is None:
        raise UsageError("audience: expected a condition or --like FILE, got neither; see --help")
    expression = compile_given(settings, text, with_similarity=like is not None)
    if like and limit is None and not (expression and expression.uses_similarity):
        raise UsageError(
            "audience: expected --limit N or a condition on similarity beside --like, got neither; "
            "everybody is somehow like the seeds"
        )
    if out:
        check_out(out)
    nearest = None
    if like:
        seeds = read_user_list(like)
        nearest, known = SimilarUsers(settings.history.dir).like(seeds)
        say(f"{known} of {len(seeds)} users of {like} are in the index of similar users")
    found = find_audience(
        settings.history.dir,
        expression,
        datetime.now(UTC),
        counts_from=incarnations(settings),
        nearest=nearest,
        limit=limit,
    )
    say(f"scanned {found.rows} profile rows of {found.users} users; {found.matched} match")
    counts = {"rows": found.rows, "users": found.users, "matched": found.matched}
    if count:
        return json.dumps(counts) if as_json else str(found.matched)
    if out:
        write_members(found, out)
        counts |= {"written": found.members.num_rows}
        return (
            json.dumps(counts | {"out": str(out)}) if as_json else f"wrote {counts['written']} users to {out}"
        )
    return _members(found, counts, as_json)


def _members(found: Audience, counts: dict[str, Any], as_json: bool) -> str:
    rows = found.members.to_pylist()
    if as_json:
        return json_line(counts | {"members": rows})
    lines = ["\t".join(found.members.column_names)]
    return "\n".join([*lines, *("\t".join(map(_cell, row.values())) for row in rows)])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else visible(str(value))


def compile_given(
    settings: Settings, text: str | None, *, with_similarity: bool = False
) -> Expression | None:
    """The expression of a command, in the words of the settings' taxonomy. Raises ExpressionError."""
    if text is None:
        return None
    return compile_expression(text, load_taxonomy(settings.taxonomy), with_similarity=with_similarity)


def incarnations(settings: Settings) -> dict[str, int]:
    """Users who were erased → the first incarnation that counts: older profiles may still lie in files."""
    store = open_store(settings.feature_repo)
    try:
        return {e.user_id: e.incarnation if e.readmitted else NEVER for e in erased_users(store)}
    finally:
        store.close()


def run_refresh(settings: Settings, *, rebuild: bool, as_json: bool, say: Say) -> str:
    """Refresh the index of similar users; gives what to print."""
    users = SimilarUsers(settings.history.dir)
    done = users.refresh(incarnations(settings), rebuild=rebuild, progress=say)
    if as_json:
        return json.dumps(asdict(done))
    how = "built" if done.rebuilt else "refreshed"
    return (
        f"{how} the index of similar users from {done.files} files: {done.added} added, {done.replaced} "
        f"replaced, {done.dropped} dropped; {done.users} users in space {done.space[:16]}"
    )


def run_similar(settings: Settings, user: str, top: int, as_json: bool) -> tuple[str, bool]:
    """What to print of the users nearest to a user's profile as it is served now; False: there is none."""
    check_text([user])
    store = open_store(settings.feature_repo)
    try:
        (own,) = lookup(store, [user])
        if own.embedding is None or own.profile_space is None or not own.embedding.any():
            status = own.status if own.status in ("unknown", "erased") else "without a vector yet"
            answer = json_line({JOIN_KEY: user, "found": False, "status": status})
            return answer if as_json else f"{visible(user)}: {status}", False
        near = SimilarUsers(settings.history.dir).near(
            own.embedding, own.profile_space, top + _ERASED_ASKED, without=[user]
        )
        profiles = lookup(store, [other.user_id for other in near])
    finally:
        store.close()
    served = [pair for pair in zip(near, profiles, strict=True) if pair[1].status in ("fresh", "stale")]
    rows = [_neighbour(own, other, profile) for other, profile in served[:top]]
    if as_json:
        return json_line({JOIN_KEY: user, "found": True, "similar": rows}), True
    lines = [
        f"{r['similarity']:+.3f}  {visible(r[JOIN_KEY])}  {', '.join(r['shared_tags']) or '–'}" for r in rows
    ]
    return "\n".join(lines) or f"{visible(user)}: nobody else is in the index", True


def _neighbour(own: Profile, other: Similar, profile: Profile) -> dict[str, Any]:
    theirs = set(profile.interests or ())
    shared = [tag for tag in own.interests or () if tag in theirs]
    return {JOIN_KEY: other.user_id, "similarity": round(other.similarity, 4), "shared_tags": shared}
