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


def test_every_decision_is_in_the_list_with_its_title_and_date() -> None:
    folder = ROOT / "docs/decisions"
    rows = re.findall(
        r"^\| \[(\d{4})\]\((.*)\) \| (.*) \| (\S+) \|$",
        (folder / "README.md").read_text(),
        re.MULTILINE,
    )
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [path.name for path in records] == [name for _, name, _, _ in rows]
    for place, (path, (number, name, title, date)) in enumerate(zip(records, rows, strict=True), 1):
        lines = path.read_text().splitlines()
        assert place == int(number) == int(name[:4])
        assert lines[0] == f"# {place}. {title}"
        assert lines[2].startswith(f"{date}, ")
        assert {"## What", "## Why"} < set(lines)


def test_links_between_decisions_and_other_pages_lead_somewhere() -> None:
    for page in [*(ROOT / "docs/decisions").glob("*.md"), ROOT / "SECURITY.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith(("http", "NNNN")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
