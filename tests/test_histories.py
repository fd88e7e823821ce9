"""Random histories of launches, ends, outages, lost answers and kills; what must hold after each.

Hypothesis makes the histories. The sessions, their lives, the watcher and the database are real;
the cluster is one in memory, which lives on when the service is killed.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from hpcbridge.clusters import orphans as orphans_module
from hpcbridge.config.settings import Settings
from hpcbridge.errors import (
    BridgeError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobState
from hpcbridge.sessions.session import Session
from hpcbridge.store import Store
from tests.fakes import FakePublisher, FakeTransport
from tests.historychecks import at_rest, check
from tests.intervals import watch_every
from tests.killable import GRACE, Gate, GatedScheduler, Service
from tests.randomhistories import live_through

PATIENCE = 60.0
"""Seconds after which a cluster without faults must have brought everything to rest."""
DEATHS = (
    EndReason.FAILED,
    EndReason.FINISHED,
    EndReason.OUT_OF_MEMORY,
    EndReason.TIMED_OUT,
    EndReason.NODE_FAILED,
    EndReason.CANCELLED,
)
POINTS = (
    "before add",
    "after add",
    "before update",
    "after update",
    "before sbatch",
    "after sbatch",
)
OUTAGES = (
    ClusterUnreachable("The controller does not answer."),
    OutcomeUnknown("squeue did not answer within 8 s."),
    UnexpectedReply("squeue's listing was cut off."),
)


class Histories(RuleBasedStateMachine):
    """What can happen, to whom, and in which order."""

    directory: Path
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.gate = Gate()
        self.stopped: set[str] = set()
        self.claimed: set[str] = set()
        self.clients: set[asyncio.Task[None]] = set()
        self.launching: set[asyncio.Future[Session]] = set()

    def run(self, work: Awaitable[Any]) -> None:
        async def running() -> None:
            await work
            await asyncio.sleep(0.004)

        self.runner.run(running())

    # -- the world

    @initialize()
    def a_new_world(self) -> None:
        Histories.number += 1
        database = self.directory / f"{self.number}.sqlite"
        shutil.copy(self.directory / "empty.sqlite", database)
        self.url = f"sqlite+aiosqlite:///{database}"
        self.settings = Settings(
            server={"state_dir": self.directory / "state"},  # type: ignore[arg-type]
            clusters={"fake": {"scheduler": "local", "session_root": "/s", "grace": GRACE}},  # type: ignore[dict-item]
            applications={
                "kept": {"cluster": "fake", "template": "t", "wait": 60, "hold": 0.02},  # type: ignore[dict-item]
                "brief": {"cluster": "fake", "template": "t", "hold": 0.02, "keep": 0.05},  # type: ignore[dict-item]
            },
        )
        self.scheduler = GatedScheduler(self.gate)
        self.transport = FakeTransport()
        self.publisher = FakePublisher()

        async def begin() -> None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            await self.begin()

        self.run(begin())
        self.somebody_launches("kept", "carol", None)

    async def begin(self) -> None:
        self.service = Service(self)
        await self.service.start()

    @property
    def sessions(self) -> list[Session]:
        return list(self.service.sessions.registry.sessions)

    # -- what users do

    @rule(
        application=st.sampled_from(["kept", "brief"]),
        client=st.sampled_from(["alice", "bob"]),
        key=st.sampled_from([None, None, "one key", "another key"]),
    )
    def somebody_launches(self, application: str, client: str, key: str | None) -> None:
        async def ask() -> None:
            sessions = self.service.sessions
            with contextlib.suppress(BridgeError):
                # As the API does it: a hang-up cuts the waiting short, not the launch itself.
                work = sessions.launches.begin(application, {}, client=client, key=key)
                launching = asyncio.ensure_future(work)
                self.launching.add(launching)
                launching.add_done_callback(self.launched)
                session = await asyncio.shield(launching)
                await sessions.launches.ready(session)
                self.claimed.add(session.row.id)

        async def post() -> None:
            task = asyncio.create_task(ask())
            self.clients.add(task)
            task.add_done_callback(self.clients.discard)

        self.run(post())

    def launched(self, launching: asyncio.Future[Session]) -> None:
        self.launching.discard(launching)
        if not launching.cancelled():
            launching.exception()  # told to the client, if there still is one

    @rule(placement=st.integers(0, 9))
    def somebody_hangs_up(self, placement: int) -> None:
        async def hang_up() -> None:
            clients = sorted(self.clients, key=lambda task: task.get_name())
            if clients:
                clients[placement % len(clients)].cancel()

        self.run(hang_up())

    @rule(placement=st.integers(0, 9))
    def somebody_stops_a_session(self, placement: int) -> None:
        async def stop(session_id: str) -> None:
            with contextlib.suppress(BridgeError):
                await self.service.sessions.stop(session_id)

        async def ask() -> None:
            if self.sessions:
                session_id = self.sessions[placement % len(self.sessions)].row.id
                self.stopped.add(session_id)
                stopping = asyncio.create_task(stop(session_id))
                while not stopping.done() and not self.gate.reached:
                    await asyncio.sleep(0.001)

        self.run(ask())

    # -- what jobs do

    @rule()
    def jobs_start(self) -> None:
        for job_id, job in self.scheduler.jobs.items():
            if job.state == JobState.QUEUED:
                self.scheduler.run(job_id)

    @rule()
    def applications_become_ready(self) -> None:
        for job in self.scheduler.jobs.values():
            directory = f"/s/{job.name}"
            staged = f"{directory}/job.sh" in self.transport.files
            if job.state == JobState.RUNNING and staged:
                self.transport.files[f"{directory}/status"] = f"port={self.port}\n".encode()
                self.transport.files[f"{directory}/output.log"] = b"wslink: Starting factory"

    @rule(placement=st.integers(0, 9), reason=st.sampled_from(DEATHS))
    def a_job_dies(self, placement: int, reason: EndReason) -> None:
        living = [each for each in self.scheduler.living if each in self.scheduler.jobs]
        if living:
            self.scheduler.dies(living[placement % len(living)], reason)

    # -- what clusters do

    @rule(error=st.sampled_from(OUTAGES))
    def the_scheduler_goes_away(self, error: BridgeError) -> None:
        self.scheduler.down = error

    @rule()
    def the_login_host_goes_away(self) -> None:
        self.scheduler.down = self.transport.down = ClusterUnreachable("No route to host.")

    @rule()
    def everything_is_back(self) -> None:
        self.scheduler.down = self.transport.down = None

    @rule()
    def the_controller_forgets_everything_and_begins_at_its_first_id(self) -> None:
        """It is away meanwhile, for longer than the service waits between two questions."""

        async def begin_again() -> None:
            down, self.scheduler.down = self.scheduler.down, OUTAGES[0]
            self.scheduler.forgets_everything()
            asked = self.scheduler.looks
            deadline = time.monotonic() + PATIENCE
            while self.scheduler.looks < asked + 1 and not self.gate.reached:
                assert time.monotonic() < deadline, "nobody asks the controller"
                self.service.watcher.wake()
                await asyncio.sleep(0.002)
            self.scheduler.down = down

        self.run(begin_again())

    @rule(accepted=st.booleans(), appears_after=st.sampled_from([0, 2, 20]))
    def a_submission_has_no_answer(self, accepted: bool, appears_after: int) -> None:
        self.scheduler.submit_fault = OutcomeUnknown("sbatch did not answer within 16 s.")
        self.scheduler.accepts = accepted
        looks = self.scheduler.looks + appears_after if appears_after else 0
        self.scheduler.appears_after = looks
        self.somebody_launches("kept", "carol", None)

    @rule()
    def the_next_submission_is_refused(self) -> None:
        self.scheduler.submit_fault = JobRejected("Invalid partition.")
        self.scheduler.accepts = False

    @rule(times=st.integers(1, 3))
    def cancelling_has_no_effect_for_a_while(self, times: int) -> None:
        self.scheduler.ignores_cancel = times

    # -- what befalls the service

    @rule()
    def the_service_is_killed(self) -> None:
        self.run(self.restart(self.service.kill))

    @rule()
    def the_service_is_restarted(self) -> None:
        if not self.gate.reached:
            self.gate.open()  # a clean end gets as far as it wants
        self.run(self.restart(self.service.close))

    @rule(point=st.sampled_from(POINTS), passes=st.integers(0, 3))
    def the_service_will_be_killed(self, point: str, passes: int) -> None:
        self.gate.set(point, passes)

    async def restart(self, end: Callable[[], Awaitable[None]]) -> None:
        for task in list(self.clients):
            task.cancel()
        if not self.gate.point:  # where they may stand still
            await asyncio.gather(*self.clients, return_exceptions=True)
        await (self.service.kill() if self.gate.reached else end())
        self.gate.open()
        await self.begin()

    @rule(seconds=st.sampled_from([0.002, 0.01, 0.03]))
    def time_passes(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            if self.gate.reached:
                await self.restart(self.service.kill)

        self.run(wait())

    # -- the end of a history

    def teardown(self) -> None:
        if not hasattr(self, "service"):
            self.runner.close()
            return
        try:
            self.run(self.drain())
            self.run(check(self))
            self.run(self.close())
        except BaseException:
            self.run(self.service.kill())
            self.server.close()
            raise
        finally:
            self.runner.close()

    async def drain(self) -> None:
        """The cluster has no faults any more; everything comes to rest."""
        if self.gate.reached:
            await self.restart(self.service.kill)
        self.gate.open()
        self.everything_is_back()
        self.scheduler.submit_fault, self.scheduler.ignores_cancel = None, 0
        self.scheduler.appears_after = 0
        await asyncio.gather(*self.clients, *self.launching, return_exceptions=True)
        await self.until(lambda: at_rest(self))

    async def until(self, check: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not check():
            self.jobs_start()
            self.applications_become_ready()
            told = [(session.row.state, session.row.message) for session in self.sessions]
            assert time.monotonic() < deadline, (told, self.scheduler.jobs, self.publisher.routes)
            await asyncio.sleep(0.003)

    async def close(self) -> None:
        """The service ends, and all sessions with it."""
        self.clients.clear()
        await self.service.close(end_sessions=True)
        assert self.scheduler.living == []
        assert self.transport.files == {}
        assert self.publisher.routes == {}
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert {
            task.get_name() for task in left if not task.get_name().startswith("Task-")
        } == set()


def test_whatever_happens_nothing_is_lost_doubled_or_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "INTERVAL", 0.02)
    watch_every(0.004, monkeypatch, least=0.001)
    monkeypatch.setattr(Histories, "directory", tmp_path, raising=False)

    async def make() -> None:
        await (await Store.open(f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite")).close()

    asyncio.run(make())
    live_through(Histories, examples=25, steps=20)
