"""What Slurm does wrong, and what comes of it: one job a session, no end without proof, no orphan.

The service is whole, with its real Slurm adapter and real jobs; only the commands are not Slurm's
(``tests/fakescheduler``). The nodes' names lead to this machine, which a cluster's tunnels refuse
on purpose; so the tunnels here are those of the embedded batch runner.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge import service
from hpcbridge.api import create_app
from hpcbridge.clusters import cluster as clusters
from hpcbridge.errors import SessionsLeft
from hpcbridge.sessions import manager
from hpcbridge.sessions.context import Timing
from hpcbridge.sessions.manager import Sessions
from hpcbridge.tunnels import Tunnels
from tests.fakescheduler import FakeSlurm
from tests.intervals import watch_every
from tests.waiting import until

pytestmark = pytest.mark.servers


DOWN = {
    "times": -1,
    "lost": True,
    "status": 1,
    "err": "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
}
SILENT = {"times": -1, "lost": True, "before": 60}
TIMEOUT = 1.5


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TIMING", Timing(retry=0.1, retry_limit=0.2))
    watch_every(0.1, monkeypatch)


@pytest.fixture
def slurm(site: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """A Slurm in the PATH, and a site that uses it."""
    monkeypatch.setattr(clusters, "Tunnels", lambda *_, **__: Tunnels(None, None, None))
    site.config["clusters"]["here"] = {
        "scheduler": "slurm",
        "session_root": str(site.session_root),
        "command_timeout": TIMEOUT,
        "grace": 0.6,
        "python": sys.executable,
    }
    with tempfile.TemporaryDirectory(prefix="hpcb") as directory:
        fake = FakeSlurm(Path(directory) / "slurm")
        monkeypatch.setenv("PATH", str(fake.bin), prepend=":")
        yield fake
        fake.close()


@dataclass
class Bridge:
    """A service in this process."""

    client: httpx.AsyncClient
    sessions: Sessions

    async def launch(self, application: str = "cone") -> str:
        reply = await self.client.post(
            "/paraview", json={"application": application}, headers={"Prefer": "respond-async"}
        )
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    async def told(self, session_id: str) -> dict[str, Any]:
        reply = await self.client.get(f"/paraview/{session_id}")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def becomes(self, session_id: str, state: str) -> dict[str, Any]:
        """What is told of the session once it is in this state."""
        told: dict[str, Any] = {}

        async def there() -> bool:
            told.update(await self.told(session_id))
            assert told["state"] == state or told["state"] != "ended", told
            return bool(told["state"] == state)

        await until(there, f"the state {state}")
        return told

    async def ready(self) -> str:
        session_id = await self.launch()
        await self.becomes(session_id, "ready")
        return session_id

    async def stop(self, session_id: str) -> None:
        reply = await self.client.delete(f"/paraview/{session_id}")
        assert reply.status_code == 200, reply.text

    async def unknown(self, session_id: str) -> None:
        """The cluster could not be asked, for several rounds; the session lives on."""
        session = self.sessions.session(session_id)
        assert session is not None
        await until(lambda: session.watch, "a watch on its job")
        watch = session.watch
        assert watch is not None
        await until(lambda: watch.unknown_since, "the first question without an answer")
        state = session.row.state
        await asyncio.sleep(0.5)
        assert watch.unknown_since
        assert session.row.state == state != "ended"

    async def known(self, session_id: str) -> None:
        session = self.sessions.session(session_id)
        assert session is not None
        watch = session.watch
        assert watch is not None
        await until(lambda: watch.unknown_since is None, "an answer")

    async def cleaned(self, session_id: str) -> dict[str, Any]:
        """What is told of the session when it has ended and cleaned up."""
        await until(
            lambda: self.sessions.session(session_id) is None, "the end of its cleaning up", 30
        )
        return await self.told(session_id)


Start = Callable[..., contextlib.AbstractAsyncContextManager[Bridge]]


@pytest.fixture
def start(site: Any, slurm: FakeSlurm) -> Start:
    """``async with start() as bridge``: a service that leaves its jobs running."""

    @contextlib.asynccontextmanager
    async def start(*, end_sessions: bool = False) -> AsyncIterator[Bridge]:
        settings = site.settings()
        async with service.running(settings, end_sessions=end_sessions) as (sessions, _):
            transport = httpx.ASGITransport(create_app(settings, sessions))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://portal.example.org", timeout=90
            ) as client:
                yield Bridge(client, sessions)

    return start


@pytest.fixture
async def bridge(start: Start) -> AsyncIterator[Bridge]:
    async with start() as bridge:
        yield bridge


async def nothing_is_left(slurm: FakeSlurm, site: Any) -> None:
    slurm.spoil()
    await until(lambda: not slurm.living, "the end of all jobs")
    await until(lambda: not slurm.processes(), "the end of their processes")
    await until(lambda: not site.directories(), "the removal of the session directories")


@pytest.fixture
def over(slurm: FakeSlurm, site: Any) -> Callable[..., Any]:
    """``await over(bridge, id)``: stop the session where it lives; what is told of its end.

    All faults are gone by then. There was one job, and nothing is left of it.
    """

    async def over(bridge: Bridge, session_id: str, *, jobs: int = 1) -> dict[str, Any]:
        slurm.spoil()
        session = bridge.sessions.session(session_id)
        if session is not None and not session.stopping:
            await bridge.stop(session_id)
        told = await bridge.cleaned(session_id)
        assert told["state"] == "ended"
        assert len(slurm.names) == jobs
        await nothing_is_left(slurm, site)
        return told

    return over


# -- submitting


async def test_without_faults_a_session_is_a_job_and_its_end_the_jobs_end(
    bridge: Bridge, over: Callable[..., Any]
) -> None:
    session_id = await bridge.ready()
    assert (await over(bridge, session_id))["reason"] == "stopped"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"after": 60}, id="hangs"),
        pytest.param({"out": ""}, id="prints-nothing"),
        pytest.param({"out": "\xff\xfe\x00job\n"}, id="prints-garbage"),
        pytest.param(
            {"out": "", "err": "sbatch: error: lost connection\n"}, id="error-with-exit-0"
        ),
        pytest.param(
            {"out": "", "status": 1, "err": "sbatch: error: Socket timed out on send/recv\n"},
            id="times-out",
        ),
    ],
)
async def test_a_job_that_was_accepted_without_a_word_is_found_and_not_submitted_again(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any], fault: dict[str, Any]
) -> None:
    slurm.spoil(sbatch=fault)
    session_id = await bridge.ready()
    assert slurm.calls("sbatch") == 1
    assert len(slurm.living) == 1
    await over(bridge, session_id)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"before": 60}, id="hangs"),
        pytest.param(
            {"out": "", "err": "sbatch: error: lost connection\n"}, id="error-with-exit-0"
        ),
        pytest.param(
            {"out": "", "status": 1, "err": "sbatch: error: Socket timed out on send/recv\n"},
            id="times-out",
        ),
    ],
)
async def test_a_job_that_never_arrived_is_submitted_again_after_the_grace(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any], fault: dict[str, Any]
) -> None:
    slurm.spoil(sbatch={"lost": True} | fault)
    session_id = await bridge.ready()
    assert slurm.calls("sbatch") == 2
    await over(bridge, session_id)


async def test_jobs_that_never_arrive_end_their_session(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    slurm.spoil(sbatch={"times": -1, "lost": True, "out": ""})
    session_id = await bridge.launch()
    told = await bridge.cleaned(session_id)
    assert told["reason"] == "rejected"
    assert "did not take the job" in told["error"]
    assert slurm.calls("sbatch") == 3
    await over(bridge, session_id, jobs=0)


async def test_a_submission_without_an_answer_is_not_decided_while_nobody_can_be_asked(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    slurm.spoil(sbatch={"out": ""}, squeue=DOWN)
    session_id = await bridge.launch()
    await asyncio.sleep(1.5)  # longer than the grace
    assert (await bridge.told(session_id))["state"] == "submitting"
    slurm.spoil()
    await bridge.becomes(session_id, "ready")
    await over(bridge, session_id)


async def test_a_job_that_is_listed_late_is_waited_for(
    start: Start, site: Any, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    site.config["clusters"]["here"]["grace"] = 60
    slurm.spoil(sbatch={"out": ""}, squeue={"times": 3, "hide": True})
    async with start() as bridge:
        session_id = await bridge.ready()
        await over(bridge, session_id)


async def test_a_session_stopped_while_its_submission_hangs_leaves_no_job(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    slurm.spoil(sbatch={"after": 60})
    session_id = await bridge.launch()
    await until(lambda: slurm.names, "the job")
    await bridge.stop(session_id)
    assert (await bridge.cleaned(session_id))["reason"] == "stopped"
    await over(bridge, session_id)


async def test_a_service_that_ends_while_sbatch_hangs_finds_the_job_when_it_is_back(
    start: Start, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    slurm.spoil(sbatch={"after": 60})
    async with start() as bridge:
        session_id = await bridge.launch()
        await until(lambda: slurm.names, "the job")
    async with start() as bridge:
        await bridge.becomes(session_id, "ready")
        assert slurm.calls("sbatch") == 1
        await over(bridge, session_id)


async def test_a_refused_job_is_refused_in_slurms_words(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    slurm.spoil(sbatch={"lost": True, "status": 1, "out": "", "err": f"{words}\n"})
    session_id = await bridge.launch()
    told = await bridge.cleaned(session_id)
    assert told["reason"] == "rejected"
    assert "Invalid partition name" in told["error"]
    await over(bridge, session_id, jobs=0)


# -- asking


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        pytest.param(DOWN, "queued", id="down-while-it-waits"),
        pytest.param(DOWN, "ready", id="down"),
        pytest.param({"status": 0, "out": "", "err": DOWN["err"]}, "ready", id="error-with-exit-0"),
        pytest.param(
            {"status": 0, "err": "slurm_load_jobs error: cut\n"}, "ready", id="error-and-a-list"
        ),
        pytest.param({"out": ""}, "ready", id="prints-nothing"),
        pytest.param({"out": "\xff\xfe\x80 JOBID \x00\n"}, "ready", id="not-utf-8"),
        pytest.param({"out": "JOBID STATE REASON EXEC_HOST NAME\n"}, "ready", id="another-format"),
        pytest.param({"cut": 1}, "ready", id="cut-by-a-byte"),
        pytest.param({"cut": 40}, "ready", id="cut-in-a-line"),
        pytest.param({"status": 255, "out": ""}, "ready", id="dies"),
        pytest.param(SILENT, "ready", id="hangs"),
    ],
)
async def test_a_question_without_a_good_answer_ends_nothing(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any], fault: dict[str, Any], state: str
) -> None:
    slurm.hold(state == "queued")
    session_id = await bridge.launch()
    await bridge.becomes(session_id, state)
    slurm.spoil(squeue={"times": -1} | fault)
    await bridge.unknown(session_id)
    assert (await bridge.told(session_id))["unknown_since"] is not None
    slurm.spoil()
    await bridge.known(session_id)
    slurm.hold(False)
    await bridge.becomes(session_id, "ready")
    await over(bridge, session_id)


async def test_a_job_that_vanishes_from_the_listing_is_asked_for_by_its_id_and_lives(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    session_id = await bridge.ready()
    await asyncio.sleep(0.8)  # past the grace
    slurm.spoil(squeue={"times": -1, "hide": True})
    calls = slurm.calls("scontrol")
    await until(lambda: slurm.calls("scontrol") >= calls + 3, "questions for the job alone")
    assert (await bridge.told(session_id))["state"] == "ready"
    await over(bridge, session_id)


async def test_a_job_that_nobody_knows_any_more_is_over(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    session_id = await bridge.ready()
    slurm.forget_everything()
    # Its script was told to end, and left its exit status behind.
    assert (await bridge.cleaned(session_id))["reason"] == "cancelled"
    await over(bridge, session_id)


async def test_a_state_that_slurm_may_invent_one_day_ends_nothing(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    session_id = await bridge.ready()
    slurm.spoil(squeue={"times": -1, "word": "TELEPORTING"})
    session = bridge.sessions.session(session_id)
    assert session is not None
    watch = session.watch
    assert watch is not None
    await until(lambda: watch.job is not None and watch.job.state == "unknown", "the new state")
    await asyncio.sleep(0.4)
    assert (await bridge.told(session_id))["state"] == "ready"
    await over(bridge, session_id)


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("OUT_OF_MEMORY", "0:125", "out_of_memory"),
        ("TIMEOUT", "0:15", "timed_out"),
        ("NODE_FAIL", "0:0", "node_failed"),
        ("PREEMPTED", "0:15", "preempted"),
        ("CANCELLED", "0:15", "cancelled"),
    ],
)
async def test_a_jobs_end_is_told_with_its_reason_also_after_an_outage(
    bridge: Bridge,
    slurm: FakeSlurm,
    over: Callable[..., Any],
    word: str,
    status: str,
    reason: str,
) -> None:
    session_id = await bridge.ready()
    slurm.spoil_all(**DOWN)
    await bridge.unknown(session_id)  # a question that was on its way is answered by now
    slurm.end("1", word, status)
    slurm.spoil()
    assert (await bridge.cleaned(session_id))["reason"] == reason
    await over(bridge, session_id)


async def test_accounting_tells_the_reason_when_the_controller_has_forgotten(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    session_id = await bridge.ready()
    slurm.spoil(squeue={"times": -1, "hide": True}, scontrol={"times": -1, "hide": True})
    await asyncio.sleep(1)  # past the grace: accounting says that it runs, which proves nothing
    slurm.end("1", "OUT_OF_MEMORY", "0:125")
    told = await bridge.cleaned(session_id)
    assert told["reason"] in ("out_of_memory", "failed")
    await over(bridge, session_id)


# -- ids that are used again


async def test_another_job_with_the_sessions_id_is_not_its_job(
    bridge: Bridge, slurm: FakeSlurm
) -> None:
    session_id = await bridge.ready()
    slurm.forget_everything()
    assert slurm.add("somebody-else") == "1"
    assert (await bridge.cleaned(session_id))["reason"] == "cancelled"
    assert slurm.jobs["1"]["state"] == "PENDING"
    assert slurm.state_of("cancelled") == []


async def test_a_stop_does_not_cancel_another_job_that_has_got_the_sessions_id(
    bridge: Bridge, slurm: FakeSlurm
) -> None:
    session_id = await bridge.ready()
    slurm.forget_everything()
    slurm.add("somebody-else")
    seen = slurm.calls("squeue")
    await until(lambda: slurm.calls("squeue") >= seen + 2, "a listing with the other job")
    with contextlib.suppress(AssertionError):  # it may have ended by itself already
        await bridge.stop(session_id)
    assert (await bridge.cleaned(session_id))["state"] == "ended"
    assert slurm.jobs["1"]["state"] == "PENDING"


# -- everything at once


async def test_commands_that_fail_every_other_time_lose_and_double_nothing(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    slurm.spoil_all(**DOWN, every=2)
    slurm.spoil(
        sbatch={"times": -1, "every": 2, "out": ""},
        **{name: DOWN | {"every": 2} for name in ("squeue", "scancel", "scontrol", "sacct")},
    )
    ids = [await bridge.launch() for _ in range(3)]
    for session_id in ids:
        await bridge.becomes(session_id, "ready")
    assert len(set(slurm.names)) == len(slurm.names) == 3
    for session_id in ids:
        await bridge.stop(session_id)
    for session_id in ids:
        assert (await bridge.cleaned(session_id))["reason"] == "stopped"
    await over(bridge, ids[0], jobs=3)


async def test_slow_commands_are_waited_for(bridge: Bridge, slurm: FakeSlurm, site: Any) -> None:
    slurm.spoil_all(times=-1, before=0.2, after=0.2)
    session_id = await bridge.ready()
    await bridge.stop(session_id)
    assert (await bridge.cleaned(session_id))["reason"] == "stopped"
    assert slurm.calls("sbatch") == 1
    await nothing_is_left(slurm, site)


@pytest.mark.parametrize("fault", [DOWN, SILENT], ids=["down", "silent"])
async def test_a_job_that_cannot_be_cancelled_is_cancelled_when_that_is_possible_again(
    bridge: Bridge, slurm: FakeSlurm, over: Callable[..., Any], fault: dict[str, Any]
) -> None:
    session_id = await bridge.ready()
    slurm.spoil(scancel=fault)
    await bridge.stop(session_id)
    told = await bridge.becomes(session_id, "ended")
    assert told["reason"] == "stopped"
    assert slurm.living == ["1"]
    await over(bridge, session_id)


async def test_a_service_that_ends_while_nobody_can_be_asked_takes_everything_up_again(
    start: Start, slurm: FakeSlurm, over: Callable[..., Any]
) -> None:
    async with start() as bridge:
        ready, stopped = await bridge.ready(), await bridge.ready()
        slurm.spoil_all(**DOWN)
        await bridge.unknown(ready)
        await bridge.stop(stopped)
        await bridge.becomes(stopped, "ended")
    async with start() as bridge:
        await bridge.unknown(ready)
        assert len(slurm.living) == 2
        slurm.spoil()
        assert (await bridge.cleaned(stopped))["reason"] == "stopped"
        assert (await bridge.told(ready))["state"] == "ready"
        await over(bridge, ready, jobs=2)


async def test_a_service_that_was_to_end_all_sessions_says_which_it_could_not_end(
    start: Start,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(manager, "END_LIMIT", 3.0)
    running = start(end_sessions=True)
    bridge = await running.__aenter__()
    session_id = await bridge.ready()
    session = bridge.sessions.session(session_id)
    assert session is not None
    slurm.spoil_all(**DOWN)
    with pytest.raises(SessionsLeft, match="could not be ended within 3 s") as caught:
        await running.__aexit__(None, None, None)
    told = f"{session.row.job_name} on here (job 1): Slurm's controller does not answer"
    assert told in str(caught.value)
    assert any(f"not ended: {told}" in each for each in caplog.messages)
    assert slurm.living == ["1"]
    slurm.spoil()
    async with start(end_sessions=True) as bridge:  # and this one does, without a word
        assert bridge.sessions.session(session_id)
    assert slurm.living == []
