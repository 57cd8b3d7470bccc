"""Items a second that the shipped encoders take on one core, and whether another runtime would be faster.

``python -m tests.bench.bench_encoders [text|image|voice …] [--quick]`` prints JSON. Rates are per second of
process time (``per_cpu_s``) and of the clock (``per_wall_s``), medians of repeats. The runtimes of
:mod:`tests.bench.runtimes` take turns inside ``encode`` and with the network alone; one that cannot be had
stands there with the reason. Real content of ``../shared/data`` where it is, else the project's own sample,
and the output says which. ``--quick`` leaves out torch.compile, which compiles for half a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from models.encoder import ContentError, Encoder, TextContent
from models.registry import LOADERS, load_encoder
from pipelines.messages.parse import Event, ParseRules, parse
from tests.bench.bench_pipeline import contents, project
from tests.bench.runtimes import RUNTIMES, TOLERANCE, Call, Slot, difference, reason

AIMS: Final = {"text": 1_000, "bag": 15_000, "image": 1_000, "voice": 600}
"""What ``encode`` is to take at its best batch, in items per second of one core."""
BATCHES: Final = (1, 8, 32, 64, 128, 256)
ITEMS: Final = 512
_GPU_BATCH: Final = 1024

Times = list[tuple[float, float]]
"""Seconds of the process and of the clock, of each repeat."""


@dataclass(frozen=True)
class Load:
    """An encoder, and contents and their samples for it."""

    encoder: Encoder
    contents: Sequence[Any]
    samples: Sequence[Any]

    def decode(self) -> None:
        for content in self.contents:
            self.encoder.decode(content)

    def encode(self, *batches: int) -> None:
        for batch in batches:
            for start in range(0, len(self.samples), batch):
                self.encoder.encode(self.samples[start : start + batch])

    def both(self, batch: int) -> None:
        for start in range(0, len(self.contents), batch):
            part = self.contents[start : start + batch]
            self.encoder.encode([self.encoder.decode(content) for content in part])


def load(encoder: Encoder, found: Sequence[Any], items: int) -> Load:
    """As many items as wanted of those that the encoder takes, from the start again where there are fewer."""
    pairs = []
    for content in found[:items]:
        try:
            pairs.append((content, encoder.decode(content)))
        except ContentError:
            continue
    pairs = list(islice(cycle(pairs), items))
    return Load(encoder, [content for content, _ in pairs], [sample for _, sample in pairs])


def found_contents() -> tuple[str, dict[str, list[Any]]]:
    """Which content it is, and modality → contents in the order of events."""
    with project("sqlite") as settings:
        source, records = contents(settings)
        rules = ParseRules.of(settings)
        events = [event for record in records if isinstance(event := parse(record, rules), Event)]
    return source, {m: [e.content for e in events if e.modality.name.lower() == m] for m in LOADERS}


def taken(run: Callable[[], object]) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def rate(items: int, times: Times) -> dict[str, int]:
    cpu_s, wall_s = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    return {"per_cpu_s": round(items / cpu_s), "per_wall_s": round(items / wall_s)}


def times(run: Callable[[], object], repeats: int) -> Times:
    run()
    return [taken(run) for _ in range(repeats)]


def in_turns(work: Load, ready: dict[str, Call], batches: Sequence[int], repeats: int) -> dict[str, Any]:
    """Runtime → its rates alone and in ``encode``; each repeat is one turn of all of them."""
    slot = Slot(work.encoder)
    calls = slot.calls(partial(work.encode, max(batches)))
    alone: dict[str, Times] = {name: [] for name in ready}
    whole: dict[str, dict[int, Times]] = {name: {batch: [] for batch in batches} for name in ready}
    for _ in range(1 + repeats):  # the first turn warms up
        for name, call in ready.items():
            with torch.inference_mode():
                alone[name].append(taken(partial(_each, call, calls)))
            with slot.filled(call):
                for batch in batches:
                    whole[name][batch].append(taken(partial(work.encode, batch)))
    n, found = len(work.samples), {}
    for name in ready:
        rates = {batch: rate(n, each[1:]) for batch, each in whole[name].items()}
        best = max(rates, key=lambda batch: rates[batch]["per_cpu_s"])
        found[name] = {"network": rate(n, alone[name][1:]), "encode": rates, "best_batch": best}
    return found


def _each(call: Call, calls: Sequence[Any]) -> None:
    for given in calls:
        call(*given)


def runtimes(work: Load, batches: Sequence[int], repeats: int, quick: bool) -> dict[str, Any]:
    """Runtime → rates, and how they stand to eager torch's; or the reason why there are none."""
    slot = Slot(work.encoder)
    encode = partial(work.encode, *batches)
    told: dict[str, dict[str, Any]] = {}
    ready: dict[str, Call] = {}
    for name, prepare in RUNTIMES.items():
        if quick and name == "torch.compile":
            told[name] = {"error": "left out by --quick"}
            continue
        print(f"bench_encoders: {work.encoder.modality}: {name} …", file=sys.stderr)
        try:
            runtime = prepare(slot, encode)
            with torch.inference_mode():
                apart = difference(slot, runtime, slot.calls(encode))
            told[name] = runtime.told | {"difference": float(f"{apart:.1g}"), "agrees": apart <= TOLERANCE}
            ready[name] = runtime.call
        except Exception as error:
            told[name] = {"error": reason(error)}
    measured = in_turns(work, ready, batches, repeats)
    eager = measured["eager"]
    for name, figures in measured.items():
        best, eager_best = (each["encode"][each["best_batch"]]["per_cpu_s"] for each in (figures, eager))
        told[name] |= figures | {
            "times_eager_network": round(figures["network"]["per_cpu_s"] / eager["network"]["per_cpu_s"], 2),
            "times_eager_encode": round(best / eager_best, 2),
        }
    return told


