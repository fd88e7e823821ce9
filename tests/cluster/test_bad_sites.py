"""Sites that are wrong or broken: each is told in a sentence, and leaves nothing behind."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.handle import Testbed
from tests.serviceprocess import ServiceProcess, Start


async def refused(service: ServiceProcess, application: str = "flow") -> tuple[int, str]:
    """The status and the error of a launch that cannot work; the service itself goes on."""
    async with service.client(timeout=60) as client:
        reply = await client.post("/paraview", json={"application": application})
        assert (await client.get("/")).status_code == 200
    assert set(reply.json()) == {"error"}
    assert "Traceback" not in service.log
    routes = service.folder / "state/sessions.map"
    if routes.exists():
        assert routes.read_text() == ""
    return reply.status_code, reply.json()["error"]


async def test_another_host_key_than_the_known_one(
    start: Start, configuration: dict[str, Any], other_host_key: Path
) -> None:
    configuration["clusters"]["lab"]["ssh"]["known_hosts"] = str(other_host_key)
    status, error = await refused(start(configuration))
    assert status == 503
    assert "host key" in error
    assert "nothing was sent" in error


async def test_a_key_that_the_login_host_refuses(
    start: Start, configuration: dict[str, Any], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    configuration["clusters"]["lab"]["ssh"]["identity_files"] = [str(key)]
    status, error = await refused(start(configuration))
    assert status == 503
    assert "refused the login" in error


async def test_a_login_host_that_is_down(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["clusters"]["lab"]["ssh"]["connect_timeout"] = 2
    with site.down("sshd-head"):
        service = start(configuration)  # only now: it connects when it starts
        status, error = await refused(service)
        assert status == 503
        assert "cannot be reached" in error or "did not answer" in error
        service.stop()
    with site.unplugged("head"):
        status, error = await refused(start(configuration))
        assert (status, "did not answer" in error) == (503, True)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free byte."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    (place / "fill").write_bytes(b"x" * 65536)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_map_that_cannot_be_written_ends_the_session_and_its_job(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    """The disk fills after the start: a service that cannot write its map does not even start."""
    place = tmp_path / "map"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        configuration["frontend"] = {"kind": "apache", "map_file": str(place / "sessions.map")}
        service = start(configuration)
        with (place / "fill").open("wb", buffering=0) as fill, contextlib.suppress(OSError):
            while fill.write(b"x" * 4096):
                pass
        status, error = await refused(service)
        assert status == 500
        assert "sessions.map" in error
        service.stop()
        assert site.jobs() == []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_cluster_without_room_for_session_directories(
    start: Start, configuration: dict[str, Any], full_disk: Path
) -> None:
    configuration["clusters"]["lab"] = {
        "scheduler": "local",
        "session_root": str(full_disk),
    }
    configuration["applications"]["flow"]["template"] = "command.sh"
    configuration["applications"]["flow"]["properties"] = {"program": "/bin/true"}
    status, error = await refused(start(configuration))
    assert status == 502
    assert "free space" in error


async def test_templates_that_are_missing_unreadable_or_misspelt(
    start: Start, configuration: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "typo.sh").write_text("#!/bin/bash\n\necho {{ app.scirpt }}\n")
    (tmp_path / "latin.sh").write_bytes(b"#!/bin/bash\n# caf\xe9\n")
    flow = configuration["applications"]["flow"]
    for name in ("typo", "latin", "nosuch"):
        configuration["applications"][name] = flow | {"template": f"{name}.sh"}
    service = start(configuration)
    status, error = await refused(service, "typo")
    assert status == 500
    assert "typo.sh, line 3" in error
    assert "scirpt" in error
    assert "script" in error.replace("scirpt", "")
    assert "not UTF-8" in (await refused(service, "latin"))[1]
    assert "nosuch.sh was not found" in (await refused(service, "nosuch"))[1]


async def test_more_sessions_than_are_allowed(start: Start, configuration: dict[str, Any]) -> None:
    configuration["limits"] = {"sessions": 1}
    service = start(configuration)
    async with service.client() as client:
        first = await client.post("/paraview", json={"application": "flow"})
        assert first.status_code == 200
    status, error = await refused(service)
    assert status == 503
    assert "taken" in error
