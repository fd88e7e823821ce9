"""What the figures were measured on; no names, no paths."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from testbed.daemons import PATH

COMMANDS = (
    ("Slurm", ["slurmd", "-V"]),
    ("OpenSSH", ["ssh", "-V"]),
    ("Chromium", ["chromium", "--version"]),
)


def describe() -> str:
    """One line: cores, memory, kernel, versions, and how busy the machine was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = re.match(r"[0-9.]+", platform.release())
    parts = [
        f"{os.cpu_count()} cores ({_processor()})",
        f"{memory:.0f} GiB",
        f"Linux {kernel[0] if kernel else '?'}",
        f"Python {platform.python_version()}",
        *(f"{name} {importlib.metadata.version(name)}" for name in ("hpcbridge", "wslink")),
        *(f"{name} {version}" for name, argv in COMMANDS if (version := _version(argv))),
        "load of the last minutes " + "/".join(f"{each:.1f}" for each in os.getloadavg()),
    ]
    return "Machine: " + ", ".join(parts) + "."


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(argv: list[str]) -> str:
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"[0-9]+\.[0-9][0-9A-Za-z.]*", done.stdout + done.stderr)
    return found[0] if found else ""
