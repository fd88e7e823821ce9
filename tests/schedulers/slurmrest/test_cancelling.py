"""Jobs are cancelled one by one, and only by ids that are ids."""

import pytest

from hpcbridge.errors import ClusterError
from tests.schedulers.slurmrest.fakerest import VERSIONS, Script, adapter, json, recorded
from tests.schedulers.slurmrest.jobs import NEW, job, listing

OURS = listing(job(job_id=7), job(job_id=8))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["delete_ok", "delete_again", "err_delete_invalid"])
async def test_cancelling_what_is_over_or_unknown_is_no_error(version: str, name: str) -> None:
    script = Script(version, get_job=OURS, delete_job=recorded(name, version))
    await adapter(script).cancel({"7": "n", "8": "n"})
    paths = {request.url.path for request in script.sent("DELETE", "job")}
    assert paths == {f"/slurm/{version}/job/{n}" for n in (7, 8)}


async def test_one_job_that_cannot_be_cancelled_keeps_no_other() -> None:
    denied = json(500, errors=[{"error_number": 2002, "error": "Access/permission denied"}])
    script = Script(get_job=OURS, delete_job=[denied, recorded("delete_ok", NEW)])
    with pytest.raises(ClusterError, match="permission denied"):
        await adapter(script).cancel({"7": "n", "8": "n"})
    assert len(script.sent("DELETE", "job")) == 2


async def test_a_job_of_which_nothing_can_be_read_is_cancelled_all_the_same() -> None:
    script = Script(get_job=json(200, jobs=7), delete_job=recorded("delete_ok", NEW))
    await adapter(script).cancel({"7": "n"})
    assert len(script.sent("DELETE", "job")) == 1


async def test_a_job_that_has_another_name_is_left_alone() -> None:
    parts = [job(job_id=7, name="x"), job(job_id=8, name="n")]
    script = Script(get_job=listing(*parts), delete_job=recorded("delete_ok", NEW))
    await adapter(script).cancel({"7": "n"})  # a part of it has the name
    assert len(script.sent("DELETE", "job")) == 1
    await adapter(script).cancel({"7": "other"})
    assert len(script.sent("DELETE", "job")) == 1


@pytest.mark.parametrize("job_id", ["../../jobs", "7/../8", "", "7?x", "-1", "7\n"])
async def test_what_is_no_job_id_never_gets_into_a_path(job_id: str) -> None:
    script = Script()
    with pytest.raises(ClusterError, match="not the id"):
        await adapter(script).cancel({job_id: "n"})
    assert script.requests == []


async def test_nothing_is_asked_to_cancel_no_job() -> None:
    script = Script()
    await adapter(script).cancel({})
    assert script.requests == []
