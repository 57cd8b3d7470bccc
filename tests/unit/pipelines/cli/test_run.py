"""What ``portrait run`` refuses before it does anything."""

from __future__ import annotations

from click.testing import CliRunner

from pipelines.cli.main import cli


def test_json_of_a_job_elsewhere_is_refused_with_the_command_that_has_it() -> None:
    done = CliRunner().invoke(cli, ["run", "--runner", "flink", "--json"])
    assert done.exit_code == 2
    assert "--runner flink: expected no --json with it, got one; portrait jobs --json" in done.output
