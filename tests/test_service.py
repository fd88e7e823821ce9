"""The service as a real process: how it starts, stops, fails, and takes up what was left."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge.cli import main as cli
from tests.waiting import wait_until

pytestmark = pytest.mark.servers

Serve = Callable[..., Any]


def sentence(said: str) -> str:
    """All that a service that did not start said: one line."""
    (line,) = said.splitlines()
    assert line.startswith("hpcbridge: ")
    return line


@pytest.fixture
def refusal(
    site: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What ``hpcbridge serve`` says (in this process, which is quicker) when it cannot start."""

    def told(**sections: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", "serve", str(site.write(**sections))])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1
        said = capsys.readouterr()
        assert said.out == ""
        return sentence(said.err)

    return told


def accepts(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, 60):
        return True
    return False


def local_end(service: Any, session_id: str) -> tuple[str, int]:
    """Where the front end must connect, as the database has it."""
    connection = sqlite3.connect(service.site.state_dir / "hpcbridge.sqlite")
    query = "SELECT address FROM doors WHERE session_id = ?"
    (address,) = connection.execute(query, (session_id,)).fetchone()
    connection.close()
    host, _, port = address.rpartition(":")
    return host, int(port)


def running_program(site: Any, name: str) -> int | None:
    """The process of an application's program."""
    for pid in site.processes():
        with contextlib.suppress(OSError):
            if str(site.root / name).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


def nothing_left(site: Any) -> bool:
    """No process, no session directory, no map line, no socket."""
    lines = [path.read_text() for path in site.root.glob("map/*")]
    sockets = list((site.state_dir / "sockets").glob("*"))
    return not (site.processes() or site.directories() or any(lines) or sockets)


# -- starting


def test_it_says_where_it_listens_once_it_accepts_requests(site: Any, serve: Serve) -> None:
    site.write(server={"port": 1})
    service = serve("--port", "0", HPCBRIDGE_SERVER__PORT="2")
    assert not service.url.endswith((":0", ":1", ":2"))
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", service.url)
    assert service.http.get("/openapi.json").status_code == 200
    assert service.http.get("/").headers["content-type"].startswith("text/html")
    assert stat.S_IMODE(site.state_dir.stat().st_mode) == 0o700
    assert service.stop() == 0
    assert service.log == ""


def test_a_busy_port_is_told(refusal: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(server={"port": port})
    assert f"cannot listen on port {port} of 127.0.0.1: Address already in use" in said
    assert "HPCBRIDGE_SERVER__PORT" in said


def test_a_host_that_is_none_is_told(refusal: Callable[..., str]) -> None:
    said = refusal(server={"host": "x" * 70 + ".example.org"})
    assert "server.port: cannot listen" in said


def test_two_services_cannot_share_a_state_directory(
    site: Any, serve: Serve, refusal: Callable[..., str]
) -> None:
    site.write()
    first = serve()
    said = refusal()
    assert "Another hpcbridge is running" in said
    assert str(site.state_dir) in said
    assert first.http.get("/openapi.json").status_code == 200


def test_a_state_directory_that_cannot_be_made_is_told(
    site: Any, refusal: Callable[..., str]
) -> None:
    (site.root / "file").write_text("")
    said = refusal(server={"state_dir": "file/state"})
    assert "server.state_dir" in said
    assert "cannot be written: Not a directory" in said


def test_a_state_directory_that_others_could_replace_is_told(
    site: Any, refusal: Callable[..., str]
) -> None:
    site.state_dir.mkdir()
    site.state_dir.chmod(0o777)
    assert f"others could replace what is in {site.state_dir}" in refusal()
    site.state_dir.chmod(0o1777)
    os.chown(site.state_dir, 12345, -1)
    scratch = site.root / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    site.state_dir.rename(scratch / "state")
    said = refusal(server={"state_dir": str(scratch / "state")})
    assert f"others could replace what is in {scratch}" in said


PLACES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "server.state_dir": lambda place: {"server": {"state_dir": str(place / "state")}},
    "server.unix_socket": lambda place: {"server": {"unix_socket": str(place / "api.sock")}},
    "store.url": lambda place: {"store": {"url": f"sqlite+aiosqlite:///{place}/db.sqlite"}},
    "frontend.map_file": lambda place: {"frontend": {"map_file": str(place / "map")}},
    "frontend.socket_dir": lambda place: {
        "frontend": {"local_end": "unix", "socket_dir": str(place / "s")}
    },
    "auth.audit_file": lambda place: {"auth": {"audit_file": str(place / "audit.log")}},
    "auth.secret_file": lambda place: {
        "server": {"unix_socket": str(place.parents[1] / "api.sock")},
        "auth": {"accept": ["header"], "secret_file": str(place / "secret")},
        "clusters": {"here": {"trust_jobs": True}},
    },
}


@pytest.mark.parametrize("setting", PLACES)
@pytest.mark.parametrize(
    ("mode", "owner"),
    [(0o777, 0), (0o2775, 0), (0o755, 12345)],
    ids=["of everybody", "of a group", "of somebody"],
)
def test_what_others_could_replace_two_directories_above_is_told(
    directory: Path, refusal: Callable[..., str], setting: str, mode: int, owner: int
) -> None:
    above = directory / "above"
    place = above / "place"
    place.mkdir(parents=True)
    (place / "secret").write_text("s3cret" * 8)
    (place / "secret").chmod(0o600)
    above.chmod(mode)
    os.chown(above, owner, -1)
    said = refusal(**PLACES[setting](place))
    assert f"{setting}: others could replace what is in {above}" in said
    assert "s3cret" not in said


def test_a_map_that_cannot_be_written_is_told(refusal: Callable[..., str]) -> None:
    said = refusal(frontend={"map_file": "missing/map"})
    assert "Cannot write the session map" in said


def test_a_database_that_is_none_is_told(site: Any, refusal: Callable[..., str]) -> None:
    site.state_dir.mkdir()
    (site.state_dir / "hpcbridge.sqlite").write_text("no database" * 100)
    said = refusal()
    assert "cannot be opened" in said


def test_content_that_is_not_there_is_told(refusal: Callable[..., str]) -> None:
    said = refusal(server={"content": "missing"})
    assert "server.content" in said


def test_a_group_that_is_not_there_is_told(refusal: Callable[..., str]) -> None:
    said = refusal(frontend={"group": "nosuchgroup"})
    assert "there is no group 'nosuchgroup'" in said


def test_a_state_directory_too_deep_for_sockets_is_told(refusal: Callable[..., str]) -> None:
    said = refusal(frontend={"local_end": "unix"}, server={"state_dir": "x" * 100})
    assert "frontend.socket_dir" in said


# -- stopping


def test_sigterm_leaves_sessions_running_and_the_next_service_has_them(
    site: Any, serve: Serve
) -> None:
    site.write()
    first = serve()
    session_id = first.post({"application": "cone"}).json()["id"]
    address = local_end(first, session_id)
    assert accepts(address)
    assert first.stop(signal.SIGTERM) == 0
    assert site.processes()
    assert not accepts(address)

    second = serve()
    wait_until(lambda: accepts(address), "the session's old local port")
    assert second.state(session_id) == "ready"
    assert second.http.delete(f"/paraview/{session_id}").status_code == 200
    wait_until(lambda: nothing_left(site), "the end of everything")
    assert second.stop() == 0
    assert "Traceback" not in second.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_end_sessions_nothing_is_left(site: Any, serve: Serve, number: int) -> None:
    (site.root / "map").mkdir()
    site.write(frontend={"map_file": "map/sessions"})
    service = serve("--end-sessions")
    ids = [service.post({"application": "cone"}).json()["id"] for _ in range(2)]
    ends = [local_end(service, session_id) for session_id in ids]
    assert service.stop(number) == 0
    assert nothing_left(site)
    assert not any(accepts(address) for address in ends)
    assert "Traceback" not in service.log


def test_a_launch_that_waits_is_answered_when_the_service_stops(site: Any, serve: Serve) -> None:
    site.write()
    service = serve("--end-sessions")
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(service.post({"application": "late"})))
    thread.start()
    wait_until(site.processes, "the application")
    service.process.send_signal(signal.SIGTERM)
    thread.join(60)
    assert service.wait() == 0
    assert replies[0].status_code == 503
    assert "The service is stopping" in replies[0].json()["error"]
    assert nothing_left(site)
    assert "Traceback" not in service.log


