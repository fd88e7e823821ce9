"""Files at the top of the repository agree with what they repeat."""

import re
import tomllib
from pathlib import Path

import hpcbridge

ROOT = Path(__file__).parents[1]


def test_the_commit_hooks_run_all_that_make_check_runs() -> None:
    rule = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule is not None
    commands = {line.strip().lstrip("@") for line in rule[1].splitlines()}
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = set(re.findall(r"^ +entry: (.*)$", config, re.MULTILINE))
    assert commands <= entries
    assert len(commands) >= 4


def test_a_citation_names_this_version_and_licence() -> None:
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {hpcbridge.__version__}" in lines
    assert f"version: {project['version']}" in lines
    assert f"license: {project['license']}" in lines
    assert f"  - name: {project['authors'][0]['name']}" in lines
