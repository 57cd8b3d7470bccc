"""The engine of the report: nothing is computed twice, what is missing is named, failures stay alone."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from features.errors import PortraitError
from models.evaluation import runner
from models.evaluation.cache_keys import closure, code_digest, key_of
from models.evaluation.report.page import html_of, markdown_of, write_report
from models.evaluation.report.targets import levels_of
from models.evaluation.runner import EvaluationError, chosen, names_of, report_of, run
from models.evaluation.statistics import Estimate
from models.evaluation.step import QUICK, RESULT, Context, Section, Step, Table, plain


class Counting:
    """A step's work that counts how often it is done, and may fail or be interrupted."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls, self.error = 0, error
        self.__module__ = __name__

    def __call__(self, ctx: Context) -> Section:
        self.calls += 1
        if self.error is not None:
            raise self.error
        (ctx.folder / "left.txt").write_text("for later steps", encoding="utf-8")
        return Section(
            [Table("T", ["a", "b"], [["x", Estimate(0.5, 0.4, 0.6)]])], figures={"calls": self.calls}
        )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "one.parquet").write_bytes(b"one")
    return folder


Run = Callable[..., runner.Outcome]


@pytest.fixture
def go(tmp_path: Path, data: Path) -> Run:
    def go(*steps: Step, say: Callable[[str], None] = lambda _: None) -> runner.Outcome:
        with ThreadPoolExecutor(1) as pool:
            return run(steps, data, tmp_path / "out", QUICK, tmp_path / "weights", say, pool, say=say)

    return go


def test_a_step_that_was_computed_is_not_computed_again(go: Run) -> None:
    work = Counting()
    first = go(Step("a", "A", work, ("one.parquet",)))
    again = go(Step("a", "A", work, ("one.parquet",)))
    assert work.calls == 1
    assert again.done == first.done
    assert first.done["a"]["tables"][0]["rows"] == [["x", {"value": 0.5, "low": 0.4, "high": 0.6}]]


def test_other_bytes_in_a_file_make_a_step_and_what_needs_it_run_again(go: Run, data: Path) -> None:
    first, second, apart = Counting(), Counting(), Counting()
    steps = (
        Step("a", "A", first, ("one.parquet",)),
        Step("b", "B", second, needs=("a",)),
        Step("c", "C", apart),
    )
    go(*steps)
    (data / "one.parquet").write_bytes(b"two")
    go(*steps)
    assert (first.calls, second.calls, apart.calls) == (2, 2, 1)


def test_other_weights_and_another_budget_are_another_key(data: Path, tmp_path: Path) -> None:
    step, weights = Step("a", "A", Counting(), weights=("text",)), tmp_path / "weights"
    weights.mkdir()
    keys = set()
    for content in (b"1", b"22"):
        (weights / "text.safetensors").write_bytes(content)
        keys |= {key_of(step, data, weights, b, {}) for b in (QUICK, replace(QUICK, folds=3))}
    assert len(keys) == 4


def test_the_key_follows_code_through_its_imports_but_not_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {
        "models.training.voice.train",
        "models.voice.encoder",
        "models.voice.decode",
        "features.schema",
    } <= closure("models.training.voice.train")
    assert "models.training.text.train" not in closure("models.training.voice.train")
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for i, code in enumerate(('"""Doc."""\nx = 1', '"""Other."""\nx = 1  # said', "x = 2")):
        (tmp_path / f"portrait_test_module_{i}.py").write_text(code, encoding="utf-8")
        digests.append(code_digest(f"portrait_test_module_{i}"))
    assert digests[0] == digests[1] != digests[2]


def test_an_interrupted_run_goes_on_where_it_was(go: Run) -> None:
    first, second = Counting(), Counting(KeyboardInterrupt())
    steps = (Step("a", "A", first), Step("b", "B", second, needs=("a",)))
    with pytest.raises(KeyboardInterrupt):
        go(*steps)
    second.error = None
    outcome = go(*steps)
    assert (first.calls, second.calls) == (1, 2)
    assert list(outcome.done) == ["a", "b"]


