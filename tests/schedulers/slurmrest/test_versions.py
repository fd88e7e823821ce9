"""Which version of the interface is spoken, and whether the controller behind it answers."""

import httpx
import pytest

from hpcbridge.config.slurmrestversions import deprecated
from hpcbridge.doctor.slurmrest import finding
from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown
from tests.schedulers.slurmrest.fakerest import (
    VERSIONS,
    Given,
    Script,
    adapter,
    fresh,
    json,
    recorded,
)
from tests.schedulers.slurmrest.jobs import NEW, OLD, REQUEST, job, listing


@pytest.mark.parametrize("version", [*VERSIONS, "v0.0.45"])
async def test_the_newest_version_that_is_offered_is_spoken(version: str) -> None:
    script = Script(version, get_jobs=listing())
    scheduler = adapter(script)
    await scheduler.list_jobs()
    await scheduler.list_jobs()
    assert len(script.sent("GET", f"{version}/ping")) == 1
    assert len(script.sent("GET", f"{version}/jobs")) == 2


class Newer(Script):
    """A server of which nothing is known but what it says of itself."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/openapi/v3":
            return fresh(recorded("err_bad_version", NEW))
        return fresh(json(200, paths={f"/slurm/v0.0.{n}/jobs/": {} for n in (99, 100)}))


async def test_a_server_with_only_newer_versions_is_told_with_what_it_offers() -> None:
    with pytest.raises(ClusterUnreachable, match=r"offers v0\.0\.99, v0\.0\.100") as caught:
        await adapter(Newer()).list_jobs()
    assert "v0.0.42" in str(caught.value)
    assert caught.value.lasting


async def test_a_newer_version_is_tried_when_it_is_configured() -> None:
    script = Script("v0.0.99", get_jobs=listing(job()), get_ping=recorded("ping", NEW))
    assert set((await adapter(script, version="v0.0.99").list_jobs()).jobs) == {"7"}


async def test_a_server_that_was_upgraded_is_met_in_its_new_version() -> None:
    script = Script(OLD, get_jobs=json(200, jobs=[], errors=[]))
    scheduler = adapter(script)
    await scheduler.list_jobs()
    script.version = NEW
    with pytest.raises(ClusterError):
        await scheduler.list_jobs()
    assert (await scheduler.list_jobs()).jobs == {}


@pytest.mark.parametrize(
    "ping",
    [
        recorded("ctld_down_ping", NEW),
        json(200, pings=[], errors=[]),
        json(200, pings=[{"hostname": "h", "ping": "DOWN"}], errors=[]),
        json(200, pings=[{"hostname": "h", "responding": False}], errors=[]),
        json(200, pings=[{"hostname": "h", "pinged": "DOWN", "responding": True}], errors=[]),
    ],
)
async def test_a_controller_that_is_down_is_so_although_the_ping_has_status_200(
    ping: httpx.Response,
) -> None:
    script = Script(
        get_ping=ping, get_partitions=recorded("ctld_down_jobs", NEW), get_jobs=listing()
    )
    for question in (adapter(script).list_jobs(), adapter(script).submit(REQUEST)):
        with pytest.raises(ClusterUnreachable, match="controller is down") as caught:
            await question
        assert not isinstance(caught.value, OutcomeUnknown)
    assert not script.sent("POST", "job")


class Ageing(Script):
    """Slurm 26.05, as it lists its versions."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/openapi/v3":
            get = {"v0.0.42": {"deprecated": True}, "v0.0.44": {}, "v0.0.45": {}}
            paths = {f"/slurm/{version}/jobs/": {"get": told} for version, told in get.items()}
            return fresh(json(200, paths=paths))
        return await super().__call__(request)


async def test_a_version_that_the_next_release_may_lack_is_told() -> None:
    newest = finding("lab", await adapter(Ageing("v0.0.45")).interface(), configured=False)
    assert newest.good
    assert newest.said == "It offers v0.0.42 (deprecated), v0.0.44, v0.0.45; v0.0.45 is spoken."
    old = await adapter(Ageing("v0.0.42"), version="v0.0.42").interface()
    configured = finding("lab", old, configured=True)
    assert not configured.good
    assert "Remove the setting 'version', and v0.0.45 is spoken." in configured.said
    assert "Update hpcbridge" in finding("lab", old, configured=False).said


@pytest.mark.parametrize("text", ["", "[]", '{"paths": []}', '{"paths": {"/slurm/v0.0.45/x/": 7}}'])
def test_an_odd_description_calls_nothing_deprecated(text: str) -> None:
    assert deprecated(text) == []


async def test_a_ping_that_fails_for_its_token_is_not_taken_for_an_outage() -> None:
    """From v0.0.40 on it says DOWN then."""
    down = recorded("ctld_down_ping", NEW)
    refused = recorded("err_bad_token", NEW)
    script = Script(get_ping=down, get_partitions=refused, get_jobs=listing())
    with pytest.raises(ClusterUnreachable, match="does not accept alice's token"):
        await adapter(script, Given("bad")).list_jobs()
    answers = [refused, json(200, partitions=[], errors=[])]
    script = Script(get_ping=down, get_partitions=list(answers), get_jobs=listing(job()))
    assert (await adapter(script, Given("bad", "good")).list_jobs()).jobs
    assert script.requests[-1].headers["X-SLURM-USER-TOKEN"] == "good"
