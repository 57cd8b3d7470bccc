"""What ``--setup_file ./setup.py`` would stage for workers: unpacked, it imports and works on its own."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.stager import Stager

from tests.support.folders import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

USE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import features, models, pipelines
homes = {module.__file__.startswith(sys.argv[1]) for module in (features, models, pipelines)}
assert homes == {True}, "the repository's own packages were found instead"
from features.taxonomy import load_taxonomy
from models.fusion import load_fusion
from pipelines.runners.streaming import step_names
from pipelines.kafka.streaming_source import ReadEvents
from pipelines.operations.init import TEMPLATE
print(len(load_taxonomy(None).categories), load_fusion(None, "learned").fingerprint[:4], TEMPLATE.is_file())
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that Beam's stager makes of the project, unpacked."""
    home = tmp_path_factory.mktemp("staging")
    source = home / "source"
    for package in ("features", "models", "pipelines"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    options = PipelineOptions([f"--setup_file={source / 'setup.py'}"])
    staged = Stager.create_job_resources(options, str(home))
    paths = [
        Path(beam_runner_api_pb2.ArtifactFilePayload.FromString(artifact.type_payload).path)
        for artifact in staged
    ]
    (archive,) = (path for path in paths if path.name.endswith(".tar.gz"))
    shutil.rmtree(source)
    with tarfile.open(archive) as tar:
        tar.extractall(home / "unpacked", filter="data")
    (folder,) = (home / "unpacked").iterdir()
    return folder


def test_it_carries_the_packages_with_their_weights_and_files(unpacked: Path) -> None:
    for file in ("models/weights/text.safetensors", "features/taxonomy.yaml", "pipelines/portrait.yaml"):
        assert (unpacked / file).read_bytes() == (ROOT / file).read_bytes()


def test_it_works_where_only_the_dependencies_are_installed(unpacked: Path) -> None:
    # -I -S: no folder of this repository, no .pth file that leads to it
    command = [sys.executable, "-I", "-S", "-c", USE, str(unpacked), site.getsitepackages()[0]]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, cwd=unpacked.parent
    )
    assert done.returncode == 0, done.stderr
    categories, _, template = done.stdout.split()
    assert (int(categories) > 10, template) == (True, "True")
