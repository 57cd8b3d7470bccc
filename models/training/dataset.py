"""What a training folder holds, as its ``dataset.yaml`` says: files, columns, split groups, label maps.

A folder without one is read by ``models/training/dataset.yaml``, which also explains every key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from features.errors import UsageError
from features.taxonomy import Taxonomy, load_taxonomy
from models.encoder import OTHER, ContentError

FILE_NAME: Final = "dataset.yaml"
DEFAULT_SPEC: Final = Path(__file__).with_name(FILE_NAME)

Row = Mapping[str, Any]


class DatasetError(UsageError):
    """A training folder that cannot be read; the message names the file and the key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelRule(_Strict):
    """How a column gives a head's label. An empty cell gives none."""

    column: str
    map: dict[str, str] | None = None
    """Where given, only its values have a label, and it is what the map says (``other`` to abstain)."""
    drop: tuple[str, ...] = ()
    """Values that are no label."""

    def label(self, row: Row) -> str | None:
        """The label of a row, None where it has none."""
        value = row[self.column]
        if value is None or value == "" or str(value) in self.drop:
            return None
        return str(value) if self.map is None else self.map.get(str(value))


def _rules(value: Any) -> Any:
    """A column name, a rule, or a list of rules (the first that gives a label wins) → rules."""
    given = value if isinstance(value, list) else [value]
    return tuple({"column": v} if isinstance(v, str) else v for v in given)


Rules = Annotated[tuple[LabelRule, ...], BeforeValidator(_rules)]


class _Part(_Strict):
    """What the parts of all encoders share."""

    file: str
    dataset: str = ""
    """Name of the part in figures and in the events of ``fusion``; the file's stem by default."""
    labels: dict[str, Rules] = Field(default_factory=dict)
    category: dict[str, str] = Field(default_factory=dict)
    """Head of the taxonomy's maps → column, in order of precedence; none of them: ``other``."""
    unplaced: tuple[str, ...] = ()
    """Values of these columns that say nothing about the category."""

    @property
    def name(self) -> str:
        return self.dataset or Path(self.file).stem

    def label_columns(self) -> set[str]:
        """Columns that labels and categories are read from."""
        return {r.column for rules in self.labels.values() for r in rules} | set(self.category.values())

    def is_mapped(self, head: str) -> bool:
        """Whether a head's labels come through a map: they stand in for another label."""
        return any(rule.map is not None for rule in self.labels.get(head, ()))

    def labels_of(self, row: Row) -> dict[str, str]:
        """Head → label of a row; heads of which nothing is known are absent."""
        found = {}
        for head, rules in self.labels.items():
            label = next((x for rule in rules if (x := rule.label(row)) is not None), None)
            if label is not None:
                found[head] = label
        return found

    def category_of(self, row: Row, taxonomy: Taxonomy) -> str | None:
        """The first-level category, ``other`` where no column stands for one, None where nothing is known."""
        if not self.category or any(str(row[c]) in self.unplaced for c in self.category.values()):
            return None
        for head, column in self.category.items():
            if found := taxonomy.category_of(head, str(row[column])):
                return found.parent or found.id
        return OTHER


class TextPart(_Part):
    """Reviews or titles."""

    forms: tuple[tuple[str, ...], ...] = Field(min_length=1)
    group: str
    sentiment: str | None = None

    def columns(self) -> set[str]:
        """Columns to read."""
        named = {c for form in self.forms for c in form} | self.label_columns()
        return named | ({self.group} - {"text"}) | ({self.sentiment} if self.sentiment else set())


class ImagePart(_Part):
    """Photos."""

    image: str
    group: str
    group_prefix: str = ""
    shots: int | None = Field(default=None, gt=1)
    title: str | None = None
    source: str = ""
    other: tuple[str, ...] = ()
    repeat: float = Field(default=1, gt=0, le=100)
    natural: bool = False

    @property
    def source_name(self) -> str:
        """The part's name in figures."""
        return self.source or self.name

    def columns(self) -> set[str]:
        """Columns to read."""
        return self.label_columns() | {self.image, self.group} | ({self.title} if self.title else set())

    def group_of(self, row: Row) -> str:
        """What stays in one split: the group's value, or that many shots in a row of one series."""
        value = " ".join(str(row[self.group]).lower().split())
        if self.shots is None:
            return self.group_prefix + value
        stem, _, number = Path(str(row[self.group])).stem.rpartition("_")
        if not (stem and number.isdecimal()):
            raise DatasetError(
                f"{self.file}: {self.group}: expected names that end in _<number> (shots: {self.shots}), "
                "got another; correct dataset.yaml"
            )
        return f"{self.group_prefix}{stem}/{int(number) // self.shots}"


