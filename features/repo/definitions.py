"""Entity, views and services of Feast, generated from ``features.schema``."""

from __future__ import annotations

from features.online import feast_import  # noqa: F401

# isort: split

from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, FeastType, Float32, Int64, String, UnixTimestamp

from features.schema import EMBEDDING_DIM, ENTITY, JOIN_KEY, PROFILE_FIELDS, VIEWS, FieldType, ProfileField

_TYPES: Final[dict[FieldType, FeastType]] = {
    "vector": Array(Float32),
    "float": Float32,
    "int": Int64,
    "string": String,
    "strings": Array(String),
    "json": String,
    "time": UnixTimestamp,
}

_VIEW_DOCS: Final = {
    "user_profile": "The fused vector and the readable profile of a shopper.",
    "user_modalities": "Vectors and counts by modality: reviews, photos, voice clips.",
}


class ProfileObjects(NamedTuple):
    """What a feature repo declares, in the order of its assignment."""

    user: Entity
    profiles: FileSource
    user_profile: FeatureView
    user_modalities: FeatureView
    profile: FeatureService
    profile_card: FeatureService


def profile_objects(history_dir: str | Path) -> ProfileObjects:
    """The objects over the parquet tables in ``history_dir``: a folder, or a URI as a string.

    A folder is registered by its absolute path: Feast's DuckDB store reads a relative one from
    wherever the reader was started.
    Views have no TTL: an old profile stays true, and readers judge its age themselves.
    Service ``profile`` serves everything; ``profile_card`` leaves out the vectors, for people and JSON.
    """
    root = str(history_dir.resolve() if isinstance(history_dir, Path) else history_dir).rstrip("/")
    user = Entity(name=ENTITY, join_keys=[JOIN_KEY], value_type=ValueType.STRING, description="A shopper.")
    profiles = FileSource(
        name="profiles",
        path=f"{root}/profiles/**/*.parquet",
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        description="One row per written profile; latest per user wins.",
    )
    user_profile, user_modalities = (
        FeatureView(
            name=view,
            entities=[user],
            ttl=timedelta(0),
            schema=[_field(field) for field in PROFILE_FIELDS if field.view == view],
            source=profiles,
            online=True,
            description=_VIEW_DOCS[view],
        )
        for view in VIEWS
    )
    card = [
        view[[field.name for field in view.features if field.dtype != Array(Float32)]]
        for view in (user_profile, user_modalities)
    ]
    return ProfileObjects(
        user,
        profiles,
        user_profile,
        user_modalities,
        FeatureService(
            name="profile", features=[user_profile, user_modalities], description="Everything of a profile."
        ),
        FeatureService(name="profile_card", features=card, description="A profile without its vectors."),
    )


def _field(field: ProfileField) -> Field:
    length = EMBEDDING_DIM if field.type == "vector" else 0
    return Field(name=field.name, dtype=_TYPES[field.type], description=field.doc, vector_length=length)
