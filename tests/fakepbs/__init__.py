"""A PBS of one program, modelled on recordings of a real one; the server's faults on command."""

import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakescheduler import REAL as MACHINERY
from tests.fakescheduler import FakeSlurm
from tests.programs import PYTHON

COMMANDS = ("qsub", "qstat", "qselect", "qdel", "qrls", "pbsnodes")
FAKE = Path(__file__).with_name("fake.py")


class FakePBS(FakeSlurm):
    """The commands in ``bin``; ``fake.py`` tells what they know and what faults there are."""

    def __init__(self, root: Path, *, flavour: str = "pbs", node: str = "localhost") -> None:
        self.root = root
        self.bin = root / "bin"
        for directory in (self.bin, root / "spool"):
            directory.mkdir(parents=True)
        (root / "machinery.py").write_text(MACHINERY.read_text())
        program = root / "fake.py"
        program.write_text(f"#!{PYTHON} -SEB\n{FAKE.read_text()}")
        program.chmod(0o755)
        for name in COMMANDS:
            (self.bin / name).symlink_to(program)
        self._write("faults.json", {})
        empty: dict[str, Any] = {"jobs": {}, "seen": {}, "calls": {}, "cancelled": [], "names": []}
        settings = {"next": 1, "accepted": 0, "hold": False, "node": node, "flavour": flavour}
        settings |= {"history": True, "down": False, "limit": 100 * 2**20}
        self._write("state.json", empty | settings)

    def set(self, **values: Any) -> None:
        """Change what the commands know: ``set(history=False)``, ``set(down=True)``."""
        with self.state() as state:
            state.update(values)

    def change(self, job_id: str, **values: Any) -> None:
        """Change what is known of one job."""
        with self.state() as state:
            state["jobs"][job_id].update(values)

    def spoil_all(self, **fault: Any) -> None:
        """The same fault for every command."""
        self.spoil(**dict.fromkeys(COMMANDS, fault))

    def add_all(
        self, names: Sequence[str], *, queue: str = "workq", owner: str = "", hold: str = "u"
    ) -> list[str]:
        """Jobs that wait and stay, of the account or of somebody else."""
        with self.state() as state:
            first = state["next"]
            state["next"] += len(names)
            for number, name in enumerate(names, first):
                job_id = f"{number}.pbslab"
                state["jobs"][job_id] = {
                    "id": job_id, "name": name, "queue": queue, "owner": owner or _account(),
                    "state": "PENDING", "hold": hold, "comment": "", "host": "", "exit": "0:0",
                    "ending": "", "keeper": None, "ticks": None, "cookie": "", "runs": 0,
                    "script": "", "directory": "/", "output": "/dev/null", "ncpus": 1,
                    "walltime": None, "ctime": time.time(), "stime": None, "estimated": None,
                    "variables": {},
                }  # fmt: skip
        return [f"{number}.pbslab" for number in range(first, first + len(names))]

    def forget(self, job_id: str) -> None:
        """The server knows nothing of this job any more; its processes end."""
        with self.state() as state:
            self._kill(state["jobs"].pop(job_id))


def _account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
