"""Programs that get ready in their own ways, really run by the embedded runner."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcbridge import tunnels
from hpcbridge.sessions import applicationend
from hpcbridge.store import State
from tests.programs import PYTHON
from tests.site import Launch, Launcher
from tests.waiting import until

# Serves HTTP in its own time, and says so or does not; ends when the file "end" is there.
PROGRAM = f"""#!{PYTHON} -SE
import http.server, os, sys, threading, time
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", self.path, flush=True)
        if "SLOW" in MODE:
            wait_for("answer")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "LINE" in MODE:
    os.write(1, b"wslink: Starting factory")
wait_for("bind")
host = "0.0.0.0" if "WIDE" in MODE else options["--host"]
server = http.server.ThreadingHTTPServer((host, int(options["--port"])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
wait_for("end")
os._exit(3)
"""
SQUATTER = """\
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("bound", flush=True)
listener.settimeout(0.01)
got = 0
import select
while not select.select([sys.stdin], [], [], 0.01)[0]:
    try:
        listener.accept()
        got += 1
    except TimeoutError:
        pass
print(got)
"""


class Running:
    """A launched session, and the directory in which its program waits for files."""

    def __init__(self, api: Launcher, session_id: str) -> None:
        self.api = api
        self.id = session_id

    async def told(self) -> dict[str, Any]:
        reply = await self.api.client.get(f"/paraview/{self.id}")
        told: dict[str, Any] = reply.json()
        return told

    async def directory(self, attempt: int = 0) -> Path:
        async def known() -> str:
            row = await self.api.row(self.id)
            return row.directory if row.attempt == attempt else ""

        return Path(await until(known, "the session directory"))

    async def status(self, line: str, attempt: int = 0) -> str:
        """The status file, once it has a line."""
        path = await self.directory(attempt) / "status"

        def text() -> str:
            told = path.read_text() if path.exists() else ""
            return told if f"\n{line}\n" in f"\n{told}" else ""

        return str(await until(text, line))

    async def reaches(self, state: State) -> dict[str, Any]:
        await until(lambda: self._is(state), f"state {state}")
        return await self.told()

    async def _is(self, state: State) -> bool:
        return (await self.api.row(self.id)).state == state


def application(site: Any, mode: str, **more: Any) -> dict[str, Any]:
    program = site.program("program", PROGRAM.replace("MODE", repr(mode)))
    given = {"cluster": "here", "template": "command.sh", "wait": 60, **more}
    return {"app": given | {"properties": {"program": program}}}


async def launched(api: Launcher) -> Running:
    reply = await api.post({"application": "app"}, headers={"Prefer": "respond-async"})
    return Running(api, reply.json()["id"])


async def test_a_program_that_says_ready_and_binds_late_is_waited_for(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "PROBE_TIME", 0.1)  # late is what is later than that
    async with launcher(applications=application(site, "LINE")) as api:
        session = await launched(api)
        await session.status("listening=0")
        log = await session.directory() / "output.log"
        await until(lambda: "Starting factory" in log.read_text(), "the ready line")
        (await session.directory() / "bind").touch()
        assert (await session.reaches(State.READY))["message"] == "Ready."


async def test_a_program_that_never_binds_its_port_is_told_so(site: Any, launcher: Launch) -> None:
    async with launcher(applications=application(site, "LINE", wait=5)) as api:
        reply = await api.post({"application": "app"})
        assert reply.status_code == 504
        assert "No process of the job listens on port" in reply.json()["error"]


async def test_a_program_that_prints_nothing_is_ready_by_its_port(
    site: Any, launcher: Launch
) -> None:
    async with launcher(applications=application(site, "WIDE", ready_port=True)) as api:
        session = await launched(api)
        await session.status("listening=0")
        (await session.directory() / "bind").touch()
        told = await session.reaches(State.READY)
        assert "more addresses of its node than 127.0.0.1" in told["message"]


async def test_a_program_is_ready_when_it_answers_however_slowly(
    site: Any, launcher: Launch
) -> None:
    async with launcher(applications=application(site, "SLOW", ready_path="/up")) as api:
        session = await launched(api)
        directory = await session.directory()
        (directory / "bind").touch()
        log = directory / "output.log"
        await until(lambda: log.exists() and "asked /up" in log.read_text(), "the question")
        assert (await api.row(session.id)).state == State.STARTING
        (directory / "answer").touch()
        await session.reaches(State.READY)


@pytest.mark.parametrize(
    "who",
    [
        {"env": {"HPCBRIDGE_DIRECTORY": "/another/session"}},
        pytest.param(
            {"user": 65534},
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root is two accounts"),
        ),
    ],
)
async def test_a_neighbour_that_takes_the_port_gets_nothing_and_the_launch_is_tried_again(
    site: Any, launcher: Launch, who: dict[str, Any]
) -> None:
    async with launcher(applications=application(site, "LINE")) as api:
        session = await launched(api)
        port = (await session.status("listening=0")).partition("port=")[2].splitlines()[0]
        neighbour = subprocess.Popen(
            [sys.executable, "-SEc", SQUATTER, port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            **who,
        )
        again = await session.directory(attempt=1)
        assert port not in (await session.status("listening=0", attempt=1)).splitlines()[0]
        (again / "bind").touch()
        await session.reaches(State.READY)
        said, _ = neighbour.communicate(b"\n", timeout=60)
        assert said.split() == [b"bound", b"0"]  # nobody has connected to it


async def test_the_end_of_a_program_ends_its_session_while_a_slow_epilogue_runs(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applicationend, "PATIENCE", 0.5)
    epilogue = site.program(
        "epilogue", "#!/bin/bash\nwhile [[ ! -e done ]]; do sleep 0.05; done; touch ../through\n"
    )
    clusters = {"here": {"options": {"epilogue": epilogue}}}
    async with launcher(applications=application(site, "LINE"), clusters=clusters) as api:
        session = await launched(api)
        directory = await session.directory()
        (directory / "bind").touch()
        await session.reaches(State.READY)
        (directory / "end").touch()
        told = await session.reaches(State.ENDED)
        assert (told["reason"], told["error"]) == (
            "failed",
            "The session is over: exit status 3.",
        )
        assert not (await api.row(session.id)).job_ended
        (directory / "done").touch()
        await until(lambda: (site.session_root / "through").exists(), "the epilogue's end")
