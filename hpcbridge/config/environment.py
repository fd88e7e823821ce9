"""Variables ``HPCBRIDGE_...`` that are no settings: typing errors, but for a list of others."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from hpcbridge.config.keys import NAME, Key, all_keys
from hpcbridge.config.settings import Settings

PREFIX = "HPCBRIDGE_"

NOT_SETTINGS = frozenset(
    {
        # What job scripts have, from which somebody may run a command: docs/templates.md.
        "HPCBRIDGE_DIRECTORY",
        "HPCBRIDGE_GRACE",
        "HPCBRIDGE_JOB",
        "HPCBRIDGE_PORT",
        # The test cluster and the tests: CONTRIBUTING.md, docs/pbs.md.
        "HPCBRIDGE_NO_SKIPS",
        "HPCBRIDGE_TESTBED",
        "HPCBRIDGE_TESTBED_ROOT",
        "HPCBRIDGE_TEST_PBS",
        "HPCBRIDGE_TEST_PBS_COMMANDS",
        "HPCBRIDGE_TEST_PBS_CROWD",
        "HPCBRIDGE_TEST_PBS_DIRECTORY",
        "HPCBRIDGE_TEST_PBS_IDENTITY",
        "HPCBRIDGE_TEST_PBS_INTERVAL",
        "HPCBRIDGE_TEST_PBS_KNOWN_HOSTS",
        "HPCBRIDGE_TEST_PBS_OPTIONS",
        "HPCBRIDGE_TEST_PBS_PATIENCE",
        "HPCBRIDGE_TEST_PBS_QUEUE",
        "HPCBRIDGE_TEST_PBS_USER",
    }
)
"""Variables of this prefix that mean something else."""

# What Kubernetes sets in each container where a Service is called hpcbridge (enableServiceLinks).
_OF_KUBERNETES = re.compile(r"HPCBRIDGE_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def unknown(environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A sentence for each variable that sets nothing, and that nobody else uses.

    What is wrong below a section that there is, the settings tell themselves. Like these, this
    does not distinguish upper and lower case.
    """
    for given in sorted(environment):
        name = given.upper()
        if not name.startswith(PREFIX) or name in NOT_SETTINGS or _OF_KUBERNETES.fullmatch(name):
            continue
        section = name.removeprefix(PREFIX).partition("__")[0].lower()
        if section not in Settings.model_fields:
            yield f"The environment's {given}: there is no such setting.{_hint(name)}"


def _hint(name: str) -> str:
    plain = name.replace("_", "")
    found = [each for each in _variables() if each.replace("_", "") == plain]
    close = found or difflib.get_close_matches(name, _variables(), n=1, cutoff=0.75)
    return f" Did you mean {close[0]}?" if close else " 'hpcbridge config explain' lists them."


def _variables() -> list[str]:
    """Those that have no name of the admin's in them."""
    named: list[Key] = [key for key in all_keys() if NAME not in key.path]
    return [key.variable for key in named if key.variable]
