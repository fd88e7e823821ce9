"""Who listens on a job's port, as the job itself sees it on its node, for real."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcbridge.jobscripts import TemplateSet
from tests.waiting import wait_until

from .conftest import Job

Made = Callable[..., TemplateSet]
RunJob = Callable[..., Job]

SERVES = """\
import os, socket, sys, time
host, go = sys.argv[1:]
while go and not os.path.exists(go):
    time.sleep(0.02)
listener = socket.create_server((host, int(os.environ["HPCBRIDGE_PORT"])), family=socket.AF_INET)
print("bound", flush=True)
while not os.path.exists("end"):
    time.sleep(0.02)
sys.exit(3)
"""
SQUATS = """\
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("bound", flush=True)
sys.stdin.read()
"""


def bash(body: str) -> str:
    return "#!/bin/bash\n{% include 'prelude.sh' %}\n" + body + "\n"


@pytest.fixture
def serves(run_job: RunJob, made: Made, tmp_path: Path) -> Callable[..., Job]:
    """A job whose application binds the given address, once the file "go" is there if it waits."""

    def start(
        host: str = "127.0.0.1", *, waits: bool = False, before: str = "", **more: str
    ) -> Job:
        path = tmp_path / "serves.py"
        path.write_text(SERVES)
        app = "hpcbridge_run {{ app.python }} -SE {{ app.path }} {{ app.host }} {{ app.go }}"
        properties = {"python": sys.executable, "path": str(path), "host": host}
        properties["go"] = "go" if waits else ""
        template = made(bash(f"{before}\n{app}"))
        return run_job("t.sh", template, properties=properties, **more)

    return start


@contextmanager
def squatter(port: int, **more: object) -> Iterator[None]:
    """A process that is not the job's listens on its port."""
    process = subprocess.Popen(
        [sys.executable, "-SEc", SQUATS, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        **more,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"bound\n"
    try:
        yield
    finally:
        process.communicate()


def waiting(job: Job) -> int:
    """The port of a job that has promised to tell who listens there."""
    wait_until(lambda: job.status.get("listening") == "0", "the promise")
    return int(job.status["port"])


def test_a_port_that_is_bound_late_is_told_when_it_is(serves: Callable[..., Job]) -> None:
    job = serves(waits=True)
    port = waiting(job)
    (job.directory / "go").touch()
    job.wait_for("bound")
    wait_until(lambda: job.status == {"port": str(port), "listening": "1"}, "the listener")


def test_another_port_and_a_connection_are_no_listener(serves: Callable[..., Job]) -> None:
    job = serves(waits=True)
    port = waiting(job)
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as client:
        client.bind(("127.0.0.1", port))  # the port of a client's own end
        client.connect(other.getsockname())
        looks = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > looks, "some looks")
        assert job.status == {"port": str(port), "listening": "0"}


def test_the_listener_of_another_session_of_the_same_account_is_not_the_jobs(
    serves: Callable[..., Job],
) -> None:
    job = serves(waits=True)
    with squatter(waiting(job), env={"HPCBRIDGE_DIRECTORY": "/somewhere/else"}):
        wait_until(lambda: job.status.get("taken") == "1", "that it is taken")
        assert job.status["listening"] == "0"
        (job.directory / "go").touch()
        assert job.finish() == 1  # address already in use
    assert "was taken by somebody else" in job.log
    assert (job.status["over"], job.status["listening"]) == ("1", "0")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for two accounts")
def test_the_listener_of_another_account_is_not_the_jobs(serves: Callable[..., Job]) -> None:
    job = serves(waits=True)
    with squatter(waiting(job), user=65534):
        wait_until(lambda: job.status.get("taken") == "1", "that it is taken")
        assert job.status["listening"] == "0"


def test_a_daemon_that_has_left_the_jobs_environment_is_the_jobs(
    serves: Callable[..., Job],
) -> None:
    job = serves(waits=True)
    with squatter(waiting(job), env={}):
        wait_until(lambda: job.status.get("listening") == "1", "the listener")


@pytest.mark.parametrize(
    ("host", "bind", "wide"),
    [
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.1.1", "127.0.0.1", None),
        ("0.0.0.0", "127.0.0.1", "1"),
        ("0.0.0.0", "0.0.0.0", None),
    ],
)
def test_an_application_that_the_network_can_connect_to_is_told_if_it_should_not(
    serves: Callable[..., Job], host: str, bind: str, wide: str | None
) -> None:
    job = serves(host, bind=bind)
    wait_until(lambda: job.status.get("listening") == "1", "the listener")
    assert job.status.get("wide") == wide


def test_the_end_of_the_application_is_told_before_the_epilogue(
    serves: Callable[..., Job],
) -> None:
    epilogue = "hpcbridge_epilogue() { while [[ ! -e done ]]; do sleep 0.05; done; }"
    job = serves(before=epilogue)
    wait_until(lambda: job.status.get("listening") == "1", "the listener")
    (job.directory / "end").touch()
    wait_until(lambda: job.status.get("over") == "3", "the end of the application")
    assert "exit" not in job.status
    assert job.process.poll() is None
    (job.directory / "done").touch()
    assert job.finish() == 3
    assert (job.status["over"], job.status["exit"]) == ("3", "3")


@pytest.mark.parametrize("waits", [True, False])
def test_a_job_that_is_told_to_end_leaves_the_reason_to_who_asked(
    serves: Callable[..., Job], waits: bool
) -> None:
    """It may be requeued: then the session goes on."""
    job = serves(waits=waits)
    wait_until(lambda: job.status.get("listening") == ("0" if waits else "1"), "the start")
    assert job.terminate() == 143
    assert job.status["exit"] == "143"
    assert "over" not in job.status


def test_an_application_inherits_nothing_that_the_wait_needs(run_job: RunJob, made: Made) -> None:
    job = run_job("t.sh", made(bash("hpcbridge_run bash -c 'echo /proc/$$/fd/*'")))
    assert job.finish() == 0
    numbers = {path.rpartition("/")[2] for path in job.log.split()}
    assert numbers <= {"0", "1", "2", "3", "255"}, job.log