def on_gpu(modality: str, work: Load) -> dict[str, Any]:
    """Items a second of ``encode`` on the GPU, and for which share of that time it computes."""
    if not torch.cuda.is_available():
        return {"error": "no GPU"}
    samples = list(islice(cycle(work.samples), _GPU_BATCH))
    own = Load(load_encoder(modality, device="cuda"), [], samples)
    run = partial(own.encode, _GPU_BATCH)
    wall_s = statistics.median(wall for _, wall in times(run, 5))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
    kernels = [e for e in profiled.key_averages() if e.device_type.name == "CUDA"]
    computing_s = sum(e.self_device_time_total for e in kernels if not e.key.startswith("Mem")) / 1e6
    return {
        "device": torch.cuda.get_device_name(),
        "batch": _GPU_BATCH,
        "per_wall_s": round(_GPU_BATCH / wall_s),
        "gpu_computes_share": round(computing_s / wall_s, 3),
    }


def aims(modality: str, bag: bool, encode_per_s: int, both_per_s: int) -> list[dict[str, Any]]:
    return [
        {
            "of": name,
            "per_s": AIMS[name],
            "encode_per_s": encode_per_s,
            "reached": encode_per_s >= AIMS[name],
            "reached_with_decode": both_per_s >= AIMS[name],
        }
        for name in ([modality, "bag"] if bag else [modality])
    ]


def measured(modality: str, found: Sequence[Any], quick: bool) -> dict[str, Any]:
    encoder = load_encoder(modality, device="cpu")
    work = load(encoder, found, ITEMS // 8 if quick else ITEMS)
    batches, repeats = ((1, 64), 1) if quick else (BATCHES, 3)
    n = len(work.samples)
    decode = rate(n, times(work.decode, repeats))
    ran = runtimes(work, batches, repeats, quick)
    eager = ran["eager"]
    encode, best = eager.pop("encode"), eager.pop("best_batch")
    encode_per_s = encode[best]["per_cpu_s"]
    both = rate(n, times(partial(work.both, best), repeats))
    architecture = encoder.config["architecture"]  # type: ignore[attr-defined]
    bag = architecture == "text-bag"
    text = modality == "text"
    sizes = [len(c.text) if isinstance(c, TextContent) else len(c) for c in work.contents]
    return {
        "architecture": architecture,
        **({"bag": "the shipped text encoder is the bag" if bag else "no bag is shipped"} if text else {}),
        "items": n,
        "distinct": min(n, len(found)),
        "mean_characters" if text else "mean_bytes": round(statistics.mean(sizes)),
        "decode": decode,
        "encode": encode,
        "best_batch": best,
        "decode_and_encode": both,
        "network_share_of_encode": round(encode_per_s / eager["network"]["per_cpu_s"], 2),
        "aims": aims(modality, bag, encode_per_s, both["per_cpu_s"]),
        "runtimes": ran,
        "gpu": on_gpu(modality, work),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*LOADERS, []], default=[], help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer items, batches and repeats")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    source, found = found_contents()
    report: dict[str, Any] = {
        "source": source,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # what was compiled before must not count
        for modality in args.which or LOADERS:
            print(f"bench_encoders: {modality} …", file=sys.stderr)
            report[modality] = measured(modality, found[modality], args.quick)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
