"""scripts/imports.py: floors from real imports, circles that are told, pictures that are stale."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts import imports

Make = Callable[[dict[str, str]], Path]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Writes the package ``made``, given as files and what is in them; returns where it lies."""

    def write(files: dict[str, str]) -> Path:
        (tmp_path / "docs").mkdir(exist_ok=True)
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / "made" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


PACKAGE = {
    "__main__.py": "import made.web\n",
    "web.py": "from made.store import rows\nfrom made import network\n",
    "store/__init__.py": "from .rows import one\n",
    "store/rows.py": "from ..errors import Wrong\n\none = Wrong\n",
    "network.py": "import socket\n",
    "errors.py": "class Wrong(Exception): ...\n",
    "apps/shown.py": "import made.web\n",
}


def run(root: Path, *words: str) -> int:
    return imports.main(["--root", str(root), "--package", "made", *words])


def test_a_room_stands_on_the_longest_chain_below_it(made: Make) -> None:
    found = imports.read(made(PACKAGE), "made")
    assert imports.floors(found.uses) == [["apps", "errors", "network"], ["store"], ["web"]]
    assert found.files == {"apps": 1, "errors": 1, "network": 1, "store": 2, "web": 1}


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    from made.store import rows\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.store import rows\n",
    ],
    ids=["in a function", "for types"],
)
def test_an_import_that_hides_counts(made: Make, text: str) -> None:
    found = imports.read(made({**PACKAGE, "network.py": text}), "made")
    assert imports.floors(found.uses) == [["apps", "errors"], ["store"], ["network"], ["web"]]


def test_the_table_has_the_rooms_with_their_files_and_imports(
    made: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(made(PACKAGE)) == 0
    lines = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["3", "web", "1", "network, store"],
        ["2", "store", "2", "errors"],
        ["1", "apps", "1", "-"],
        ["1", "errors", "1", "-"],
        ["1", "network", "1", "-"],
    ]


def test_the_picture_has_the_rooms_and_the_lines_to_the_next_floor(made: Make) -> None:
    root = made(PACKAGE)
    run(root)
    svg = ElementTree.parse(root / "docs/imports.svg").getroot()
    kinds: dict[str, list[str]] = {}
    for element in svg.iter():
        kinds.setdefault(element.get("class", ""), []).append(element.text or "")
    assert sorted(kinds["name"]) == ["apps/", "errors.py", "network.py", "store/", "web.py"]
    assert {"floor 1", "floor 2", "floor 3", "2 files", "1 file"} < set(kinds["note"])
    assert len(kinds["use"]) == 2, "web to store, store to errors; network is further down than web"


def test_many_rooms_of_one_floor_stand_inside_the_picture(made: Make) -> None:
    names = [f"a_module_with_a_long_name_{number}" for number in range(20)]
    root = made({f"{name}.py": "" for name in names})
    run(root)
    svg = ElementTree.parse(root / "docs/imports.svg").getroot()
    height = int(svg.get("height", ""))
    boxes = [
        [int(box.get(key, "")) for key in ("x", "y", "width", "height")]
        for box in svg.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("class") == "box"
    ]
    assert len(boxes) == len(names)
    for number, (x, y, wide, high) in enumerate(boxes):
        assert x > 0
        assert x + wide < 1200
        assert y + high < height
        for left, top, *_ in boxes[:number]:
            assert abs(left - x) >= wide or abs(top - y) >= high, "two boxes overlap"


def test_a_circle_is_told_with_its_lines_and_has_no_picture(
    made: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = "def late():\n    import made.web\n"
    web = "from made.store import rows\nfrom made.store import one\n"
    store = "from ..errors import Wrong\n\ndef late():\n    from ..errors import Other\n"
    files = {
        "web.py": web,
        "store/rows.py": store,
        "errors.py": errors,
        "more.py": "import made.web",
    }
    root = made({**PACKAGE, **files})
    for words in ([], ["--check"]):
        assert run(root, *words) == 1
        told = capsys.readouterr().err
        assert told.splitlines()[1:-1] == [
            "  web -> store -> errors -> web",
            "      made.errors, line 2: import made.web",
        ]
    assert not (root / "docs/imports.svg").exists()


def test_all_circles_are_told_at_once(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(
        {
            "a.py": "import made.b\nfrom made.b import x\n",
            "b.py": "import made.a\n",
            "c.py": "import made.d\nfrom made.d import x\n",
            "d.py": "import made.c\n",
        }
    )
    assert run(root) == 1
    told = capsys.readouterr().err
    assert "a -> b -> a\n      made.b, line 1: import made.a" in told
    assert "c -> d -> c\n      made.d, line 1: import made.c" in told


def test_a_picture_of_earlier_imports_is_found(
    made: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = made(PACKAGE)
    assert run(root, "--check") == 1, "there is none yet"
    run(root)
    assert run(root, "--check") == 0
    (root / "made/network.py").write_text("import made.errors\n")
    capsys.readouterr()
    before = (root / "docs/imports.svg").read_text()
    assert run(root, "--check") == 1
    assert "python -m scripts.imports" in capsys.readouterr().err
    assert (root / "docs/imports.svg").read_text() == before, "a check writes nothing"


def test_the_same_imports_give_the_same_picture(made: Make) -> None:
    root = made(PACKAGE)
    run(root)
    for seed in ("1", "2", "3"):
        words = ["--check", "--root", str(root), "--package", "made"]
        done = subprocess.run(
            [sys.executable, "-m", "scripts.imports", *words],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=imports.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
