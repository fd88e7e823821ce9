"""Random histories of the whole service, which is a process that is really killed.

As in ``test_histories``, Hypothesis makes them and the same must hold after each; but nothing is
made up here except what the batch system's commands answer (``tests/fakescheduler``,
``tests/fakepbs``). So there are fewer of them. The nodes' names lead to this machine, which tunnels
refuse on purpose; so the tunnels are those of the embedded batch runner, as in ``test_faults``.
"""

import functools
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sqlmodel import Session, create_engine, select

from hpcbridge.store import SessionRow, State
from tests.fakepbs import FakePBS
from tests.fakescheduler import FakeSlurm
from tests.programs import PYTHON
from tests.randomhistories import live_through
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

# It answers whoever asks with the name of its job.
NAMED = f"""#!{PYTHON} -SE
import os, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
name = os.path.basename(os.environ["HPCBRIDGE_DIRECTORY"])
server = socket.create_server((options["--host"], int(options["--port"])))
os.write(1, b"wslink: Starting factory")
while True:
    connection, _ = server.accept()
    with connection:
        if connection.recv(16384):
            answer = f"HTTP/1.0 200 OK\\r\\nContent-Length: {{len(name)}}\\r\\n\\r\\n{{name}}"
            connection.sendall(answer.encode())
"""
# `hpcbridge`, whose clusters are reached like this machine, and which looks more often.
PROGRAM = """
from hpcbridge.cli import main as cli
from hpcbridge.clusters import cluster as clusters
from hpcbridge import service
from hpcbridge.sessions.context import Timing
from hpcbridge.clusters import orphans
from hpcbridge.clusters import watcher
from hpcbridge.tunnels import Tunnels
clusters.Tunnels = lambda *_, **__: Tunnels(None, None, None)
service.TIMING = Timing(retry=0.1, retry_limit=0.2)
orphans.INTERVAL = 0.5
for name in ("STARTING", "WAITING", "QUIET", "FAILING"):
    setattr(watcher, f"INTERVAL_{name}", 0.1)
cli.main()
"""
TIMEOUT = 1.5
LATE = TIMEOUT + 1

FAULTS = {
    "told nothing": {"after": LATE},
    "not done": {"lost": True, "before": LATE},
    "slow": {"before": 0.5, "times": 3},
    "an error with status 0": {"status": 0, "out": "", "err": "error: try again\n"},
    "no text": {"out": "\xff\xfe\x00\xc3("},
    "another answer": {"out": "Welcome to the cluster!\n"},
    "cut off": {"cut": 5},
    "every other time": {"times": 6, "every": 2, "status": 1, "out": "", "lost": True},
}
DOWN = {"times": -1, "lost": True, "status": 1, "out": ""}
PAUSES = st.sampled_from([0.0, 0.02, 0.1, 0.4, 1.0])
KEYS = tuple(f"the launch number {number}" for number in range(4))


