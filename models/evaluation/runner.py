"""The quality report: named steps, each computed once for equal inputs, into one JSON and one page.

A step's key is a hash over the budget, the files, weights and code it reads and the keys of the steps it
needs; its results lie in ``OUT/cache/<step>/<key>``. An interrupted run goes on where it was, trainings
from their last epoch where they can. A step whose files are not there is left out by name, and so is what
needs it; a step that fails is named with its error, and the others go on.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from features.errors import PortraitError, UsageError
from models import checkpoint
from models.evaluation.cache_keys import key_of
from models.evaluation.pool import processes, tell
from models.evaluation.report.targets import levels_of
from models.evaluation.step import FULL, QUICK, RESULT, Budget, Context, Progress, Step

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
    jobs: int = 1,
    progress: Progress = print,
) -> Outcome:
    """Run the steps (``only`` these and what they need) in ``jobs`` processes, and write ``report.json``,
    ``.html`` and ``.md``.

    Raises EvaluationError for a folder that is not there or an unknown step, PortraitError when a process
    of a step was killed.
    """
    data, out = Path(data_dir), Path(out_dir)
    if not data.is_dir():
        raise EvaluationError(f"evaluate: {data}: expected a folder of data, got none; check --data")
    from models.evaluation.plan import steps
    from models.evaluation.report.page import write_report

    budget = QUICK if quick else FULL
    plan = chosen(steps(data, budget), only)
    out.mkdir(parents=True, exist_ok=True)
    weights = Path(weights_dir or checkpoint.WEIGHTS_DIR)
    try:
        with processes(jobs, progress) as pool:
            outcome = run(plan, data, out, budget, weights, progress, pool, jobs)
    except BrokenExecutor as error:
        raise PortraitError(
            f"evaluate: expected {jobs} processes that compute steps, got one killed, perhaps for memory; "
            "run it again, with --jobs 1 if need be: it goes on where it was"
        ) from error
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
    plan: Sequence[Step],
    data: Path,
    out: Path,
    budget: Budget,
    weights: Path,
    progress: Progress,
    pool: Executor,
    jobs: int = 1,
    say: Progress = tell,
) -> Outcome:
    """Run steps in ``pool`` as soon as those they need are done; what was computed before is taken as it is.

    ``say`` is what steps tell through, in the pool's processes.
    """
    outcome, folders, keys = Outcome(), dict[str, Path](), dict[str, str]()
    clock = _Clock(plan, budget, jobs, progress)
    waiting, running = list(plan), dict[Future[str], Step]()
    while waiting or running:
        undone = {step.name for step in (*waiting, *running.values())}
        for step in [s for s in waiting if undone.isdisjoint(s.needs)]:
            waiting.remove(step)
            if reason := _missing(step, data, weights, outcome):
                outcome.left_out[step.name] = reason
                clock.ended(step, f"left out: {reason}")
                continue
            keys[step.name] = key_of(step, data, weights, budget, keys)
            folder = folders[step.name] = out / "cache" / step.name / keys[step.name]
            if (folder / RESULT).is_file():
                _take(step, folder, outcome)
                clock.ended(step)
            else:
                context = Context(data, budget, folder, dict(folders), say, weights)
                running[pool.submit(compute, step, context)] = step
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            step = running.pop(future)
            if error := future.result():
                outcome.failed[step.name] = error
                clock.ended(step, f"failed: {error}")
            else:
                _take(step, folders[step.name], outcome)
                clock.ended(step, f"{outcome.seconds[step.name][0]:.0f} s", outcome.seconds[step.name][0])
    return outcome


def _take(step: Step, folder: Path, outcome: Outcome) -> None:
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    outcome.done[step.name] = result
    outcome.seconds[step.name] = (result["seconds"], result["processor_seconds"])


def _told_of(error: Exception) -> str:
    """An error that was foreseen in its own words, another one with its class and place."""
    if isinstance(error, PortraitError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def compute(step: Step, context: Context) -> str:
    """Write what the step finds to its folder; returns what went wrong, if anything did."""
    context.say(f"{step.name}: about {_minutes(step.seconds * context.budget.pace)} of one core")
    context.folder.mkdir(parents=True, exist_ok=True)
    start, start_cpu = time.monotonic(), time.process_time()
    torch.manual_seed(0)
    try:
        section = step.run(context)
    except Exception as error:
        return _told_of(error)
    seconds, cpu = time.monotonic() - start, time.process_time() - start_cpu
    result = section.to_json() | {"seconds": round(seconds, 1), "processor_seconds": round(cpu, 1)}
    part = context.folder / f"{RESULT}.part"
    part.write_text(json.dumps(result, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    part.replace(context.folder / RESULT)  # last: what is there was computed to its end
    return ""


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
    """Tells what ended and what is left: the steps' own estimates, scaled by how this machine did so far."""

    def __init__(self, plan: Sequence[Step], budget: Budget, jobs: int, progress: Progress) -> None:
        self._left = {step.name: step.seconds * budget.pace for step in plan}
        self._steps, self._jobs, self._progress = len(plan), jobs, progress
        self._expected, self._took = 60.0, 60.0  # one step's deviation alone must not throw the estimate
        total_s = sum(self._left.values()) / jobs
        progress(f"{len(plan)} steps, about {_minutes(total_s)} if none was computed before")

    def ended(self, step: Step, how: str = "", took_s: float = 0.0) -> None:
        """A step needs no more time."""
        expected = self._left.pop(step.name)
        if took_s:
            self._expected, self._took = self._expected + expected, self._took + took_s
        if how:
            left_s = sum(self._left.values()) * self._took / self._expected / self._jobs
            place = f"{self._steps - len(self._left)} of {self._steps}"
            self._progress(f"{step.name} ({place}): {how}; {_minutes(left_s)} left in all")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


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
    from models.evaluation.plan import steps

    return [step.name for step in steps(Path(data_dir), QUICK if quick else FULL)]
