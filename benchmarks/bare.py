"""The peer without hpcbridge: ``ssh head sbatch``, then watching the job's output over ssh."""

import contextlib
import subprocess
import time
from pathlib import Path

from benchmarks.figures import Run, Unavailable
from benchmarks.lab import Lab
from benchmarks.waiting import until

WATCH = """timeout 60 sh -c 'until grep -qs "Starting factory" "$0"; do sleep 0.05; done' """
"""What runs on the head: a look every 50 ms, as often as hpcbridge looks."""


class BareSSH:
    """One kept connection (OpenSSH's ControlMaster); use it in a ``with`` block."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        folder.mkdir(parents=True)
        self._lab = lab
        options = ("ControlMaster=auto", f"ControlPath={folder}/ssh", "ControlPersist=120")
        self._ssh = ["ssh", "-F", str(lab.site.ssh_config)]
        self._ssh += [word for option in options for word in ("-o", option)]

    def __enter__(self) -> "BareSSH":
        # Whatever holds the pipes would be waited for, and the master stays.
        subprocess.run(
            [*self._ssh, self._lab.site.head, "true"],
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*self._ssh, "-O", "exit", self._lab.site.head], capture_output=True, timeout=10
            )

    def _head(self, command: str, text: str | None = None) -> str:
        done = subprocess.run(
            [*self._ssh, self._lab.site.head, command],
            input=text or "",
            capture_output=True,
            text=True,
            timeout=70,
        )
        if done.returncode:
            raise Unavailable(f"ssh head {command}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def measure(self) -> Run:
        """Submit, see the ready line, and end the job."""
        output = f"{self._lab.inside}/bare.out"
        script = (
            f"#!/bin/sh\n#SBATCH --partition=viz\n#SBATCH --output={output}\n"
            f"exec {self._lab.inside}/instant.pl --port 0\n"
        )
        began = time.time()
        job = self._head("sbatch --parsable", script)
        submitted = time.time()
        self._head(f"{WATCH} {output}")
        seen = time.time()
        written = (self._lab.folder / "bare.out").stat().st_mtime
        self._head(f"scancel {job}")
        until(lambda: job not in self._lab.site.jobs(), "the peer's job is gone", pause=0.1)
        (self._lab.folder / "bare.out").unlink()
        parts = {"submit": submitted - began, "queue and start": max(0.0, written - submitted)}
        parts["line seen"] = seen - max(written, submitted)
        return Run(seen - began, parts)
