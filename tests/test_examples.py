"""The examples are true: each file loads, its templates are fine, and it says what it runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpcbridge.cli.main import app
from hpcbridge.config import file as configfile

EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*/hpcbridge.toml"))


def test_there_are_examples() -> None:
    names = {path.parent.name for path in EXAMPLES}
    assert {
        "one-machine",
        "slurm-ssh",
        "paraview",
        "paraview-mpi",
        "slurm-mpi",
        "apptainer",
        "gpu",
        "site",
        "pbs",
        "slurmrest",
        "gridengine",
        "two-clusters",
        "trame",
        "hosts",
    } <= names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_loads_and_its_templates_are_fine(path: Path) -> None:
    settings = configfile.load(path)
    for application in settings.applications.values():
        assert application.title
        assert application.description
    result = CliRunner().invoke(app, ["template", "check", str(path)])
    assert result.exit_code == 0, result.output
    assert result.output.count("is fine") == len(settings.applications)
