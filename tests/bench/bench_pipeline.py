"""What the pipeline adds to the bare loop of decode and model, how fresh profiles are, what memory it takes.

``python -m tests.bench.bench_pipeline [overhead|fold|freshness|memory …]`` prints JSON. Ratios come from one
run; the bare loop is measured before and after the pipeline and the mean counts. Real content of
``../shared/data`` where it is, else the project's own sample, and the output says which.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow.parquet as pq

from features.repo.apply import write_repo
from features.schema import EVENT_DTYPE, EncodedEvent, Modality
from pipelines import metrics
from pipelines.demo.events import SAMPLE_EVENTS, joined_users_stream, write_demo_taxonomy
from pipelines.kafka.producer import Sender
from pipelines.messages.parse import Event, ParseRules, parse
from pipelines.messages.record import Record
from pipelines.operations.init import write_project
from pipelines.operations.produce import read_messages
from pipelines.process import worker
from pipelines.runners.local import LocalRun, RoundRunner
from pipelines.runners.prepare import ready_store
from pipelines.settings import Settings, load_settings
from pipelines.steps.encode import encode_events
from pipelines.steps.fold import FoldContext, fold_context, fold_events
from pipelines.steps.write import history_writer
from tests.support.folders import DATA
from tests.support.kafka_server import running_kafka
from tests.support.redis_server import running_redis

ROUND = 2_000  # the default of rounds.max_records
STORES = ("sqlite", "redis")


@contextmanager
def project(store: str, **overrides: Any) -> Iterator[Settings]:
    """A fresh project in a temporary folder over SQLite or a Redis of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_project(folder)
        if store == "redis":
            server = stack.enter_context(running_redis(folder / "redis"))
            repo = folder / "redis_repo"
            write_repo(repo, history_dir=folder / "data", redis=server.connection_string)
            overrides["feature_repo"] = str(repo)
        overrides["taxonomy"] = str(write_demo_taxonomy(folder / "taxonomy.yaml"))
        flags = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
        yield load_settings(folder / "portrait.yaml", flags, {})


