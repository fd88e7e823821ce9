"""What ShellCheck says of a rendered script, where it is installed: https://www.shellcheck.net/wiki."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcbridge.jobscripts.review.origin import Origin
from hpcbridge.jobscripts.rules import Problem, Severity

_SECONDS = 20.0
# Of a rendered script these are no mistakes: variables for programs that only the site knows, and
# files that are on the nodes.
_NOT = "SC1090,SC1091,SC2034"


def program() -> str | None:
    """ShellCheck on the PATH, or that of the extra "check" beside this Python."""
    beside = Path(sys.executable).parent / "shellcheck"
    return shutil.which("shellcheck") or (str(beside) if beside.is_file() else None)


def judge(script: str, origin: Origin) -> Iterator[Problem]:
    """Its errors and warnings about lines of the site's own templates, all as warnings.

    Nothing where it is not installed or cannot be run. Takes some tenths of a second.
    """
    found = program()
    if found is None:
        return
    command = [found, "--shell=bash", "--severity=warning", "--format=json", f"--exclude={_NOT}"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; the script is only read
            [*command, "-"], input=script.encode(), capture_output=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
        told: list[dict[str, Any]] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return
    for each in told:
        line = origin.line(each["line"])
        if line is not None and not line.builtin:
            message = f"ShellCheck says: {str(each['message']).rstrip('.')} (SC{each['code']})."
            yield Problem(line.number, message, Severity.WARNING, line.template)
