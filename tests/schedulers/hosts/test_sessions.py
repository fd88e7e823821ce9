"""Sessions on machines without a batch system, through a service that is killed, and its doctor."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.doctor import examine
from tests.machines import Machines
from tests.schedulers.hosts.lab import A, B
from tests.site import Service, Site
from tests.waiting import wait_until


@pytest.fixture
def machines(site: Site, tmp_path: Path) -> Iterator[Machines]:
    with Machines(tmp_path / "machines", A, B) as machines:
        settings = machines.settings(slots=1, session_root=str(site.session_root), queue=0)
        site.config["clusters"]["here"] = settings.model_dump(mode="json", exclude_none=True)
        yield machines


def told(service: Service, session_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get(f"/paraview/{session_id}").json()
    return found


@pytest.mark.timeout(400)
def test_a_service_that_is_killed_finds_its_sessions_on_the_machines(
    site: Site, machines: Machines, serve: Callable[..., Service]
) -> None:
    # A launch goes on after a restart if that was in time, however slow this machine is.
    site.config["applications"]["cone"]["wait"] = 1000
    site.write(server={"fields": ["host", "port"]})
    service = serve()
    first = service.post({"application": "cone"}).json()
    assert first["host"] in (A, B)
    asynchronous = {"Prefer": "respond-async"}
    second = service.post({"application": "cone"}, headers=asynchronous).json()
    service.stop(signal.SIGKILL)  # in the middle of the second launch
    service = serve()
    sessions = [first["id"], second["id"]]

    def ready() -> bool:
        return all(told(service, each)["state"] == "ready" for each in sessions)

    wait_until(ready, "both sessions", 200)
    assert {told(service, each)["host"] for each in sessions} == {A, B}
    full = service.post({"application": "cone"})
    assert full.status_code == 503
    assert "All slots (2)" in full.json()["error"]
    for each in sessions:
        assert service.http.delete(f"/paraview/{each}").status_code == 200
    wait_until(lambda: not site.processes(), "nothing left", 200)
    wait_until(lambda: [each.name for each in site.directories()] == [".hosts"], "no files", 200)


async def test_the_doctor_looks_at_each_machine(site: Site, machines: Machines) -> None:
    machines[B].stop()
    found = [each async for each in examine(site.write())]
    said = {(each.what, each.good): each.said for each in found}
    assert "is reached. Its host key is ssh-ed25519" in str(found)
    assert said["here: " + A, True].startswith("It sees session_root, and has Python 3.")
    assert "cannot be reached: Connection refused" in said["here: " + B, False]
    assert said["here: scheduler", True]
    machines[B].start()


async def test_the_doctor_tells_of_a_machine_with_other_files(
    site: Site, machines: Machines
) -> None:
    text = machines.python.read_text()
    other = (
        f"case $SSH_CONNECTION in *' {A} '*) exec sed -n '$s/.*/{{\"hpcbridge\": 1}}/p';; esac\n"
    )
    machines.python.write_text(text.replace("#!/bin/sh\n", f"#!/bin/sh\n{other}"))
    found = [each async for each in examine(site.write())]
    wrong = [each.said for each in found if each.what == f"here: {A}" and not each.good]
    assert "session_root has to be on a file system that all hosts share" in wrong[0]
