"""What another user of the cluster can see of a session: neither its secret nor its id."""

import time
from pathlib import Path
from typing import Any

import pytest

from testbed.handle import Testbed
from tests.serviceprocess import Start

# All that a curious user would look at, and more than they may read.
CURIOUS = r"""
ps auxwwwe
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n'
squeue --noheader --format=all
squeue --json
scontrol show job
for id in $(squeue -h -o %i); do scontrol write batch_script $id -; done
cat /home/alice/.hpcbridge/*/* 2>/dev/null
ls -R /home/alice 2>/dev/null
find /tmp /var/tmp /var/log /run /home /dev/shm "$1" -xdev -newermt "@$2" -type f -readable \
  2>/dev/null | xargs -r head -qc 1000000 2>/dev/null | head -c 50000000
true
"""


@pytest.mark.parametrize("place", ["head", "node"])
async def test_another_user_finds_neither_secret_nor_id(
    start: Start, configuration: dict[str, Any], site: Testbed, place: str
) -> None:
    began = str(int(time.time()))
    configuration["server"]["fields"] = ["host"]
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
    machine = session["host"] if place == "node" else "head"
    command = ["bash", "-c", CURIOUS, "-", str(site.layout.state), began]
    seen = site.run(machine, "bob", command, timeout=60).stdout
    assert "hpcb-" in seen, "the job itself can be seen"
    assert session["secret"] not in seen
    assert session["id"] not in seen


async def test_even_root_finds_no_secret_in_arguments_environments_and_job_records(
    start: Start, configuration: dict[str, Any], site: Testbed
) -> None:
    configuration["server"]["fields"] = ["host"]
    service = start(configuration)
    async with service.client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
    looked = "scontrol show job; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"
    seen = site.run(session["host"], "root", ["bash", "-c", looked]).stdout
    assert "flow.py" in seen
    assert session["secret"] not in seen
    for log in [*site.layout.state.glob("log/*"), Path(service.folder / "service.log")]:
        text = log.read_text(errors="replace")
        assert session["secret"] not in text, log
        assert session["id"] not in text, log


async def test_the_database_is_private_and_forgets_the_secret_with_the_session(
    start: Start, configuration: dict[str, Any]
) -> None:
    service = start(configuration)
    state = service.folder / "state"
    async with service.client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
        for file in state.glob("hpcbridge.sqlite*"):
            assert file.stat().st_mode & 0o077 == 0, file
        assert state.stat().st_mode & 0o077 == 0
        shown = (await client.get(f"/paraview/{session['id']}")).text
        assert session["secret"] not in shown
        await client.delete(f"/paraview/{session['id']}")
    service.stop()
    for file in state.glob("hpcbridge.sqlite*"):
        assert session["secret"].encode() not in file.read_bytes(), file
