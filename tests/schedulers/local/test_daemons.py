"""What a job leaves behind on purpose: processes without its environment, session or parent."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from hpcbridge.schedulers.base import EndReason
from hpcbridge.schedulers.local import cgroup, processes
from tests.schedulers.local.bench import Bench, until_state
from tests.waiting import until

# Forgets the environment, leaves the session and the process group; its parent stays, or not.
STAYS = "env -i /usr/bin/setsid /bin/sleep 600 & echo $! > daemon; wait"
LEAVES = (
    "env -i /usr/bin/setsid /bin/sh -c '/bin/sleep 600 >/dev/null 2>&1 & echo $! > daemon'; {then}"
)


async def daemon(directory: str) -> int:
    file = Path(directory, "daemon")
    return int(await until(lambda: file.exists() and file.read_text().strip(), "the daemon"))


def lives(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


@pytest.fixture(params=["cgroup", "sessions"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sessions":
        monkeypatch.setattr(cgroup, "place", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("script", [STAYS, LEAVES.format(then="sleep 600"), LEAVES.format(then="")])
async def test_no_process_outlives_its_job_where_it_has_a_group(
    bench: Bench, way: str, script: str
) -> None:
    """Without one, who has a session of its own and no parent any more is not found."""
    runner = bench.runner()
    request = bench.request(script)
    job_id = await runner.submit(request)
    pid = await daemon(request.directory)
    try:
        grouped = cgroup.place() is not None
        if "wait" in script or "sleep 600" in script.rpartition(";")[2]:
            await runner.cancel({job_id: request.name})
        job = await until_state(runner, job_id)
        assert job.reason in (EndReason.CANCELLED, EndReason.FINISHED)
        if grouped or "wait" in script:
            await until(lambda: not lives(pid), "the end of the daemon")
        else:
            assert lives(pid), "docs/security.md says that it remains"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if above := cgroup.place():
        assert not list(above.glob(f"hpcbridge-{request.name}*")), "an empty group is removed"


async def test_who_cleared_its_environment_in_the_jobs_session_ends_with_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "place", lambda: None)
    runner = bench.runner()
    request = bench.request("env -i /bin/sh -c 'sleep 600 & echo $! > daemon'; exit 0")
    job_id = await runner.submit(request)
    pid = await daemon(request.directory)
    await until_state(runner, job_id)
    await until(lambda: not lives(pid), "the end of who stayed in the session")


async def test_others_with_the_jobs_cookie_or_pid_are_none_of_its_family(bench: Bench) -> None:
    mine = os.getpid()
    assert processes.family([], None) == set()
    family = processes.family([mine], None)
    assert mine in family
    assert os.getppid() not in family or os.getsid(0) == os.getsid(os.getppid())
    assert 1 not in family or os.getsid(0) == os.getsid(1)
