"""What was found, against what was aimed at: one table for a terminal or as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table

HEADINGS = ("", "found", "aim", "")


@dataclass(frozen=True)
class Outcome:
    """One line; ``kept`` None where nothing was aimed at."""

    what: str
    found: str
    aim: str = ""
    kept: bool | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """The columns as text."""
        verdict = {True: "kept", False: "MISSED", None: ""}[self.kept]
        return self.what, self.found, self.aim, verdict


@dataclass(frozen=True)
class Part:
    """The lines of one benchmark; ``missing`` says why there are none."""

    name: str
    how: str
    outcomes: list[Outcome] = field(default_factory=list)
    missing: str = ""
    #: What went wrong in words, one line each.
    notes: list[str] = field(default_factory=list)


def none_of(what: str, found: int) -> Outcome:
    """Something that must never happen."""
    return Outcome(what, str(found), "0", found == 0)


def below(what: str, seconds: float, aim: float) -> Outcome:
    """A time that should be below ``aim`` seconds."""
    return Outcome(what, _time(seconds), f"< {_time(aim)}", seconds < aim)


def told(what: str, seconds: float) -> Outcome:
    """A time that nothing is aimed at."""
    return Outcome(what, _time(seconds))


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def show(parts: Sequence[Part], machine: str) -> None:
    """Print the table for a person at a terminal."""
    table = Table(*HEADINGS, box=box.SIMPLE)
    for part in parts:
        table.add_row(f"[bold]{part.name}[/bold]")
        for outcome in part.outcomes:
            table.add_row(*outcome.cells())
        if part.missing:
            table.add_row(f"left out: {part.missing}")
        table.add_section()
    console = Console(width=110)
    console.print(table)
    for part in parts:
        console.print(f"{part.name}: {part.how}", highlight=False)
        for note in part.notes:
            console.print(f"  {note}", highlight=False, markup=False)
    console.print(machine, highlight=False)


def markdown(parts: Sequence[Part], machine: str) -> str:
    """The same for ``docs/benchmarks.md``."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- | ---: | ---: | --- |"]
    for part in parts:
        lines.append(f"| **{part.name}** | | | |")
        lines += ["| " + " | ".join(outcome.cells()) + " |" for outcome in part.outcomes]
        if part.missing:
            lines.append(f"| left out: {part.missing} | | | |")
    lines += ["", *(f"* `{part.name}`: {part.how}" for part in parts)]
    lines += [f"  * {note}" for part in parts for note in part.notes]
    return "\n".join([*lines, "", machine])
