"""The picture of the package's real imports, and the same as a table.

    python -m scripts.imports            writes docs/imports.svg and prints the table
    python -m scripts.imports --check    exits 1 where that file is not what the imports give

A room is what lies directly in the package: a module, or a folder with all that is in it. Its
floor is the longest chain of imports down from it: a room that imports no other is on floor 1.
So imports only go down, and a circle between rooms has no picture: it is told, and the exit
status is 1. Imports in functions and under ``TYPE_CHECKING`` count as all others do.

The package's own ``__init__`` and ``__main__`` are no rooms. A folder without ``__init__.py`` holds
programs that are run, not imported: it is drawn, and its imports are not read.
"""

import argparse
import sys
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import grimp

from scripts.importspicture import draw

ROOT = Path(__file__).resolve().parent.parent

Uses = Mapping[str, Mapping[str, list[str]]]
"""Room -> rooms that it imports -> the places where it does, as text."""


@dataclass(frozen=True)
class Package:
    """The rooms of a package: how many Python files each has, and which others it imports."""

    files: Mapping[str, int]
    uses: Uses
    folders: frozenset[str] = frozenset()

    def labels(self) -> dict[str, str]:
        """Each room's name as a listing of the package shows it."""
        return {room: f"{room}{'/' if room in self.folders else '.py'}" for room in self.files}

    def notes(self) -> dict[str, str]:
        """What stands below each name."""
        return {room: f"{n} files" if n > 1 else "1 file" for room, n in self.files.items()}


def read(root: Path, package: str) -> Package:
    """The rooms of a package that lies in ``root``. Nothing of it is run."""
    files, folders = {}, set()
    for path in sorted((root / package).iterdir()):
        if path.suffix == ".py" and not path.stem.startswith("__"):
            files[path.stem] = 1
        elif path.is_dir() and (count := len(list(path.rglob("*.py")))):
            files[path.name] = count
            folders.add(path.name)
    uses: dict[str, dict[str, list[str]]] = {room: defaultdict(list) for room in files}
    graph = _graph(root, package)
    for importer in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            room, below = _room(importer), _room(imported)
            if room in files and below in files and room != below:
                uses[room][below] += _places(graph, importer, imported)
    return Package(files, uses, frozenset(folders))


def _graph(root: Path, package: str) -> grimp.ImportGraph:
    sys.path.insert(0, str(root))
    try:
        return grimp.build_graph(package, cache_dir=None)
    finally:
        sys.path.remove(str(root))


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


def _places(graph: grimp.ImportGraph, importer: str, imported: str) -> list[str]:
    details = graph.get_import_details(importer=importer, imported=imported)
    return [f"{importer}, line {one['line_number']}: {one['line_contents']}" for one in details]


def floors(uses: Uses) -> list[list[str]]:
    """The rooms of each floor by name, the lowest floor first.

    Raises graphlib.CycleError where rooms import each other in a circle.
    """
    level: dict[str, int] = {}
    for room in TopologicalSorter(uses).static_order():
        level[room] = max((level[below] + 1 for below in uses[room]), default=0)
    count = max(level.values(), default=-1) + 1
    return [sorted(room for room in level if level[room] == floor) for floor in range(count)]


def circles(uses: Uses) -> list[list[str]]:
    """Circles between rooms, the short ones first; each begins and ends with the same room.

    The last step of each is the one that the fewest lines make: without these steps there is no
    circle left.
    """
    left = {room: dict(below) for room, below in uses.items()}
    found = []
    while circle := _shortest_circle(left):
        room, below = min(pairwise(circle), key=lambda step: len(left[step[0]][step[1]]))
        del left[room][below]
        start = circle.index(below)
        found.append([*circle[start:-1], *circle[:start], below])
    return found


def _shortest_circle(uses: Uses) -> list[str]:
    ways = [way for room in sorted(uses) if (way := _way_back(uses, room))]
    return min(ways, key=len, default=[])


def _way_back(uses: Uses, start: str) -> list[str]:
    """The shortest way by imports from a room to itself, or nothing."""
    ways, seen = deque([[start]]), set[str]()
    while ways:
        way = ways.popleft()
        for below in sorted(uses[way[-1]]):
            if below == start:
                return [*way, start]
            if below not in seen:
                seen.add(below)
                ways.append([*way, below])
    return []


def table(package: Package, levels: list[list[str]]) -> str:
    """A line for each room, the highest floor first: its files, and the rooms that it imports."""
    width = max(len(room) for room in package.files)
    lines = [f"floor  {'room':{width}}  files  imports"]
    for number in range(len(levels), 0, -1):
        for room in levels[number - 1]:
            names = ", ".join(sorted(package.uses[room])) or "-"
            lines.append(f"{number:5}  {room:{width}}  {package.files[room]:5}  {names}")
    return "\n".join(lines)


def complaint(uses: Uses) -> str:
    """What to read where there are circles: each, with the lines of its last step."""
    lines = ["Rooms import each other in a circle, so they have no floors:"]
    for circle in circles(uses):
        lines.append(f"  {' -> '.join(circle)}")
        lines += [f"      {place}" for place in uses[circle[-2]][circle[-1]]]
    lines.append("Turn the listed imports round: hand in what they fetch, or move it further down.")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.imports", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the package lies")
    parser.add_argument("--package", default="hpcbridge")
    parser.add_argument("--picture", type=Path, help="docs/imports.svg below the root by default")
    given = parser.parse_args(words)
    picture = given.picture or given.root / "docs/imports.svg"
    package = read(given.root, given.package)
    if circles(package.uses):
        print(complaint(package.uses), file=sys.stderr)
        return 1
    levels = floors(package.uses)
    drawn = draw(given.package, package.labels(), package.notes(), package.uses, levels)
    if not given.check:
        picture.write_text(drawn)
        print(table(package, levels))
    elif not picture.is_file() or picture.read_text() != drawn:
        print(
            f"{picture} is not what the imports of {given.package} give: "
            "run 'python -m scripts.imports' and commit it",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