# -- after a crash


def test_after_a_kill_the_next_service_takes_everything_up(site: Any, serve: Serve) -> None:
    (site.root / "map").mkdir()
    map_file = site.root / "map/sessions"
    site.write(frontend={"map_file": "map/sessions"})
    first = serve()
    session_id = first.post({"application": "cone"}).json()["id"]
    address = local_end(first, session_id)
    line = f"{session_id} {address[0]}:{address[1]}\n"
    assert map_file.read_text() == line
    waiting = first.post({"application": "late"}, headers={"Prefer": "respond-async"}).json()["id"]
    wait_until(lambda: first.state(waiting) == "starting", "the second session to start")
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    map_file.write_text(f"stale{'x' * 30} 127.0.0.1:1\n{line}")

    second = serve()
    wait_until(lambda: map_file.read_text() == line, "a true map")
    assert accepts(address)
    assert second.state(session_id) == "ready"
    assert second.state(waiting) == "starting"
    for each in (session_id, waiting):
        assert second.http.delete(f"/paraview/{each}").status_code == 200
    wait_until(lambda: nothing_left(site), "the end of everything")
    assert second.stop() == 0
    assert "Traceback" not in second.log


def test_stale_sockets_are_removed_and_those_of_sessions_are_opened_again(
    site: Any, serve: Serve
) -> None:
    directory = Path(tempfile.mkdtemp())  # a short name: sockets allow 107 bytes
    site.write(frontend={"local_end": "unix", "socket_dir": str(directory)})
    try:
        first = serve()
        session_id = first.post({"application": "cone"}).json()["id"]
        path = directory / f"{session_id}.sock"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        first.stop(signal.SIGKILL)
        stale = directory / f"{'x' * 40}.sock"
        stale.touch()
        assert path.exists()
        second = serve()

        def reached() -> bool:
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(str(path))
                return True
            return False

        wait_until(reached, "the session's socket")
        assert not stale.exists()
        second.http.delete(f"/paraview/{session_id}")
        wait_until(lambda: not list(directory.iterdir()), "no socket left")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_sessions_that_cannot_go_on_are_ended_by_the_next_service(site: Any, serve: Serve) -> None:
    site.write()
    first = serve()
    asynchronous = {"Prefer": "respond-async"}
    gone = first.post({"application": "cone"}).json()["id"]
    over = first.post({"application": "late"}, headers=asynchronous).json()["id"]
    late = wait_until(lambda: running_program(site, "late"), "the second application")
    os.kill(late, signal.SIGKILL)  # while the service is on its way out
    assert first.stop(signal.SIGINT) == 0
    assert site.processes()

    site.write(applications={"cone": None})
    second = serve()
    for session_id in (over, gone):
        wait_until(lambda wanted=session_id: second.state(wanted) == "ended", "the session's end")
    reply = second.http.get(f"/paraview/{over}").json()
    assert reply["reason"] in ("failed", "cancelled")
    assert "error" in reply
    assert "sessionURL" not in reply
    assert second.http.get(f"/paraview/{gone}").json()["reason"] == "stopped"
    wait_until(lambda: nothing_left(site), "the end of everything")
    assert "Traceback" not in second.log


