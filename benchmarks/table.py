"""The one table, for a terminal or as Markdown."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Run, Spread, parts_of, spread

HEADINGS = ("", "median ms", "p10", "p90", "of the peer (p10-p90)")


@dataclass(frozen=True)
class Row:
    """One line of figures; ``indent`` for a part of the line above it."""

    what: str
    spread: Spread
    ratio: Spread | None = None
    aim: float | None = None
    indent: bool = False

    def cells(self) -> tuple[str, ...]:
        """The columns as text."""
        figures = [f"{value * 1000:.1f}" for value in _values(self.spread)]
        return (("  " if self.indent else "") + self.what, *figures, self._ratio())

    def _ratio(self) -> str:
        if self.ratio is None:
            return ""
        median, low, high = _values(self.ratio)
        aim = f", aim {self.aim:g}" if self.aim is not None else ""
        return f"{median:.3f} ({low:.3f}-{high:.3f}{aim})"


@dataclass(frozen=True)
class Section:
    """The lines of one benchmark; ``missing`` says why there are none."""

    name: str
    how: str
    runs: int = 0
    rows: list[Row] = field(default_factory=list)
    missing: str = ""

    @property
    def title(self) -> str:
        """The name, and how often it was measured."""
        return f"{self.name} ({self.runs} runs each)" if self.runs else self.name


def total_and_parts(
    what: str, runs: Sequence[Run], ratio: Spread | None = None, aim: float | None = None
) -> list[Row]:
    """A line for the whole, and one for each of its parts."""
    rows = [Row(what, spread([run.total for run in runs]), ratio, aim)]
    return rows + [Row(name, each, indent=True) for name, each in parts_of(runs).items()]


def show(sections: Sequence[Section], machine: str) -> None:
    """Print the table for a person at a terminal."""
    table = Table(*HEADINGS[:1], box=box.SIMPLE)
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right")
    for section in sections:
        table.add_row(f"[bold]{section.title}[/bold]")
        for row in section.rows:
            table.add_row(*row.cells())
        if section.missing:
            table.add_row(f"  left out: {section.missing}")
        table.add_section()
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    for section in sections:
        console.print(f"{section.name}: {section.how}", highlight=False)
    console.print(machine, highlight=False)


def markdown(sections: Sequence[Section], machine: str) -> str:
    """The same for ``docs/benchmarks.md``."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- | ---: | ---: | ---: | ---: |"]
    for section in sections:
        lines.append(f"| **{section.title}** | | | | |")
        for row in section.rows:
            what, *others = row.cells()
            shown = what.replace("  ", "&nbsp;&nbsp;", 1) if row.indent else what
            lines.append("| " + " | ".join([shown, *others]) + " |")
        if section.missing:
            lines.append(f"| left out: {section.missing} | | | | |")
    lines += ["", *(f"* `{section.name}`: {section.how}" for section in sections), "", machine]
    return "\n".join(lines)


def _values(each: Spread) -> tuple[float, float, float]:
    return each.median, each.p10, each.p90