class VoicePart(_Strict):
    """Spoken words, or with ``role`` other sounds that are none of the words."""

    file: str
    audio: str
    speaker: str
    role: Literal["words", "other", "judge"] = "words"
    dataset: str = ""
    speaker_prefix: str = ""
    word: str | None = None
    lang: str | None = None
    order: str | None = None
    pieces: int | None = Field(default=None, ge=1, le=10)
    emotion: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _words_are_named(self) -> VoicePart:
        if self.role == "words" and not (self.word and self.lang):
            raise ValueError("a part of words needs the keys word and lang")
        return self

    @property
    def name(self) -> str:
        return self.dataset or Path(self.file).stem

    def columns(self) -> set[str]:
        """Columns to read."""
        named = (self.audio, self.speaker, self.word, self.lang, self.order, self.emotion)
        return {c for c in named if c}

    def word_of(self, row: Row) -> str:
        """The word of a clip; only parts of words have it."""
        return str(row[self.word]) if self.word else ""

    def lang_of(self, row: Row) -> str:
        """The language of its word."""
        return str(row[self.lang]) if self.lang else ""

    def place_of(self, row: Row) -> tuple[Any, str]:
        """What orders its word among the others."""
        return (row[self.order] if self.order else 0, self.word_of(row))

    def emotion_of(self, row: Row) -> str:
        """The emotion of a clip, empty where none is named."""
        return str(row[self.emotion] or "") if self.emotion else ""


class EventColumns(_Strict):
    """The streams of users that fusion learns from."""

    file: str
    user: str
    time_ms: str
    modality: str
    category: str
    dataset: str

    def names(self) -> dict[str, str]:
        """Our name of a column → theirs."""
        return _stream_names(self) | {"modality": self.modality, "dataset": self.dataset}


class NextColumns(_Strict):
    """What each of these users did next."""

    file: str
    user: str
    time_ms: str
    category: str

    def names(self) -> dict[str, str]:
        """Our name of a column → theirs."""
        return _stream_names(self)


def _stream_names(part: EventColumns | NextColumns) -> dict[str, str]:
    return {"user_id": part.user, "ts_ms": part.time_ms, "category": part.category}


class FusionPart(_Strict):
    """Streams of users, and what they did next."""

    events: EventColumns
    next: NextColumns


class Dataset(_Strict):
    """The whole of a ``dataset.yaml``; what an encoder needs is asked for with :meth:`parts`."""

    taxonomy: str | None = None
    text: tuple[TextPart, ...] = ()
    image: tuple[ImagePart, ...] = ()
    voice: tuple[VoicePart, ...] = ()
    fusion: FusionPart | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Dataset:
        names = [*(p.name for p in self.text), *(p.name for p in self.image), *(p.name for p in self.voice)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the datasets {twice} are named twice: give one of them another dataset")
        return self


def load_dataset(data: Path) -> Dataset:
    """The folder's ``dataset.yaml``, or the one of the project.

    Raises DatasetError for YAML that cannot be read, unknown or missing keys and wrong types.
    """
    file = data / FILE_NAME
    file = file if file.is_file() else DEFAULT_SPEC
    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"{file}: expected YAML, got {type(error).__name__}; correct the file") from error
    if not isinstance(spec, dict):
        raise DatasetError(
            f"{file}: expected keys such as text and image, got {type(spec).__name__}; "
            f"see models/training/{FILE_NAME}"
        )
    try:
        return Dataset.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(x) for x in first["loc"])
        raise DatasetError(
            f"{file}: {where or 'top level'}: expected another value, got one that pydantic refuses "
            f"({first['msg']}); see models/training/{FILE_NAME} for the keys"
        ) from error


_P = TypeVar("_P")


def parts_of(data: Path, kind: str, choose: Callable[[Dataset], _P]) -> _P:
    """One section of the folder's dataset. Raises DatasetError where it has none."""
    found = choose(load_dataset(data))
    if not found:
        raise DatasetError(
            f"{data / FILE_NAME}: expected a section {kind!r}, got none; add it or choose others with --only"
        )
    return found


def dataset_taxonomy(data: Path) -> Taxonomy:
    """The taxonomy that ``dataset.yaml`` names, else the project's. Raises DatasetError, TaxonomyError."""
    named = load_dataset(data).taxonomy
    return load_taxonomy(data / named) if named else load_taxonomy()


def read_rows(file: Path, columns: Iterable[str], limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a parquet file as mappings, these columns only.

    Raises DatasetError for a file that is not there, is no parquet or lacks a column.
    """
    wanted = sorted(columns)
    try:
        there = pq.read_schema(file).names
        if missing := [c for c in wanted if c not in there]:
            raise DatasetError(
                f"{file}: expected columns {wanted}, got {there} without {missing}; check dataset.yaml"
            )
        rows: list[dict[str, Any]] = pq.read_table(file, columns=wanted).slice(0, limit).to_pylist()
        return rows
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"{file}: expected parquet with {wanted}, got {type(error).__name__}; check dataset.yaml"
        ) from error


_T = TypeVar("_T")


def decode_cell(file: str, column: str, row: Row, decode: Callable[[Any], _T]) -> _T:
    """Bytes of a row, decoded. Raises DatasetError for content that the encoder would refuse."""
    try:
        return decode(row[column])
    except (ContentError, TypeError) as error:
        told = error if isinstance(error, ContentError) else f"got {type(row[column]).__name__}"
        raise DatasetError(
            f"{file}: {column}: expected content that decodes; {told}; drop the row"
        ) from error


def require_categories(data: Path, kind: str, found: Iterable[str | None]) -> None:
    """Raises DatasetError where no sample of a section has a category: its maps name other labels."""
    if not set(found) - {OTHER, None}:
        raise DatasetError(
            f"{data / FILE_NAME}: {kind}: expected labels that the taxonomy maps to categories, got none; "
            "check category and the maps of the taxonomy"
        )
