"""What ``portrait run`` refuses before anything heavy is loaded, and what a worker refuses to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click import UsageError

from features import errors
from features.errors import PortraitError
from pipelines.cli.clusters import refuse_others_options
from pipelines.kafka.streaming_source import Versions
from pipelines.runners.flink.jobs import run_attached
from pipelines.runners.flink.submit import JobPlan
from pipelines.settings import Settings


def test_a_mistyped_option_of_local_rounds_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--until-cought-up: expected an option of portrait run"):
        refuse_others_options("local", ("--until-cought-up",), until_caught_up=False, workers=1)


@pytest.mark.parametrize(("until_caught_up", "workers"), [(True, 1), (False, 2)])
def test_options_of_local_rounds_are_refused_elsewhere(until_caught_up: bool, workers: int) -> None:
    with pytest.raises(UsageError, match=r"--runner flink: expected none of --until-caught-up and --workers"):
        refuse_others_options("flink", ("--parallelism=2",), until_caught_up, workers)


def test_each_runner_takes_its_own_options() -> None:
    refuse_others_options("local", (), until_caught_up=True, workers=2)
    refuse_others_options("flink", ("--parallelism=2",), until_caught_up=False, workers=1)


def test_figures_are_served_by_a_run_that_stays() -> None:
    with pytest.raises(
        errors.UsageError, match=r"--metrics-port: expected a run that stays .*, got --detach"
    ):
        run_attached(Settings(), JobPlan("127.0.0.1:1"), detach=True, metrics_port=1, say=print)


def test_a_worker_of_another_version_names_both() -> None:
    Versions.here().check_here()
    with pytest.raises(PortraitError, match=r"worker: expected apache-beam 2\.0\.0, .* got apache-beam"):
        replace(Versions.here(), beam="2.0.0").check_here()
