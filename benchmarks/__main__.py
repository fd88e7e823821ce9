"""The command line: ``python -m benchmarks [--runs 20] [--only NAME] [--markdown]``.

With ``--resilience`` it is the other group: ``[--quick] [--kills 200] [--only NAME] [--markdown]``.
"""

import argparse
import importlib
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import table
from benchmarks.figures import Unavailable
from benchmarks.machine import describe
from benchmarks.resilience import command
from benchmarks.table import Section

MODULES = (
    "local_launch",
    "slurm_launch",
    "first_picture",
    "trame_page",
    "portal_viewer",
    "adapters",
    "identity",
    "warm_launch",
    "tunnel",
    "metrics",
    "listing",
    "front_ends",
)


def main() -> int:
    """Measure and print; exit status 1 when a part could not be measured."""
    arguments = _arguments()
    # So that what was brought up is taken down then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.resilience:
        return command.run(arguments)
    wanted = [name for name in MODULES if arguments.only in (None, _name(name))]
    sections = [_measure(name, arguments.runs) for name in wanted]
    if arguments.markdown:
        print(table.markdown(sections, describe()))
    else:
        table.show(sections, describe())
    return int(any(section.missing for section in sections))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [_name(each) for each in MODULES]
    parser.add_argument("--runs", type=int, default=20, help="runs of each thing (20)")
    parser.add_argument("--only", choices=[*names, *command.MODULES], help="one benchmark")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--resilience", action="store_true", help="crashes, outages, many sessions")
    parser.add_argument("--quick", action="store_true", help="--resilience in small")
    parser.add_argument("--kills", type=int, help="kills of --resilience (200)")
    arguments = parser.parse_args()
    if arguments.only and arguments.resilience != (arguments.only in command.MODULES):
        parser.error(f"--only {arguments.only} is of the other group (--resilience)")
    return arguments


def _name(module: str) -> str:
    return module.replace("_", "-")


def _measure(module: str, runs: int) -> Section:
    print(f"measuring {_name(module)} ...", file=sys.stderr, flush=True)
    try:
        part = importlib.import_module(f"benchmarks.{module}")
        with tempfile.TemporaryDirectory(prefix="hpcb-bench-") as folder:
            section: Section = part.measure(runs, Path(folder))
            return section
    except (Unavailable, ImportError) as error:
        return Section(_name(module), "not measured", missing=" ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(main())