def contents(settings: Settings, users: int = 150) -> tuple[str, list[Record]]:
    """Records of real or sample content, in event order, each with an offset of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file, name = SAMPLE_EVENTS, "sample"
        if (DATA / "joined_users_events.parquet").is_file():
            file, name = Path(folder) / "events.parquet", "joined_users"
            pq.write_table(joined_users_stream(DATA, users), file)
        messages = list(read_messages(file, settings.kafka.topics))
    now_ms = int(time.time() * 1000)
    rules = ParseRules.of(settings)
    records = [
        Record(m.topic, m.topic, 0, i, now_ms, m.key, m.value, m.headers) for i, m in enumerate(messages)
    ]
    return name, [r for r in records if isinstance(parse(r, rules), Event)]


def renewed(records: Sequence[Record], turn: int) -> list[Record]:
    """The same contents as new events: other ids and offsets."""
    return [
        r._replace(
            offset=r.offset + turn * 1_000_000,
            headers=tuple((n, v + b"-%d" % turn if n == "ce_id" and v else v) for n, v in r.headers),
        )
        for r in records
    ]


def bare_loop(records: Sequence[Record], settings: Settings) -> float:
    """Seconds to decode and encode, in full batches by modality, and nothing else."""
    rules = ParseRules.of(settings)
    held = worker(settings)
    by_modality: dict[Modality, list[Any]] = {}
    for record in records:
        event = parse(record, rules)
        if isinstance(event, Event):
            by_modality.setdefault(event.modality, []).append(event.content)
    began_s = time.perf_counter()
    for modality, items in by_modality.items():
        encoder = held.encoders[modality]
        for start in range(0, len(items), settings.models.batch_items):
            samples = []
            for content in items[start : start + settings.models.batch_items]:
                try:
                    samples.append(encoder.decode(content))
                except ValueError:
                    continue
            encoder.encode(samples)
    return time.perf_counter() - began_s


def overhead(store: str = "sqlite", turns: int = 3) -> dict[str, Any]:
    """µs per event that parse, graph, fold, store and parquet add, by modality and mixed."""
    found: dict[str, Any] = {}
    with project(store) as settings:
        ready_store(settings)
        source, records = contents(settings)
        runner = RoundRunner(settings)
        topics = settings.kafka.topics
        chosen = {
            "text": [r for r in records if r.topic == topics.reviews],
            "image": [r for r in records if r.topic == topics.images],
            "voice": [r for r in records if r.topic == topics.voices],
            "mixed": records,
        }
        turn = 0
        for name, kind in chosen.items():
            own = (kind * (ROUND // max(1, len(kind)) + 1))[:ROUND]
            own = [r._replace(offset=i, headers=_with_number(r, i)) for i, r in enumerate(own)]
            bare_loop(own[:128], settings)
            runner.run([r._replace(topic_id="warm") for r in own[:128]])
            bare, piped = [], []
            for _ in range(turns):
                turn += 1
                bare.append(bare_loop(own, settings))
                piped.append(_timed(partial(_new_round, runner, own, turn, settings)))
                bare.append(bare_loop(own, settings))
            added = (np.median(piped) - np.median(bare)) / len(own) * 1e6
            found[name] = {
                "bare_us": round(float(np.median(bare)) / len(own) * 1e6, 1),
                "pipeline_us": round(float(np.median(piped)) / len(own) * 1e6, 1),
                "overhead_us": round(float(added), 1),
                "throughput_of_bare": round(float(np.median(bare) / np.median(piped)), 3),
                "events": len(own),
            }
    return {"source": source, "store": store, **found}


def _with_number(record: Record, number: int) -> tuple[tuple[str, bytes | None], ...]:
    return tuple((n, v + b"#%d" % number if n == "ce_id" and v else v) for n, v in record.headers)


def _new_round(runner: RoundRunner, records: Sequence[Record], turn: int, settings: Settings) -> None:
    _round(runner, renewed(records, turn), settings)


def _round(runner: RoundRunner, records: Sequence[Record], settings: Settings) -> None:
    runner.run(records)
    history_writer(settings).flush()


def _timed(call: Callable[[], None]) -> float:
    gc.collect()
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def fold(store: str, turns: int = 8, batch: int = 500) -> dict[str, Any]:
    """µs per event of reading states, folding, fusing, building views and compare-and-set."""
    with project(store) as settings:
        ready_store(settings)
        source, records = contents(settings)
        encoded = _encoded(records, settings)
        context = fold_context(settings)
        taken = []
        for turn in range(turns):
            events = [e._replace(numbers=_moved(e.numbers, turn)) for e in encoded]
            parts = [events[start : start + batch] for start in range(0, len(events), batch)]
            took_s = _timed(partial(_fold_all, parts, context))
            taken.append(took_s / len(events) * 1e6)
    return {
        "source": source,
        "store": store,
        "us_per_event": round(float(np.median(taken[1:])), 1),
        "batch": batch,
    }


def _fold_all(parts: Sequence[Sequence[EncodedEvent]], context: FoldContext) -> None:
    for part in parts:
        fold_events(part, context)


def _encoded(records: Sequence[Record], settings: Settings) -> list[EncodedEvent]:
    rules, held = ParseRules.of(settings), worker(settings)
    events = [event for r in records if isinstance(event := parse(r, rules), Event)]
    results = (
        result
        for modality, encoder in held.encoders.items()
        for result in encode_events(
            [e for e in events if e.modality == modality], encoder, held.taxonomy, "bench", 1 << 28
        )
    )
    return [result for result in results if isinstance(result, EncodedEvent)]


def _moved(numbers: bytes, turn: int) -> bytes:
    """The same event under another id, later in its partition."""
    item = np.frombuffer(numbers, EVENT_DTYPE).copy()
    item["offset"] += turn * 1_000_000
    item["event_key"] += np.uint64(turn)
    return item.tobytes()


def freshness(rate: int = 100, seconds: float = 40, store: str = "redis") -> dict[str, Any]:
    """Kafka timestamp → profile stored at a steady mixed rate; the producer is another process.

    The first quarter, in which libraries warm up, is not counted.
    """
    ages: list[float] = []
    with ExitStack() as stack:
        stack.enter_context(patch.object(metrics.FRESHNESS_SECONDS, "observe", ages.append))
        # A real broker: librdkafka's mock gives one batch a partition and fetch, which builds a backlog.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_kafka(folder))
        topics = {
            f"kafka.topics.{name}": server.new_topic() for name in ("reviews", "images", "voices", "controls")
        }
        servers = list(server.bootstrap_servers)
        settings = stack.enter_context(project(store, **{"kafka.bootstrap_servers": servers, **topics}))
        source, records = contents(settings)
        run = LocalRun(settings)
        context = multiprocessing.get_context("spawn")
        producer = context.Process(target=_produce, args=(settings, records, rate, seconds))
        producer.start()

        def stop_after_the_last() -> None:
            producer.join()
            time.sleep(3)
            run.stop()

        threading.Thread(target=stop_after_the_last).start()
        run.run()
    p50_s, p99_s = np.quantile(ages[len(ages) // 4 :], (0.5, 0.99)).round(3).tolist()
    told = {"source": source, "store": store, "rate": rate, "events": len(ages)}
    return {**told, "p50_s": p50_s, "p99_s": p99_s}


def _produce(settings: Settings, records: Sequence[Record], rate: int, seconds: float) -> None:
    sender = Sender(settings.kafka)
    began_s = time.perf_counter()
    for i in range(int(rate * seconds)):
        record = records[i % len(records)]
        sender.send(record.topic, record.key, record.value, _with_number(record, i))
        if (ahead_s := began_s + i / rate - time.perf_counter()) > 0:
            time.sleep(ahead_s)
    sender.close()


def memory(marks: Sequence[int] = (10_000, 100_000)) -> dict[str, Any]:
    """Resident memory of the process after so many mixed events in rounds of a thousand."""
    found: dict[str, Any] = {}
    with project("sqlite") as settings:
        ready_store(settings)
        source, records = contents(settings)
        runner = RoundRunner(settings)
        done = turn = 0
        while done < max(marks):
            turn += 1
            for start in range(0, len(records), ROUND):
                part = renewed(records[start : start + ROUND], turn)
                _round(runner, part, settings)
                done += len(part)
                for mark in marks:
                    if done >= mark and f"rss_mb_after_{mark}" not in found:
                        found[f"rss_mb_after_{mark}"] = round(psutil.Process().memory_info().rss / 2**20)
                        print(f"memory: {done} events", file=sys.stderr)
    return {"source": source, **found}


BENCHES: dict[str, Callable[[], Any]] = {
    "overhead": lambda: {store: overhead(store) for store in STORES},
    "fold": lambda: {store: fold(store) for store in STORES},
    "freshness": freshness,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*BENCHES, []], default=[], help="default: all")
    chosen = parser.parse_args().which or list(BENCHES)
    found = {}
    for name in chosen:
        print(f"bench_pipeline: {name} …", file=sys.stderr)
        found[name] = BENCHES[name]()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
