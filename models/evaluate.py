"""The quality report: named steps, each computed once for equal inputs, into one JSON and one page.

A step's key is a hash over the budget, the files, weights and code it reads and the keys of the steps it
needs; its results lie in ``OUT/cache/<step>/<key>``. An interrupted run goes on where it was, trainings
from their last epoch where they can. A step whose files are not there is left out by name, and so is what
needs it; a step that fails is named with its error, and the others go on.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from features.errors import PortraitError, UsageError
from models import checkpoint
from models.evaluate_keys import key_of
from models.evaluate_step import FULL, QUICK, RESULT, Budget, Context, Progress, Step
from models.report_levels import levels_of

REPORT_VERSION: Final = 1


class EvaluationError(UsageError):
    """What cannot be evaluated as asked."""


@dataclass
class Outcome:
    """What came of each step: in ``done``, or with a reason in ``left_out`` or ``failed``."""

    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    """On the clock and of the processor, of those computed in this or an earlier run."""


def evaluate(
    data_dir: str | Path,
    out_dir: str | Path,
    quick: bool = False,
    only: Sequence[str] = (),
    weights_dir: str | Path | None = None,
    threads: int = 1,
    progress: Progress = print,
) -> Outcome:
    """Run the steps (``only`` these and what they need), write ``report.json``, ``.html`` and ``.md``.

    Raises EvaluationError for a folder that is not there or an unknown step.
    """
    data, out = Path(data_dir), Path(out_dir)
    if not data.is_dir():
        raise EvaluationError(f"evaluate: {data}: expected a folder of data, got none; check --data")
    from models.evaluate_plan import steps
    from models.report_page import write_report

    budget = QUICK if quick else FULL
    plan = chosen(steps(data, budget), only)
    out.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        outcome = run(plan, data, out, budget, Path(weights_dir or checkpoint.WEIGHTS_DIR), progress)
    finally:
        torch.set_num_threads(before)
    report = report_of(plan, outcome, budget, only)
    write_report(report, out)
    progress(f"evaluate: wrote {out / 'report.json'}, report.html and report.md")
    return outcome


def chosen(plan: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """The steps named, and all that they need. Raises EvaluationError for an unknown name."""
    by_name = {step.name: step for step in plan}
    if unknown := [name for name in only if name not in by_name]:
        raise EvaluationError(f"evaluate: expected steps of {sorted(by_name)}, got {unknown}; correct --only")
    wanted, queue = set(), list(only or by_name)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += by_name[name].needs
    return [step for step in plan if step.name in wanted]


def run(
    plan: Sequence[Step], data: Path, out: Path, budget: Budget, weights: Path, progress: Progress
) -> Outcome:
    """Run steps in their order, taking those from the cache whose key was computed before."""
    outcome, folders, keys = Outcome(), dict[str, Path](), dict[str, str]()
    clock = _Clock(plan, out, budget)
    with _told(progress):
        for place, step in enumerate(plan, 1):
            where = f"{step.name} ({place} of {len(plan)})"
            if reason := _missing(step, data, weights, outcome):
                outcome.left_out[step.name] = reason
                progress(f"{where}: left out: {reason}")
                clock.skip(step)
                continue
            keys[step.name] = key_of(step, data, weights, budget, keys)
            folder = out / "cache" / step.name / keys[step.name]
            folders[step.name] = folder
            if not (folder / RESULT).is_file():
                progress(f"{where}: {clock.left(step)}")
                context = Context(data, budget, folder, dict(folders), progress, weights)
                try:
                    _compute(step, context, clock)
                except Exception as error:
                    outcome.failed[step.name] = _told_of(error)
                    progress(f"{where}: failed: {outcome.failed[step.name]}")
                    clock.skip(step)
                    continue
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            outcome.done[step.name] = result
            outcome.seconds[step.name] = (result["seconds"], result["processor_seconds"])
            clock.skip(step)
    return outcome


def _told_of(error: Exception) -> str:
    """An error that was foreseen in its own words, another one with its class and place."""
    if isinstance(error, PortraitError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def _compute(step: Step, context: Context, clock: _Clock) -> None:
    context.folder.mkdir(parents=True, exist_ok=True)
    start, start_cpu = time.monotonic(), time.process_time()
    torch.manual_seed(0)
    section = step.run(context)
    seconds, cpu = time.monotonic() - start, time.process_time() - start_cpu
    result = section.to_json() | {"seconds": round(seconds, 1), "processor_seconds": round(cpu, 1)}
    part = context.folder / f"{RESULT}.part"
    part.write_text(json.dumps(result, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    part.replace(context.folder / RESULT)  # last: what is there was computed to its end
    clock.measured(step, seconds)


def _missing(step: Step, data: Path, weights: Path, outcome: Outcome) -> str:
    files = [name for name in step.files if not (data / name).is_file()]
    models = [
        f"{name}.safetensors" for name in step.weights if not (weights / f"{name}.safetensors").is_file()
    ]
    needs = [name for name in step.needs if name not in outcome.done]
    parts = [
        f"no {', '.join(files)} in the data folder" if files else "",
        f"no weights {', '.join(models)}" if models else "",
        f"needs {', '.join(needs)}, which did not run" if needs else "",
    ]
    return "; ".join(part for part in parts if part)


class _Clock:
    """What is left: the steps' own estimates, scaled by how this machine did so far."""

    def __init__(self, plan: Sequence[Step], out: Path, budget: Budget) -> None:
        self._left = {step.name: step.seconds * budget.pace for step in plan}
        self._expected, self._took = 60.0, 60.0  # one step's deviation alone must not throw the estimate

    def left(self, step: Step) -> str:
        """About how long the step takes, and all that are left."""
        pace = self._took / self._expected
        mine, all_s = self._left[step.name] * pace, sum(self._left.values()) * pace
        return f"about {_minutes(mine)}, {_minutes(all_s)} left in all"

    def measured(self, step: Step, seconds: float) -> None:
        """A step was computed."""
        self._expected += self._left.get(step.name, 0.0)
        self._took += seconds

    def skip(self, step: Step) -> None:
        """A step needs no more time."""
        self._left.pop(step.name, None)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Hands what training logs to the progress of the command."""

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress(record.getMessage())

    handler, logger = Told(logging.INFO), logging.getLogger("models")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def report_of(plan: Sequence[Step], outcome: Outcome, budget: Budget, only: Sequence[str]) -> dict[str, Any]:
    """The whole report as JSON: what was run, what was not, and every section."""
    sections = [
        {"name": step.name, "title": step.title} | outcome.done[step.name]
        for step in plan
        if step.shown and step.name in outcome.done
    ]
    return {
        "version": REPORT_VERSION,
        "budget": {name: getattr(budget, name) for name in budget.__dataclass_fields__},
        "quick": budget.name == QUICK.name,
        "only": list(only),
        "left_out": outcome.left_out,
        "failed": outcome.failed,
        "seconds": {name: both[0] for name, both in outcome.seconds.items()},
        "processor_seconds": {name: both[1] for name, both in outcome.seconds.items()},
        "levels": levels_of(sections),
        "sections": sections,
    }


def names_of(data_dir: str | Path, quick: bool) -> list[str]:
    """Names of all steps, in their order."""
    from models.evaluate_plan import steps

    return [step.name for step in steps(Path(data_dir), QUICK if quick else FULL)]
