"""Read profiles as any Feast user does: ``get_online_features`` over the service ``profile``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from features.errors import PortraitError
from features.online import feast_import  # noqa: F401

# isort: split

from feast import FeatureStore
from feast.errors import FeastError

from features.schema import JOIN_KEY

SERVICE: Final = "profile"


def read_profiles(folder: str | Path, users: Sequence[str]) -> list[dict[str, Any] | None]:
    """One dict per user with every field of PROFILE_FIELDS, None for a user whom the store does not know.

    Times are aware UTC datetimes or None. Raises PortraitError where the repo was not applied.
    """
    try:
        store = FeatureStore(repo_path=str(folder))
        answer = store.get_online_features(
            features=store.get_feature_service(SERVICE), entity_rows=[{JOIN_KEY: user} for user in users]
        ).to_dict()
    except FeastError as error:
        raise PortraitError(
            f"{folder}: expected an applied feature repo, got {error}; run portrait apply"
        ) from error
    rows = [dict(zip(answer, values, strict=True)) for values in zip(*answer.values(), strict=True)]
    return [row if row["revision"] is not None else None for row in rows]
