"""What runs on a machine may be killed between any two steps: no job runs twice, none is lost."""

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.schedulers.hosts import commands
from hpcbridge.schedulers.hosts.far.processes import living
from tests.waiting import wait_until

HOST = "m1"
KILLED = """
import os, sys
left = int(sys.argv[1])
def counted(real):
    def step(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return real(*arguments, **named)
    return step
for name in ("rename", "fork", "fsync", "write", "waitpid", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
import json, types
exec(json.loads(sys.stdin.buffer.readline().decode()))
"""
"""The command, which is killed before its Nth step; so is the supervisor before its own."""


def asked(question: bytes, *, kill_at: int | None = None) -> dict[str, Any] | None:
    """What it answers; None where it was killed."""
    argv = commands.argv(sys.executable)
    if kill_at is not None:
        argv = [*argv[:-1], KILLED, str(kill_at)]
    done = subprocess.run(argv, input=question, capture_output=True, timeout=100)
    assert kill_at is not None or not done.stderr, done.stderr
    found: dict[str, Any] | None = json.loads(done.stdout) if done.stdout else None
    return found


def look(state: Path, token: str, *, kill_at: int | None = None, **more: Any) -> Any:
    request = {"host": HOST, "slots": 1, "environment": {}, "start": [], "cancel": [], "act": True}
    question = commands.question("look", str(state), token=token, **(request | more))
    return asked(question, kill_at=kill_at)


def queued(root: Path, name: str, script: str) -> tuple[str, str]:
    """A job that waits: its id, and the queue's token."""
    directory = root / name
    directory.mkdir()
    (directory / "job.sh").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "job.sh").chmod(0o700)
    job = {"name": name, "directory": str(directory), "script": f"{directory}/job.sh"}
    job["walltime"] = None  # type: ignore[assignment]
    told = asked(commands.question("add", str(root / "state"), job=job))
    assert told is not None
    return told["id"], told["token"]


def ended(state: Path, token: str, job_id: str) -> dict[str, Any]:
    """How the job ended, once commands that nobody kills have looked after it."""

    def over() -> Any:
        (job,) = look(state, token, start=[job_id])["jobs"]
        return job["end"]

    found: dict[str, Any] = wait_until(over, "the end of the job", 100)
    assert living(job_id) == []
    return found


@pytest.mark.timeout(600)
def test_a_command_or_supervisor_killed_at_any_step_neither_doubles_nor_loses_a_job(
    tmp_path: Path,
) -> None:
    ends: Counter[str] = Counter()
    for step in range(1, 13):
        root = tmp_path / str(step)
        root.mkdir()
        job_id, token = queued(root, "job", "echo run >>runs")
        look(root / "state", token, kill_at=step, start=[job_id])
        end = ended(root / "state", token, job_id)
        runs = root / "job" / "runs"
        ran = runs.read_text() if runs.exists() else ""
        if end["reason"] == "finished":
            assert (ran, end["status"]) == ("run\n", 0)
        else:
            assert (end["reason"], end["detail"]) == ("failed", "its supervisor was killed")
            assert ran in ("", "run\n")
        ends[end["reason"]] += 1
    assert set(ends) == {"finished", "failed"}
    assert end["reason"] == "finished"  # there are no more steps than that


@pytest.mark.timeout(600)
def test_a_cancellation_killed_at_any_step_still_ends_the_job(tmp_path: Path) -> None:
    for step in range(1, 5):
        root = tmp_path / str(step)
        root.mkdir()
        job_id, token = queued(root, "job", "sleep 1000")
        look(root / "state", token, start=[job_id])
        look(root / "state", token, kill_at=step, cancel=[job_id])
        again = look(root / "state", token, cancel=[job_id])
        assert again is not None
        assert ended(root / "state", token, job_id)["reason"] == "cancelled"


def test_a_job_that_waits_is_taken_by_one_machine_only(tmp_path: Path) -> None:
    job_id, token = queued(tmp_path, "job", "echo run >>runs")
    first = look(tmp_path / "state", token, start=[job_id])
    second = look(tmp_path / "state", token, host="m2", start=[job_id])
    assert [job["id"] for job in first["jobs"]] == [job_id]
    assert (second["jobs"], second["gone"]) == ([], [job_id])


def test_what_cannot_be_read_of_a_job_does_not_start_it_again(tmp_path: Path) -> None:
    job_id, token = queued(tmp_path, "job", "echo run >>runs")
    look(tmp_path / "state", token, start=[job_id])
    ended(tmp_path / "state", token, job_id)
    for suffix in ("end", "begun"):
        path = tmp_path / "state" / "taken" / HOST / f"{job_id}.{suffix}"
        text = path.read_text()
        path.write_text(text[:5])
        told = look(tmp_path / "state", token, start=[job_id])
        assert "is not a file of this scheduler's, or is not whole" in told["error"]
        path.write_text(text)
    assert (tmp_path / "job" / "runs").read_text() == "run\n"
    (tmp_path / "state" / "queue" / "1-1.json").write_text("garbage")
    told = asked(commands.question("queue", str(tmp_path / "state"), hosts=[HOST]))
    assert told is not None
    assert (told["waiting"], told["taken"]) == ([], {HOST: [job_id]})


def test_a_machine_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    _, token = queued(tmp_path, "job", "exit")
    (tmp_path / "state").chmod(0o777)
    assert "can be written by others: chmod go-w it" in look(tmp_path / "state", token)["error"]


def test_what_is_sent_is_python_of_any_machine() -> None:
    """As old as 3.6, without the walrus and its like."""

    folder = Path(commands.__file__).parent / "far"
    for path in folder.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 6))
