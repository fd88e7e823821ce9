"""Rendered jobs, run for real: the port, the log, the status file, the end of everything."""

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.jobscripts import TemplateSet
from tests.processes import marked
from tests.waiting import wait_until

from .conftest import SECRET, Job

Made = Callable[..., TemplateSet]
RunJob = Callable[..., Job]

LISTENER = """\
import signal, socket, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
listener = socket.create_server((arguments["--host"], int(arguments["--port"])))
assert arguments["--authKey"].startswith("S3cret")
print("listening", end="")
while True:
    listener.accept()[0].sendall(b"hello")
"""


@pytest.fixture
def listener(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "it's an app.py"
    path.write_text(LISTENER)
    return {"script": str(path)}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def gone(job: Job) -> bool:
    return not job.processes()


def bash(body: str) -> str:
    return "#!/bin/bash\n{% include 'prelude.sh' %}\n" + body + "\n"


def test_the_application_listens_on_the_port_that_the_job_tells(
    run_job: RunJob, listener: dict[str, str]
) -> None:
    job = run_job("python.sh", properties=listener, parameters={})
    job.wait_for("listening")
    port = int(job.status["port"])
    assert 20000 <= port < 32768
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        assert connection.recv(5) == b"hello"
    wait_until(lambda: job.status == {"port": str(port), "listening": "1"}, "the listener")
    assert job.process.stdout is not None
    assert job.terminate() == 143
    assert job.status == {"port": str(port), "listening": "1", "exit": "143"}
    assert job.process.stdout.read() == b""
    assert gone(job)


def test_what_a_job_writes_is_its_owners_alone(run_job: RunJob, made: Made) -> None:
    job = run_job("t.sh", made(bash("hpcbridge_run touch made.by.app")))
    assert job.finish() == 0
    modes = {path.name: mode(path) for path in job.directory.iterdir()}
    assert mode(job.directory) == 0o700
    for name in ("output.log", "status", "made.by.app", "secret"):
        assert modes[name] == 0o600
    assert "status.tmp" not in modes


def test_the_secret_is_in_no_process_and_no_environment(
    run_job: RunJob, listener: dict[str, str]
) -> None:
    job = run_job("python.sh", properties=listener, parameters={})
    job.wait_for("listening")
    readable = 0
    for entry in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                content = (entry / name).read_bytes()
            except OSError:
                continue
            readable += 1
            if int(entry.name) != os.getpid():
                assert SECRET.encode() not in content, f"{name} of {entry.name}"
    assert readable > 4
    assert not (job.directory / "secret").exists()
    assert SECRET not in (job.directory / "job.sh").read_text() + job.log
    (application,) = [pid for pid, text in job.processes().items() if "launch.py" in text]
    environment = (Path("/proc") / str(application) / "environ").read_bytes().split(b"\0")
    ours = sorted(line for line in environment if line.startswith(b"HPCBRIDGE_"))
    assert ours == [
        f"HPCBRIDGE_DIRECTORY={job.directory}".encode(),
        f"HPCBRIDGE_PORT={job.status['port']}".encode(),
    ]


@pytest.mark.parametrize("code", [0, 3, 77])
def test_the_exit_status_is_the_applications(run_job: RunJob, made: Made, code: int) -> None:
    job = run_job("t.sh", made(bash(f"hpcbridge_run bash -c 'echo last words; exit {code}'")))
    assert job.finish() == code
    assert job.status["exit"] == str(code)
    assert job.log == "last words\n"


def test_a_command_that_is_not_there_is_said_in_the_log(run_job: RunJob) -> None:
    job = run_job("command.sh", properties={"program": "/no/such/program"})
    assert job.finish() == 127
    assert "/no/such/program: No such file or directory" in job.log


def test_an_application_that_is_killed_is_told_by_its_signal(run_job: RunJob, made: Made) -> None:
    job = run_job("t.sh", made(bash("hpcbridge_run bash -c 'kill -SEGV $$'")))
    assert job.finish() == 128 + signal.SIGSEGV
    assert "Segmentation fault" in job.log


# In a session of its own; an orphan there; an orphan without our environment; deaf to signals.
FAMILY = """\
setsid sleep 1001.MINE &
(setsid setsid bash -c 'sleep 1002.MINE & sleep 1003.MINE' &)
(env -i sleep 1005.MINE &)
bash -c 'trap "" TERM HUP INT; echo stubborn; while :; do sleep 0.05; done' &
nohup sleep 1006.MINE &
echo started
"""


@pytest.mark.parametrize("how", ["TERM", "INT", "HUP", "by itself"])
def test_everything_that_was_started_ends_with_the_job(
    run_job: RunJob, made: Made, how: str
) -> None:
    mine = str(os.getpid())  # other tests sleep at the same time
    last = "env -i setsid sleep 1004.MINE & exec sleep 1000.MINE"
    family = FAMILY.replace("\n", "; ").replace("&;", "&")
    family += "exit 5" if how == "by itself" else last
    job = run_job(
        "t.sh",
        made(bash("hpcbridge_run bash -c {{ app.family }}")),
        properties={"family": family.replace("MINE", mine)},
        env={"HPCBRIDGE_GRACE": "1"},
    )
    job.wait_for("started")
    if how != "by itself":
        wait_until(lambda: f"sleep 1000.{mine} " in job.processes().values(), "the whole family")
        job.process.send_signal(getattr(signal, f"SIG{how}"))
    assert job.finish() == {"TERM": 143, "INT": 130, "HUP": 129, "by itself": 5}[how]
    assert gone(job)
    # Not all at once: any process of this machine may go away while it is read.
    numbers = range(1000, 1007)
    assert not [pid for each in numbers for pid in marked(f"sleep\0{each}.{mine}", file="cmdline")]


# In place of the search for processes: one that finds nothing the first time, or takes 20 seconds.
BLIND = """\
eval "seeing_$(declare -f hpcbridge_find)"
hpcbridge_find() {
  [[ $blinked ]] || { blinked=1; hpcbridge_found=(); return 1; }
  seeing_hpcbridge_find
}
"""
SLOW = """\
eval "quick_$(declare -f hpcbridge_find)"
hpcbridge_find() { SECONDS=$((SECONDS + 20)); quick_hpcbridge_find; }
"""


@pytest.mark.parametrize("search", [BLIND, SLOW])
def test_what_one_look_at_a_busy_node_missed_is_ended_all_the_same(
    run_job: RunJob, made: Made, search: str
) -> None:
    app = "setsid sleep 1011 & (setsid setsid sleep 1012 &); exit 5"
    job = run_job("t.sh", made(bash(f"{search}hpcbridge_run bash -c '{app}'")))
    assert job.finish() == 5, job.log
    assert gone(job)


def test_a_term_to_the_whole_group_ends_the_job_as_well(run_job: RunJob, made: Made) -> None:
    job = run_job("t.sh", made(bash("hpcbridge_run bash -c 'echo up; sleep 1007; echo no'")))
    job.wait_for("up")
    os.killpg(job.process.pid, signal.SIGTERM)
    assert job.finish() == 143
    assert gone(job)


def test_a_term_lets_the_application_clean_up(run_job: RunJob, made: Made) -> None:
    app = 'trap "echo cleaned up; exit 0" TERM; echo up; while :; do sleep 0.05; done'
    job = run_job("t.sh", made(bash(f"hpcbridge_run bash -c '{app}'")))
    job.wait_for("up")
    assert job.terminate() == 143
    assert "cleaned up" in job.log


def test_the_keeper_of_a_job_that_leads_no_group_is_left_alone(run_job: RunJob, made: Made) -> None:
    # As under PBS, where the job is a child of a login shell that leads the session.
    inner = made(bash("hpcbridge_run bash -c 'echo up; exit 4'"), name="inner.sh")
    outer = (
        "#!/bin/bash\nsleep 1008 & other=$!\nbash {{ app.inner }}\necho inner ended with $?\n"
        "kill -0 $other && echo the neighbour lives\nkill $other\n"
    )
    (inner.directories[0] / "outer.sh").write_text(outer)
    job = run_job("inner.sh", inner)
    assert job.finish() == 4
    path = job.directory / "inner.sh"
    path.write_text((job.directory / "job.sh").read_text())
    job = run_job("outer.sh", inner, properties={"inner": str(path)})
    assert job.process.stdout is not None
    assert b"inner ended with 4\nthe neighbour lives\n" in job.process.stdout.read()
    assert job.finish() == 0


def test_a_missing_session_directory_ends_the_job_at_once(
    run_job: RunJob, made: Made, tmp_path: Path
) -> None:
    job = run_job("t.sh", made(bash("hpcbridge_run true")))
    assert job.finish() == 0
    script = (job.directory / "job.sh").read_text()
    moved = tmp_path / "moved"
    job.directory.rename(moved)
    again = Job(moved, script, dict(os.environ))
    output, _ = again.process.communicate()
    assert again.process.returncode == 1
    assert b"hpcbridge: no session directory on" in output


def test_a_port_that_something_uses_is_not_picked(run_job: RunJob, made: Made) -> None:
    # RANDOM is predictable on purpose here: the same seed gives the same first choice.
    text = bash("hpcbridge_run sleep 1009").replace("\n", "\nRANDOM=42\n", 1)
    told = {"port", "listening"}
    first = run_job("t.sh", made(text))
    wait_until(lambda: "port" in first.status, "the port")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        port = int(first.status["port"])
        first.terminate()
        with socket.create_server((address, port), family=family):
            again = run_job("t.sh", made(text))
            wait_until(lambda job=again: "port" in job.status, "another port")
            assert int(again.status["port"]) != port
            again.terminate()
        first = run_job("t.sh", made(text))
        wait_until(lambda job=first: job.status.keys() == told, "the first port again")


def test_a_job_that_is_run_again_takes_another_port(run_job: RunJob, made: Made) -> None:
    """The same seed would give the same port, by which the service could not tell the two apart."""
    text = bash("hpcbridge_run sleep 1009").replace("\n", "\nRANDOM=42\n", 1)
    first = run_job("t.sh", made(text))
    wait_until(lambda: "port" in first.status, "the port")
    port = first.status["port"]
    first.terminate()
    again = Job(first.directory, (first.directory / "job.sh").read_text(), dict(os.environ))
    try:
        wait_until(lambda: {"listening", "exit"} & set(again.status) == {"listening"}, "its port")
        assert again.status["port"] != port
    finally:
        again.terminate()
        again.clean_up()


@pytest.mark.parametrize("status", [99, 100])
def test_grid_engine_is_not_told_an_exit_status_that_it_takes_for_an_order(
    made: Made, run_job: RunJob, status: int
) -> None:
    templates = made(bash(f"hpcbridge_run bash -c 'exit {status}'"))
    ordered = run_job("t.sh", templates, scheduler="gridengine")
    assert ordered.finish() == 1
    assert ordered.status["exit"] == str(status)  # what users are told is what happened
    assert run_job("t.sh", templates, scheduler="slurm").finish() == status
