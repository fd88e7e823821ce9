"""The command line of ``python -m benchmarks --resilience``."""

import argparse
import dataclasses
import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Unavailable
from benchmarks.machine import describe
from benchmarks.resilience import outcome
from benchmarks.resilience.outcome import Part
from benchmarks.resilience.plan import QUICK, Plan
from testbed.layout import TestbedError

MODULES = ("kills", "outage", "cuts", "restart", "replicas", "queries")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 when something is missing, or missed its aim."""
    plan = QUICK if arguments.quick else Plan()
    if arguments.kills is not None:
        plan = dataclasses.replace(plan, kills=arguments.kills)
    parts = [_measure(module, plan) for module in MODULES if arguments.only in (None, module)]
    if arguments.markdown:
        print(outcome.markdown(parts, describe()))
    else:
        outcome.show(parts, describe())
    missed = any(each.kept is False for part in parts for each in part.outcomes)
    return int(missed or any(part.missing for part in parts))


def _measure(module: str, plan: Plan) -> Part:
    print(f"measuring {module} ...", file=sys.stderr, flush=True)
    try:
        part = importlib.import_module(f"benchmarks.resilience.{module}")
        with tempfile.TemporaryDirectory(prefix="hpcb-bench-") as folder:
            found: Part = part.measure(plan, Path(folder))
            return found
    except (Unavailable, TestbedError, ImportError) as error:
        return Part(module, "not measured", missing=" ".join(str(error).split()))