def test_a_step_without_its_files_is_left_out_by_name_with_what_needs_it(go: Run) -> None:
    said: list[str] = []
    outcome = go(
        Step("a", "A", Counting(), ("gone.parquet",)),
        Step("b", "B", Counting(), needs=("a",)),
        Step("c", "C", Counting(), weights=("voice",)),
        Step("d", "D", Counting()),
        say=said.append,
    )
    assert list(outcome.done) == ["d"]
    assert outcome.left_out == {
        "a": "no gone.parquet in the data folder",
        "b": "needs a, which did not run",
        "c": "no weights voice.safetensors",
    }
    assert any("left out: no gone.parquet" in line for line in said)


def test_a_folder_whose_dataset_has_no_voices_leaves_their_steps_out_by_name(
    tmp_path: Path, go: Run, data: Path
) -> None:
    from models.evaluation.plan import steps

    (data / "dataset.yaml").write_text("text: []\nimage: []\nvoice: []\n", encoding="utf-8")
    outcome = go(*steps(data, QUICK))
    assert not outcome.done
    assert not outcome.failed
    for modality in ("text", "image", "voice"):
        assert (
            outcome.left_out[f"{modality}-baselines"]
            == f"no {modality} part of dataset.yaml in the data folder"
        )
    assert outcome.left_out["amazon"].startswith("no text_en_amazon_users.parquet in the data folder")


def test_a_step_that_fails_is_named_and_the_others_go_on(go: Run) -> None:
    broken = Counting(ValueError("expected 3 folds, got 2"))
    outcome = go(Step("a", "A", broken), Step("b", "B", Counting(), needs=("a",)), Step("c", "C", Counting()))
    assert list(outcome.failed) == ["a"]
    assert re.fullmatch(
        r"ValueError: expected 3 folds, got 2 \(test_runner.py, line \d+\)", outcome.failed["a"]
    )
    assert list(outcome.left_out) == ["b"]
    assert list(outcome.done) == ["c"]
    broken.error = None
    assert list(go(Step("a", "A", broken)).done) == ["a"]


def test_a_result_cut_short_is_not_taken_for_one(go: Run, tmp_path: Path) -> None:
    work = Counting()
    go(Step("a", "A", work))
    (result,) = (tmp_path / "out" / "cache" / "a").glob(f"*/{RESULT}")
    result.rename(result.with_name(f"{RESULT}.part"))
    go(Step("a", "A", work))
    assert work.calls == 2


def test_later_steps_read_what_earlier_ones_left(go: Run) -> None:
    seen: list[object] = []

    class Reading(Counting):
        def __call__(self, ctx: Context) -> Section:
            seen.append((ctx.folders["a"] / "left.txt").read_text(encoding="utf-8"))
            seen.append(json.loads((ctx.folders["a"] / RESULT).read_text(encoding="utf-8"))["figures"])
            return Section()

    go(Step("a", "A", Counting()), Step("b", "B", Reading(), needs=("a",)))
    assert seen == ["for later steps", {"calls": 1}]


def test_the_time_left_is_told_after_every_step(go: Run) -> None:
    said: list[str] = []
    steps = (Step("a", "A", Counting(), seconds=500), Step("b", "B", Counting(), needs=("a",), seconds=1000))
    go(*steps, say=said.append)
    assert said[0] == "2 steps, about 2 min if none was computed before"
    assert said[1::2] == ["a: about 40 s of one core", "b: about 80 s of one core"]
    assert re.fullmatch(r"a \(1 of 2\): \d+ s; \d+ s left in all", said[2])
    assert re.fullmatch(r"b \(2 of 2\): \d+ s; 0 s left in all", said[4])


def _elsewhere(ctx: Context) -> Section:
    ctx.say(f"{ctx.folders['a'].name if ctx.folders else 'nothing'} came before")
    return Section(figures={"process": os.getpid(), "threads": torch.get_num_threads()})


def _killed(_: Context) -> Section:
    os.kill(os.getpid(), signal.SIGKILL)
    return Section()