# -- applications that go wrong


@pytest.mark.parametrize(
    ("application", "status", "said"),
    [
        ("crash", 502, "exit status 7.\nThe last lines of its output:\ncannot open display: mist"),
        (
            "mute",
            504,
            "its output lacks 'Starting factory' or 'App running at:' (its setting ready_line).\n"
            "The last lines of its output:\nstill",
        ),
        ("missing", 502, "exit status 127.\nThe last lines of its output:\n"),
    ],
)
def test_an_application_that_goes_wrong_is_told_and_leaves_nothing(
    failing: Any, application: str, status: int, said: str
) -> None:
    reply = failing.post({"application": application})
    assert reply.status_code == status
    assert said in reply.json()["error"]
    assert set(reply.json()) == {"error"}
    wait_until(lambda: nothing_left(failing.site), "the end of everything")
    connection = sqlite3.connect(failing.site.state_dir / "hpcbridge.sqlite")
    rows = connection.execute("SELECT state, secret FROM sessions").fetchall()
    endpoints = connection.execute("SELECT * FROM doors").fetchall()
    connection.close()
    assert set(rows) == {("ended", None)}
    assert endpoints == []
    assert "Traceback" not in failing.log


@pytest.fixture(scope="module")
def failing(shared_site: Any, request: pytest.FixtureRequest) -> Any:
    """A service whose map and database show whether anything was left."""
    (shared_site.root / "map").mkdir()
    shared_site.config["frontend"] = {"map_file": "map/sessions"}
    return request.getfixturevalue("shared_service")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#!/bin/bash\n{% if %}\n", "own.sh"),
        (b"#!/bin/bash\necho {{ app.programm }}\n", "app.programm is not defined"),
        (b"#!/bin/bash\n# gr\xfc\xdfe\n", "not UTF-8"),
        (b"echo no script\n", "must begin with #!"),
        (None, "was not found"),
    ],
)
async def test_a_template_that_cannot_be_used_is_told_and_leaves_nothing(
    site: Any, launcher: Any, content: bytes | None, said: str
) -> None:
    (site.root / "own").mkdir()
    if content is not None:
        (site.root / "own/own.sh").write_bytes(content)
    async with launcher(
        template_dirs=["own"], applications={"cone": {"template": "own.sh"}}
    ) as api:
        reply = await api.post({"application": "cone"})
    assert reply.status_code == 500
    assert said in reply.json()["error"]
    assert nothing_left(site)


