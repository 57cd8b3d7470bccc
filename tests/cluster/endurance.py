"""Many starts, and long runs, of a job on a real Flink cluster: ``python -m tests.cluster.endurance``.

``starts``: submits a job ``--count`` times and counts those whose partitions were all read within 60 s.
``growth``: one job under a steady feed for ``--minutes``; its checkpoints' size every half minute, and the
growth an hour. ``spread``: which subtasks read, and partitions added while a job runs. Not collected by
pytest. Prints JSON, progress on stderr; the exit code is 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.kafka.liveness import BOOK
from pipelines.kafka.producer import Sender
from pipelines.runners.flink.rest import FlinkRest
from pipelines.runners.flink.submit import partitions_of
from pipelines.runners.stored_positions import StoredPositions
from tests.cluster.parts import Parts, running_parts, say
from tests.support.flink_cluster import FlinkJobs
from tests.support.job import Job, make_job, wait_until

OPEN_WITHIN_S: Final = 60.0


def _job(parts: Parts, name: str) -> FlinkJobs:
    job = make_job(parts.folder / name, parts.kafka, redis=parts.redis.connection_string)
    return FlinkJobs(parts.cluster, job)


def starts(parts: Parts, count: int) -> dict[str, Any]:
    """How long each of so many starts took from submission until the last partition was read."""
    taken_s = []
    for number in range(count):
        jobs = _job(parts, f"start{number}")
        told = jobs.job.run("run", "--runner", "flink", "--detach", *jobs.options(), expect=None)
        whole = told.returncode == 0
        taken_s.append(float(told.stdout.split("after ")[1].split()[0]) if whole else float("inf"))
        say(f"start {number + 1}: {taken_s[-1]:g} s {told.stderr[-300:] if not whole else ''}")
        jobs.stop()
    whole_in_time = sum(s <= OPEN_WITHIN_S for s in taken_s)
    return {"ok": whole_in_time == count, "starts": count, "within_60_s": whole_in_time, "seconds": taken_s}


def growth(parts: Parts, minutes: float, rate: float = 20.0) -> dict[str, Any]:
    """Bytes of the latest checkpoint over time, under a steady feed of small reviews."""
    jobs = _job(parts, "growth")
    jid = jobs.start()
    rest, sender = FlinkRest(parts.cluster.rest), Sender(jobs.job.settings.kafka)
    sizes: list[tuple[float, int]] = []
    began_s = time.monotonic()
    number = 0
    while (now_s := time.monotonic() - began_s) < minutes * 60:
        _send_review(sender, jobs.job, number)
        number += 1
        if now_s >= 30 * len(sizes):
            latest = (rest.checkpoints(jid).get("latest") or {}).get("completed") or {}
            sizes.append((now_s, int(latest.get("state_size", 0))))
            say(f"growth: {now_s:.0f} s, {sizes[-1][1]} bytes")
        time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
    sender.close()
    jobs.stop()
    # the first minutes fill panes
    seconds, held = np.array(sizes[len(sizes) // 4 :]).T
    slope = float(np.polyfit(seconds, held, 1)[0]) if len(held) > 2 else float("nan")
    return {"ok": True, "bytes": sizes, "kB_an_hour": round(slope * 3.6, 1)}


def _send_review(sender: Sender, job: Job, number: int) -> None:
    user = f"user{number % 50}"
    headers = {
        "ce_specversion": "1.0", "ce_id": str(number), "ce_source": "endurance",
        "ce_type": "portrait.review.v1",
        "ce_time": "2026-03-01T00:00:00Z", "ce_subject": user, "content-type": "application/json",
    }  # fmt: skip
    encoded = tuple((name, value.encode()) for name, value in headers.items())
    sender.send(
        job.settings.kafka.topics.reviews, user.encode(), b'{"text": "the apples were fine"}', encoded
    )


def spread(parts: Parts) -> dict[str, Any]:
    """Subtasks that read at parallelism 4, and how soon added partitions are read from their first offset."""
    jobs = _job(parts, "spread")
    jid = jobs.start("--parallelism=4")
    rest = FlinkRest(parts.cluster.rest)
    readers = rest.readers(jid)
    kafka = jobs.job.settings.kafka
    before = set(partitions_of(jobs.job.settings))
    sender = Sender(kafka)
    with parts.kafka.admin() as admin:
        admin.create_partitions({kafka.topics.reviews: 6})
    for partition in (4, 5):
        sender.send(kafka.topics.reviews, b"u", b"not json", (), partition=partition)
    sender.close()
    began_s = time.time()
    added = [p for p in partitions_of(jobs.job.settings) if p not in before]
    book = StoredPositions(jobs.job.settings)
    wait_until(
        lambda: all(book.read(BOOK).get(p, 0) >= began_s * 1000 for p in added),
        60,
        "added partitions to be read",
    )
    taken_s = time.time() - began_s
    wait_until(lambda: len(jobs.job.dead_letters()) == 2, 60, "the records of the added partitions")
    jobs.stop()
    return {
        "ok": sorted(readers) == [1, 1, 1, 1],
        "groups_by_subtask": readers,
        "added_read_after_s": round(taken_s, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", choices=["starts", "growth", "spread", []], default=[])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, running_parts(Path(folder)) as parts:
        for name in chosen.which or ["starts", "growth", "spread"]:
            if name == "starts":
                found[name] = starts(parts, chosen.count)
            elif name == "growth":
                found[name] = growth(parts, chosen.minutes)
            else:
                found[name] = spread(parts)
    print(json.dumps(found, indent=1))
    return 0 if all(result["ok"] for result in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
