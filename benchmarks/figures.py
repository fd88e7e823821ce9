"""Runs, their medians, and the ratio of two things that were measured in turn."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


class Unavailable(Exception):
    """A part that cannot be measured here; the text says what is missing."""


@dataclass(frozen=True)
class Run:
    """One run: seconds in all, and the parts that they are the sum of."""

    total: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile."""

    median: float
    p10: float
    p90: float


def spread(values: Sequence[float]) -> Spread:
    """How ``values`` are spread; at least two are needed for the percentiles."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Spread(statistics.median(values), tenths[0], tenths[-1])


def paired_ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> Spread:
    """How the ratios of the pairs are spread; each pair was measured back to back."""
    return spread([a.total / b.total for a, b in zip(ours, theirs, strict=True)])


def ratio_to_median(ours: Sequence[Run], theirs: Sequence[Run]) -> Spread:
    """How ours are spread as shares of their median; for a peer of two very different speeds."""
    reference = statistics.median(run.total for run in theirs)
    return spread([run.total / reference for run in ours])


def parts_of(runs: Sequence[Run]) -> dict[str, Spread]:
    """The parts' spreads, in the order in which they happen."""
    return {name: spread([run.parts[name] for run in runs]) for name in runs[0].parts}


def interleave(
    count: int, sources: Mapping[str, Callable[[], Run]], *, period: float = 0
) -> dict[str, list[Run]]:
    """Each source once as a warm-up, then ``count`` rounds of all of them in turn.

    The order turns round after each round, so that none is always the first. Where something
    beyond both of two sources acts every ``period`` seconds only, the runs of one round begin at
    the same phase of it, and the rounds at phases spread evenly: what is waited for it is then the
    same on both sides.
    """
    names = list(sources)
    for name in names:
        sources[name]()
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(count):
        for name in names if number % 2 == 0 else reversed(names):
            if period:
                time.sleep((number / count * period - time.time()) % period)
            runs[name].append(sources[name]())
    return runs


def split(start: float, ends: dict[str, float]) -> dict[str, float]:
    """Cut the time from ``start`` at each part's end (epoch seconds).

    An end before that of the part in front counts as no time: the two overlapped.
    """
    parts, reached = {}, start
    for name, end in ends.items():
        parts[name] = max(0.0, end - reached)
        reached = max(reached, end)
    return parts
