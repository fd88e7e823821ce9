"""Sample values, templates on disk, and jobs that really run as the local runner would run them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hpcbridge.jobscripts import LAUNCH_STUB, ScriptContext, TemplateSet, render
from tests.waiting import wait_until

T = TypeVar("T")
SECRET = "S3cretKey0123456789"


class Job:
    """A session directory with a script in it, and the process that runs it."""

    def __init__(self, directory: Path, script: str, environment: dict[str, str]) -> None:
        self.directory = directory
        (directory / "job.sh").write_text(script)
        self.process = subprocess.Popen(
            # A shell cannot trap what whoever started the tests had ignored, as nohup does.
            ["env", "--default-signal=INT,HUP", "bash", str(directory / "job.sh")],
            cwd="/",
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        path = self.directory / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def status(self) -> dict[str, str]:
        path = self.directory / "status"
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: text in self.log or self.process.poll() is not None, f"{text!r} in the log"
        )
        assert text in self.log, self.log

    def finish(self) -> int:
        return self.process.wait(60)

    def terminate(self) -> int:
        """TERM to the script alone, as a batch system may do."""
        self.process.terminate()
        return self.finish()

    def processes(self) -> dict[int, str]:
        """Whatever carries this session's environment, or is in the script's session."""
        mark = f"HPCBRIDGE_DIRECTORY={self.directory}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                pid, fields = (
                    int(entry.name),
                    (entry / "stat").read_text().rpartition(")")[2].split(),
                )
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if fields[0] not in "ZX" and (ours or int(fields[3]) == self.process.pid):
                found[pid] = command
        return found

    def clean_up(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def context(tmp_path: Path) -> ScriptContext:
    directory = tmp_path / "hpcb-00ff"
    directory.mkdir(mode=0o700)
    return ScriptContext(
        job_name="hpcb-00ff",
        directory=str(directory),
        walltime=3600,
        bind="127.0.0.1",
        application="cone",
        properties={
            "script": "/srv/apps/cone.py",
            "program": "/bin/true",
            "pvpython": "pvpython",
            "pvserver": "pvserver",
        },
        parameters={"resolution": 8},
        options={"partition": "gpu"},
        python=sys.executable,
    )


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., TemplateSet]:
    """Write templates into an admin's directory."""

    def write(text: str, name: str = "t.sh", **others: str) -> TemplateSet:
        directory = tmp_path / "admin"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(text)
        for other, content in others.items():
            (directory / f"{other}.sh").write_text(content)
        return TemplateSet([directory])

    return write


@pytest.fixture
def run_job(context: ScriptContext) -> Iterator[Callable[..., Job]]:
    """Stage a session directory and run a template in it, in a process session of its own."""
    jobs: list[Job] = []

    def start(
        template: str, templates: TemplateSet | None = None, env: Any = None, **changes: Any
    ) -> Job:
        directory = Path(context.directory)
        for left in ("status", "output.log"):
            (directory / left).unlink(missing_ok=True)
        shutil.copy(LAUNCH_STUB, directory / "launch.py")
        (directory / "secret").touch(mode=0o600)
        (directory / "secret").write_text(SECRET)
        script = render(templates or TemplateSet(), template, replace(context, **changes))
        job = Job(directory, script, {**os.environ, **(env or {})})
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.clean_up()
