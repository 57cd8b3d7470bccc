"""Every figure that a run exports, once: Prometheus metrics of this process."""

from __future__ import annotations

from collections import Counter as TallyOf
from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from features.errors import UsageError
from features.fold.outcome import Outcome
from pipelines.messages.content import IGNORED_FIELDS
from pipelines.messages.record import Reason

RECORDS: Final = Counter("portrait_records", "records read", ["topic"])
EVENTS: Final = Counter("portrait_events", "events by what the fold did with them", ["outcome"])
REJECTS: Final = Counter("portrait_rejects", "records rejected", ["reason"])
REJECTS_OF_ERASED: Final = Counter(
    "portrait_rejects_of_erased", "rejected records of erased users, which are kept nowhere"
)
REJECT_SHARE: Final = Gauge(
    "portrait_reject_share", "rejects by records, of the latest records of this process; 0 where they are few"
)
DEAD_LETTERS_TOO_LARGE: Final = Counter(
    "portrait_dead_letters_too_large", "dead letters larger than their topic takes: spooled or cut", ["kind"]
)
FIELDS_IGNORED: Final = Counter(
    "portrait_fields_ignored", "fields of reviews that could not be read; the reviews were", ["field"]
)
PROFILES: Final = Counter("portrait_profiles_written", "profiles stored by compare-and-set")
CONFLICTS: Final = Counter("portrait_conflicts", "users whose compare-and-set was repeated")
WINDOW_ENTRIES_CUT: Final = Counter(
    "portrait_window_entries_cut", "anti-replay entries given up to fold.window_entries"
)
BATCH_ITEMS: Final = Histogram(
    "portrait_batch_items", "events per inference batch", ["modality"], buckets=(1, 4, 16, 32, 64, 128, 256)
)
BATCH_SECONDS: Final = Histogram(
    "portrait_batch_seconds",
    "decode and inference of a batch",
    ["modality"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
BATCHES_HALVED: Final = Counter(
    "portrait_batches_halved", "inference batches split for a failure", ["modality"]
)
FRESHNESS_SECONDS: Final = Histogram(
    "portrait_freshness_seconds",
    "record timestamp to profile stored",
    buckets=(0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1, 2, 5, 15, 60, 600, 3600),
)
ROUND_SECONDS: Final = Histogram(
    "portrait_round_seconds", "one local round", buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60)
)
ROUNDS_REPEATED: Final = Counter("portrait_rounds_repeated", "local rounds run again after a failure")
LAG: Final = Gauge("portrait_lag_records", "records not yet read", ["topic", "partition"])
SILENCE_SECONDS: Final = Gauge(
    "portrait_partition_silence_seconds",
    "since a partition was last read or at its end",
    ["topic", "partition"],
)
SILENT_PARTITIONS: Final = Gauge("portrait_partitions_silent", "partitions that nobody reads")

# Every kind is there from the start: Prometheus sees no increase in a series that begins above 0.
for _outcome in Outcome:
    EVENTS.labels(outcome=_outcome.name.lower())
for _reason in Reason:
    REJECTS.labels(reason=_reason)
for _field in IGNORED_FIELDS:
    FIELDS_IGNORED.labels(field=_field)


def count_ignored_fields(fields: Iterable[str]) -> None:
    """Note what a review came with and goes without."""
    for field in fields:
        FIELDS_IGNORED.labels(field=field).inc()


def counted(counter: Counter) -> TallyOf[str]:
    """Where a counter stands, by the value of its label; a counter without one has the key ``""``."""
    samples = (sample for family in counter.collect() for sample in family.samples)
    totals = (sample for sample in samples if sample.name.endswith("_total") and sample.value)
    return TallyOf({",".join(sample.labels.values()): int(sample.value) for sample in totals})


def serve(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Answer Prometheus on loopback from now on. Raises UsageError for a port that cannot be had."""
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise UsageError(
            f"--metrics-port: expected a port that is free on 127.0.0.1, got {port}: {error.strerror}; name "
            "another"
        ) from error
