"""What is told of jobs that wait."""

from typing import Any

from tests.schedulers.slurmrest.fakerest import Script, adapter
from tests.schedulers.slurmrest.jobs import job, listed, listing


def pending(number: int, priority: int, **changes: Any) -> dict[str, Any]:
    boxed = {"set": True, "infinite": False, "number": priority}
    given = {"job_state": ["PENDING"], "state_reason": "Priority", "batch_host": ""}
    return job(**(given | {"job_id": number, "priority": boxed} | changes))


async def test_a_job_that_waits_knows_its_place_its_start_and_what_it_waits_for() -> None:
    jobs = [
        pending(1, 5, user_name="bob"),
        pending(2, 9, user_name="bob"),
        pending(3, 9, user_name="bob", partition="other"),
        pending(4, 0, user_name="bob", state_reason="JobHeldUser"),
        pending(5, 5, tres_per_node="gres/gpu:2", start_time=1795290000),
        job(job_id=6),
    ]
    found = await adapter(Script(get_jobs=listing(*jobs))).outlook(["5", "6", "99"])
    assert set(found) == {"5"}
    assert (found["5"].queue, found["5"].ahead, found["5"].kind) == ("viz", 2, "partition")
    assert found["5"].start == 1795290000
    assert found["5"].waits_for == "2 GPUs"


async def test_no_place_is_told_where_others_jobs_may_be_hidden() -> None:
    found = await adapter(Script(get_jobs=listing(pending(5, 1), pending(4, 2)))).outlook(["5"])
    assert found["5"].ahead is None


async def test_a_job_that_can_never_run_is_told_as_such() -> None:
    reason = "PartitionTimeLimit"
    assert "never" in (await listed(pending(5, 1, state_reason=reason)))["5"].hopeless
    several = pending(5, 1, state_reason=reason, partition="a,b")
    assert not (await listed(several))["5"].hopeless
