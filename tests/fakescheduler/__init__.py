"""A Slurm of one program for faults that the real one cannot be made to produce."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.processes import marked
from tests.programs import PYTHON

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
REAL = Path(__file__).with_name("fake.py")


class FakeSlurm:
    """The commands in ``bin`` and all that they know; ``fake.py`` tells what faults there are."""

    def __init__(self, root: Path, *, node: str = "localhost") -> None:
        self.root = root
        self.bin = root / "bin"
        for directory in (self.bin, root / "spool"):
            directory.mkdir(parents=True)
        program = root / "fake.py"
        program.write_text(f"#!{PYTHON} -SE\n{REAL.read_text()}")
        program.chmod(0o755)
        for name in COMMANDS:
            (self.bin / name).symlink_to(program)
        self._write("faults.json", {})
        empty: dict[str, Any] = {"jobs": {}, "seen": {}, "calls": {}, "cancelled": [], "names": []}
        settings = {"next": 1, "accepted": 0, "hold": False, "node": node, "accounting": True}
        settings["estimate"] = "N/A"
        self._write("state.json", empty | settings)

    # -- what goes wrong

    def spoil(self, **faults: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Replace all faults: ``spoil(sbatch={"after": 60})``; without arguments, none is left."""
        with self.state() as state:
            state["seen"] = {}
            lists = {k: v if isinstance(v, list) else [v] for k, v in faults.items()}
            self._write("faults.json", lists)

    def spoil_all(self, **fault: Any) -> None:
        """The same fault for every command."""
        self.spoil(**dict.fromkeys(COMMANDS, fault))

    def hold(self, held: bool = True, *, estimate: str = "N/A") -> None:
        """Whether jobs wait instead of starting; ``estimate`` is when they are said to start."""
        with self.state() as state:
            state.update(hold=held, estimate=estimate)

    def end(self, job_id: str, word: str, status: str = "0:0") -> None:
        """The job ends like this, with all its processes."""
        with self.state() as state:
            job = state["jobs"][job_id]
            job.update(state=word, exit=status)
            self._kill(job)

    def forget_everything(self) -> None:
        """The controller starts anew, with no jobs and the first id."""
        with self.state() as state:
            for job in state["jobs"].values():
                self._kill(job)
            state.update(jobs={}, next=1)

    def add(self, name: str) -> str:
        """A job of this account that is not ours, and that stays."""
        return self.add_all([name])[0]

    def add_all(self, names: Sequence[str]) -> list[str]:
        """Such jobs, at once."""
        with self.state() as state:
            first = state["next"]
            state["next"] += len(names)
            for number, name in enumerate(names, first):
                state["jobs"][str(number)] = {
                    "id": str(number), "name": name, "state": "PENDING", "reason": "JobHeldUser",
                    "host": "n/a", "exit": "0:0", "keeper": None, "ticks": None, "cookie": name,
                    "script": "job.sh",
                }  # fmt: skip
            state["hold"] = True
        return [str(number) for number in range(first, first + len(names))]

    # -- what there is

    @contextlib.contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        """What the commands know, while none of them runs; changes are kept."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads((self.root / "state.json").read_text())
            yield state
            self._write("state.json", state)

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by their ids."""
        with self.state() as state:
            return dict(state["jobs"])

    @property
    def names(self) -> list[str]:
        """The names of all jobs that were ever accepted, in that order."""
        with self.state() as state:
            return list(state["names"])

    @property
    def living(self) -> list[str]:
        """Ids of jobs that wait or run."""
        active = ("PENDING", "RUNNING")
        return [job_id for job_id, job in self.jobs.items() if job["state"] in active]

    def state_of(self, key: str) -> Any:
        """One thing that the commands know."""
        with self.state() as state:
            return state[key]

    def calls(self, command: str) -> int:
        """How often a command was called so far."""
        with self.state() as state:
            return int(state["calls"].get(command, 0))

    def processes(self) -> list[int]:
        """Processes of jobs that are there, whatever became of the job."""
        return marked(f"FAKE_JOB={self.root}/")

    def close(self) -> None:
        """End what is left of jobs and of commands that hang."""
        self.forget_everything()
        deadline = time.monotonic() + 60
        while (left := self.processes() + self._commands()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        shutil.rmtree(self.root, ignore_errors=True)

    def _commands(self) -> list[int]:
        """Commands at work, which a service that was killed has left behind, maybe."""
        return marked(f"{self.bin}/", file="cmdline")

    def _kill(self, job: dict[str, Any]) -> None:
        if job["keeper"] is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(job["keeper"], signal.SIGTERM)

    def _write(self, name: str, value: Any) -> None:
        (self.root / f"{name}.new").write_text(json.dumps(value))
        (self.root / f"{name}.new").replace(self.root / name)