async def test_a_session_root_that_cannot_be_written_is_told(site: Any, launcher: Any) -> None:
    async with launcher(clusters={"here": {"session_root": "/proc/sessions"}}) as api:
        reply = await api.post({"application": "cone"})
    assert reply.status_code >= 500
    assert "cannot be written: No such file" in reply.json()["error"]


async def test_a_job_that_links_the_database_into_its_log_shows_and_breaks_nothing(
    site: Any, launcher: Any
) -> None:
    database = site.state_dir / "hpcbridge.sqlite"
    names = ("output.log", "scheduler.out", "status")
    links = "".join(f"rm -f {name}; ln {database} {name}\n" for name in names)
    program = site.program("thief", f'#!/bin/sh\ncd "$HPCBRIDGE_DIRECTORY"\n{links}exit 7\n')
    thief = {"cluster": "here", "template": "command.sh", "properties": {"program": program}}
    async with launcher(applications={"thief": thief}) as api:
        living = (await api.post({"application": "cone"})).json()["id"]
        reply = await api.post({"application": "thief"})
        assert reply.status_code == 502
        assert "exit status 7" in reply.json()["error"]
        assert "SQLite" not in reply.text
        assert (await api.row(living)).state == "ready"
        assert (await api.client.delete(f"/paraview/{living}")).status_code == 200
    assert database.read_bytes().startswith(b"SQLite format 3")
    assert nothing_left(site)


def test_a_session_takes_no_secret_of_the_service_along(site: Any, serve: Serve) -> None:
    site.write()
    service = serve(HPCBRIDGE_SERVER__LOG_LEVEL="debug", SITE_PASSWORD="pa55word")
    reply = service.post({"application": "cone"}).json()
    assert site.processes()
    for pid in site.processes():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"pa55word" not in environment
        assert reply["secret"].encode() not in environment + command
    assert reply["secret"] not in service.log


def test_the_module_and_the_command_are_the_same() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "hpcbridge", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"hpcbridge [0-9.]+\n", ran.stdout)
