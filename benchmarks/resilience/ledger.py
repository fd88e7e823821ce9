"""What the clients of the kill campaign saw, and what the scheduler ran meanwhile."""

import contextlib
import subprocess
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from benchmarks.lab import Lab
from testbed.layout import TestbedError

LOOK = 5.0
"""Seconds between two looks at the scheduler's jobs; it shows ended ones for a minute."""


@dataclass
class Ledger:
    """One for all clients."""

    #: Sessions that a client was told of.
    told: set[str] = field(default_factory=set)
    #: Sessions whose client was told that they stop.
    stopped: set[str] = field(default_factory=set)
    #: Sessions that clients have and did not stop.
    held: set[str] = field(default_factory=set)
    launches: int = 0
    stops: int = 0
    requests_failed: int = 0
    #: Looks at routes that were answered by the right application, and by nobody.
    routes: Counter[str] = field(default_factory=Counter)
    lost: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    forgotten: dict[str, str] = field(default_factory=dict)

    def lose(self, session_id: str, why: str) -> None:
        """A session that its client has an id of and that is in no true state."""
        self.lost.setdefault(session_id, why)
        self.held.discard(session_id)


class JobLog:
    """Notes which ids each job name had; use it in a ``with`` block."""

    def __init__(self, site: Lab) -> None:
        self._site = site
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.ids: dict[str, set[str]] = defaultdict(set)
        self.longest_gap = 0.0

    def __enter__(self) -> "JobLog":
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Ask the scheduler once."""
        answer = self._site.site.call("squeue", "-h", "--states=all", "-o", "%i %j", timeout=20)
        for line in answer.splitlines():
            job_id, _, name = line.partition(" ")
            self.ids[name].add(job_id)

    def _run(self) -> None:
        before = time.monotonic()
        while not self._over.wait(LOOK):
            with contextlib.suppress(TestbedError, subprocess.TimeoutExpired):
                self.look()
                now = time.monotonic()
                self.longest_gap, before = max(self.longest_gap, now - before), now

    @property
    def doubled(self) -> dict[str, set[str]]:
        """Names that more than one job had."""
        return {name: ids for name, ids in self.ids.items() if len(ids) > 1}


def running(site: Lab) -> dict[str, str]:
    """Names of the jobs that have not ended, and their ids."""
    lines = site.site.call("squeue", "-h", "-o", "%j %i").splitlines()
    return dict(line.split(" ", 1) for line in lines)