class Histories(RuleBasedStateMachine):
    """What can happen, to whom, and in which order."""

    directory: Path
    site: Callable[[Path], dict[str, Any]]
    batch_system: type[FakeSlurm]
    #: Commands that submit, that list, that cancel and that are asked for the end of one job.
    commands: Sequence[str]
    down: str
    deaths: Sequence[str]
    numbers = itertools.count(1)

    # -- the world

    @initialize()
    def a_new_world(self) -> None:
        self.root = self.directory / str(next(self.numbers))
        self.root.mkdir()
        self.cluster = self.batch_system(self.root / "c")
        self.keys: dict[str, str] = {}
        self.ids: list[str] = []
        self.stopped: set[str] = set()
        #: Names of jobs that the world has ended, and not the service.
        self.dead: set[str] = set()
        program = self.root / "named"
        program.write_text(NAMED)
        program.chmod(0o755)
        self.service = ServiceProcess(
            self.root,
            {
                "server": {"port": 0, "state_dir": str(self.root / "state")},
                "clusters": {
                    "here": {
                        "scheduler": self.kind,
                        "session_root": str(self.sessions),
                        "command_timeout": TIMEOUT,
                        "grace": 2.0,
                        "python": sys.executable,
                    }
                },
                "applications": {
                    "named": {
                        "cluster": "here",
                        "template": "command.sh",
                        "wait": 600,
                        "keep": 600,
                        "properties": {"program": str(program)},
                    }
                },
            },
            PATH=f"{self.cluster.bin}:{os.environ['PATH']}",
        )
        self.service.program = ("-c", PROGRAM)
        self.client = httpx.Client(timeout=60)
        self.start()

    kind: str

    @property
    def sessions(self) -> Path:
        return self.root / "sessions"

    def start(self) -> None:
        self.service.start()

    def ask(self, method: str, path: str = "", **more: Any) -> httpx.Response | None:
        """The answer, or None where there was nobody to give it."""
        try:
            return self.client.request(method, f"{self.service.url}/paraview{path}", **more)
        except httpx.TransportError:
            return None

    def launch(self, key: str | None) -> None:
        headers = {"Prefer": "respond-async"} | ({"Idempotency-Key": key} if key else {})
        reply = self.ask("POST", json={"application": "named"}, headers=headers)
        if reply is None:
            return
        if reply.status_code != 202:  # what this key began is over by now
            assert key is not None, reply.text
            assert reply.status_code in (502, 503), reply.text  # as what ended it says
            return
        session_id = reply.json()["id"]
        if key:
            assert self.keys.setdefault(key, session_id) == session_id
        if session_id not in self.ids:
            self.ids.append(session_id)

    def stop(self, session_id: str) -> None:
        self.stopped.add(session_id)
        reply = self.ask("DELETE", f"/{session_id}")
        assert reply is None or reply.status_code in (200, 404), reply.text

    def kill(self) -> None:
        self.service.stop(signal.SIGKILL)

    def cut_off(self, pause: float, request: Callable[[], None]) -> None:
        """The service is killed while it works on a request."""
        thread = threading.Thread(target=request)
        thread.start()
        time.sleep(pause)
        self.kill()
        thread.join()
        self.start()

    # -- what users do

    @rule(key=st.sampled_from([None, *KEYS]))
    def somebody_launches(self, key: str | None) -> None:
        self.launch(key)

    @rule(key=st.sampled_from(KEYS), pause=PAUSES)
    def a_launch_is_cut_off_and_repeated(self, key: str, pause: float) -> None:
        self.cut_off(pause, functools.partial(self.launch, key))
        self.launch(key)

    @rule(placement=st.integers(0, 9))
    def somebody_stops_a_session(self, placement: int) -> None:
        if self.ids:
            self.stop(self.ids[placement % len(self.ids)])

    @rule(placement=st.integers(0, 9), pause=PAUSES)
    def a_stop_is_cut_off(self, placement: int, pause: float) -> None:
        if self.ids:
            stop = functools.partial(self.stop, self.ids[placement % len(self.ids)])
            self.cut_off(pause, stop)
            stop()

    # -- what becomes of jobs

    @rule(held=st.booleans())
    def jobs_have_to_wait_or_not(self, held: bool) -> None:
        self.cluster.hold(held)

    @rule(placement=st.integers(0, 9), death=st.integers(0, 9))
    def a_job_dies(self, placement: int, death: int) -> None:
        if living := self.cluster.living:
            job_id = living[placement % len(living)]
            self.dead.add(self.cluster.jobs[job_id]["name"])
            self.cluster.end(job_id, self.deaths[death % len(self.deaths)], "1:0")

    @rule()
    def the_controller_forgets_everything_and_begins_at_its_first_id(self) -> None:
        self.dead |= {job["name"] for job in self.cluster.jobs.values()}
        self.cluster.forget_everything()

    # -- what goes wrong

    @rule(command=st.integers(0, 3), fault=st.sampled_from(sorted(FAULTS)))
    def a_command_goes_wrong(self, command: int, fault: str) -> None:
        self.cluster.spoil(**{self.commands[command]: FAULTS[fault]})

    @rule(done=st.booleans(), key=st.sampled_from([None, *KEYS]))
    def a_submission_has_no_answer(self, done: bool, key: str | None) -> None:
        fault = FAULTS["told nothing" if done else "not done"]
        self.cluster.spoil(**{self.commands[0]: fault})
        self.launch(key)

    @rule()
    def the_controller_goes_away(self) -> None:
        self.cluster.spoil_all(**DOWN, err=self.down)

    @rule()
    def everything_is_back(self) -> None:
        self.cluster.spoil()

    @rule()
    def the_service_is_killed(self) -> None:
        self.kill()
        self.start()

    @rule()
    def the_service_is_restarted(self) -> None:
        assert self.service.stop() == 0, self.service.log
        self.start()

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0]))
    def time_passes(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- the end of a history

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        try:
            self.cluster.spoil()
            self.cluster.hold(False)
            wait_until(self.at_rest, "rest", 90)
            self.check()
            self.leave_nothing()
        except BaseException:
            print(self.service.log)
            raise
        finally:
            self.service.stop(signal.SIGKILL)
            self.client.close()
            self.cluster.close()

    def rows(self) -> Sequence[SessionRow]:
        engine = create_engine(f"sqlite:///{self.root}/state/hpcbridge.sqlite")
        with Session(engine) as session:
            return session.exec(select(SessionRow)).all()

    def names(self) -> set[str]:
        """Of the jobs that wait or run."""
        return {self.cluster.jobs[job_id]["name"] for job_id in self.cluster.living}

    def directories(self) -> set[str]:
        return {each.name for each in self.sessions.iterdir()} if self.sessions.exists() else set()

    def at_rest(self) -> bool:
        """Each session is ready and has its job, its directory and its route, or is over."""
        rows = self.rows()
        ready = {row.attempt_name: row.id for row in rows if row.state == State.READY}
        return (
            all(row.state == State.READY or row.job_ended for row in rows)
            and self.names() == self.directories() == set(ready)
            and all(self.visit(session_id) == name for name, session_id in ready.items())
        )

    def visit(self, session_id: str) -> str:
        """What a client of the session's route is told."""
        where = f"{self.service.url}/proxy?sessionId={session_id}&path=ws"
        return self.client.get(where).text

    def check(self) -> None:
        names, rows = self.cluster.names, {row.id: row for row in self.rows()}
        assert len(set(names)) == len(names), "an attempt was submitted twice"
        known = {name for row in rows.values() for name in row.attempt_names}
        assert set(names) <= known, "a job has no session"
        assert set(self.ids) <= rows.keys(), "a session is lost"
        for row in rows.values():
            earlier = set(row.attempt_names[:-1]) & set(names)
            assert earlier <= self.dead, "a session had two jobs"
            if row.state == State.ENDED:
                assert row.reason is not None
                assert row.message
                assert row.secret is None
                accepted = set(row.attempt_names) & set(names)
                proof = row.id in self.stopped or accepted & self.dead or not accepted
                assert proof, f"{row.job_name} ended: {row.reason}, {row.message}"
            else:
                assert row.id not in self.stopped, "a stop was forgotten"

    def leave_nothing(self) -> None:
        for row in self.rows():
            if row.state != State.ENDED:
                self.stop(row.id)
        wait_until(lambda: all(row.job_ended for row in self.rows()), "the end of all sessions", 90)
        wait_until(lambda: not self.cluster.living, "the end of all jobs")
        wait_until(lambda: not self.cluster.processes(), "the end of their processes")
        assert self.directories() == set()
        assert self.service.stop() == 0
        assert "Traceback" not in self.service.log


class SlurmHistories(Histories):
    kind, batch_system = "slurm", FakeSlurm
    commands = ("sbatch", "squeue", "scancel", "scontrol")
    down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
    deaths = ("FAILED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "CANCELLED", "COMPLETED")


class PBSHistories(Histories):
    kind, batch_system = "pbs", FakePBS
    commands = ("qsub", "qstat", "qdel", "qselect")
    down = "Connection refused\nqstat: cannot connect to server pbslab (errno=15010)\n"
    deaths = ("FAILED", "COMPLETED")


@pytest.mark.parametrize("histories", [SlurmHistories, PBSHistories])
def test_whatever_happens_nothing_is_lost_doubled_or_left_behind(
    directory: Path, histories: type[Histories], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "directory", directory, raising=False)
    live_through(histories, examples=8, steps=12)