def test_steps_run_in_processes_of_one_thread_and_a_killed_one_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [Step("a", "A", _elsewhere), Step("b", "B", _elsewhere, needs=("a",))]
    monkeypatch.setattr("models.evaluation.plan.steps", lambda *_: plan)
    said: list[str] = []
    done = runner.evaluate(data, tmp_path / "out", jobs=2, progress=said.append).done
    assert {result["figures"]["threads"] for result in done.values()} == {1}
    assert os.getpid() not in {result["figures"]["process"] for result in done.values()}
    assert sum(line.endswith("came before") for line in said) == 2
    plan.append(Step("c", "C", _killed))
    with pytest.raises(PortraitError, match="got one killed, perhaps for memory; run it again"):
        runner.evaluate(data, tmp_path / "out", jobs=2, progress=said.append)


def test_only_takes_a_step_with_all_it_needs() -> None:
    plan = (
        Step("a", "A", Counting()),
        Step("b", "B", Counting(), needs=("a",)),
        Step("c", "C", Counting(), needs=("b",)),
        Step("d", "D", Counting()),
    )
    assert [s.name for s in chosen(plan, ["c"])] == ["a", "b", "c"]
    assert chosen(plan, []) == list(plan)
    with pytest.raises(EvaluationError, match=r"expected steps of .* got \['x'\]; correct --only"):
        chosen(plan, ["x"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="expected a folder of data, got none"):
        runner.evaluate(tmp_path / "none", tmp_path / "out")


def test_every_step_of_the_report_comes_after_those_it_needs(tmp_path: Path) -> None:
    from models.evaluation.plan import steps

    plan = steps(tmp_path, QUICK)
    names = [step.name for step in plan]
    assert len(set(names)) == len(names)
    assert names == names_of(tmp_path, quick=True)
    for place, step in enumerate(plan):
        assert set(step.needs) <= set(names[:place]), step.name


def test_the_page_and_its_markdown_hold_every_table_and_escape_what_they_show(
    tmp_path: Path, go: Run
) -> None:
    plot = {"kind": "lines", "title": "Curve", "x": "x", "y": "y", "lines": {"a": [(0.0, 1.0), (1.0, 0.5)]}}
    matrix = {"kind": "matrix", "title": "Matrix", "labels": ["p", "q"], "counts": [[3, 1], [0, 2]]}

    def work(_: Context) -> Section:
        rows = [["<b>|x", Estimate(0.5, 0.4, 0.6), None, 3]]
        return Section(
            [Table("Scores", ["name", "value", "none", "n"], rows, "A note.")], [plot, matrix], ["Said."]
        )

    plan = (Step("a", "Part A", work), Step("b", "B", Counting(), ("gone.parquet",)))
    report = report_of(plan, go(*plan), QUICK, ())
    write_report(report, tmp_path)
    page, text = html_of(report), markdown_of(report)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["quick"] is True
    assert "0.500 [0.400, 0.600]" in page
    assert "&lt;b&gt;|x" in page
    assert page.count("<svg") == 2
    assert "| <b>\\|x | 0.500 [0.400, 0.600] | – | 3 |" in text
    for part in ("Quick run", "no gone.parquet in the data folder", "Part A", "A note.", "Said."):
        assert part in page
        assert part in text


def test_levels_are_held_against_what_was_found_and_left_out_where_nothing_was() -> None:
    tests = {
        "mean pool": {"difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.001},
        "newest event": {"difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.2},
    }
    ndcg = {"value": 0.71, "low": 0.69, "high": 0.73}
    sections = [
        {"name": "users", "figures": {"fusion learned (prototypes)": ndcg, "paired": tests}},
        {"name": "space", "figures": {"worst direction": 0.6}},
        {"name": "text", "figures": {"shipped": {}}},
    ]
    assert [(row[0], row[3]) for row in levels_of(sections)] == [
        ("Precision@10 between modalities, worst direction", "not reached"),
        ("Joined users, next category, NDCG, out of fold", "reached"),
        ("users: NDCG above mean pool", "reached"),
        ("users: NDCG above newest event", "not reached"),
    ]


def test_numbers_that_are_none_become_null() -> None:
    assert plain({"a": float("nan"), "b": (1, 2.123456789), "c": Estimate(1.0, 0.5, 2.0)}) == {
        "a": None,
        "b": [1, 2.12346],
        "c": {"value": 1.0, "low": 0.5, "high": 2.0},
    }
