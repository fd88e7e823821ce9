"""Submit, query and cancel through each adapter, against the bare command or REST call."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import ways
from benchmarks.figures import Run, Unavailable, interleave, paired_ratio, spread
from benchmarks.table import Row, Section
from benchmarks.ways import OPERATIONS, Way

NAME = "adapters"
HOW = (
    "one job that is held, so that it never starts, is submitted, looked up and cancelled: by the "
    "adapter, and by the same command lines (or HTTP requests) without hpcbridge, in turn. "
    "'more' is the difference of a pair; the aim is 5 ms local, and over SSH one round trip, which "
    "the peer has as well: it is `ssh` through OpenSSH's ControlMaster. 'local' commands enter the "
    "test machine's namespaces on both sides. 'query of 1,000' is one listing of 1,000 waiting "
    "jobs with its size, and the part of it that is reading the answer. PBS is the fake of the "
    "tests, whose commands are Python."
)


def measure(runs: int, folder: Path) -> Section:
    """All adapters whose batch system can be had here."""
    logging.getLogger("hpcbridge").setLevel(logging.ERROR)  # slurmrestd says that jobs are held
    rows: list[Row] = []
    missing: list[str] = []
    with asyncio.Runner() as runner:
        for opened in (ways.slurm, ways.gridengine, ways.pbs):
            place = folder / opened.__name__
            place.mkdir()
            try:
                rows += _measured(opened, place, runner, runs)
            except Unavailable as error:
                missing.append(str(error))
    return Section(NAME, HOW, runs, rows, "; ".join(missing))


def _measured(
    opened: Callable[[Path], contextlib.AbstractContextManager[list[Way]]],
    folder: Path,
    runner: asyncio.Runner,
    runs: int,
) -> Iterator[Row]:
    with opened(folder) as found:
        for way in found:
            yield from _operations(way, runner, runs)
        for way in found:
            yield from _crowd(way, runner, runs)
        for way in found:
            runner.run(way.close())


def _operations(way: Way, runner: asyncio.Runner, runs: int) -> Iterator[Row]:
    taken = interleave(
        runs,
        {"ours": lambda: runner.run(way.ours()), "bare": lambda: runner.run(way.bare())},
    )
    for operation in OPERATIONS:
        ours, bare = ([Run(run.parts[operation]) for run in taken[key]] for key in ("ours", "bare"))
        pairs = zip(ours, bare, strict=True)
        count = len(way.sent[operation])
        yield Row(
            f"{way.name}: {operation}" + (f" ({count} questions)" if count != 1 else ""),
            spread([run.total for run in ours]),
            paired_ratio(ours, bare),
        )
        yield Row("bare", spread([run.total for run in bare]), indent=True)
        yield Row("more", spread([a.total - b.total for a, b in pairs]), indent=True)


def _crowd(way: Way, runner: asyncio.Runner, runs: int) -> Iterator[Row]:
    way.fill()
    taken = [runner.run(way.query()) for _ in range(runs + 1)][1:]
    name = f"{way.name}: query of 1,000 ({way.size / 1000:.0f} kB)"
    yield Row(name, spread([run.total for run in taken]))
    yield Row("reading it", spread([run.parts["reading it"] for run in taken]), indent=True)
