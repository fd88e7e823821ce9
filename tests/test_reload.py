"""SIGHUP: a real service reads its configuration again, and goes on with the old one if it must."""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge.web.reloading import NOT_RELOADED
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.servers

Serve = Callable[..., Any]
ROOT = Path(__file__).parents[1]
DONE = re.compile(rf"the configuration is reloaded: .*|{NOT_RELOADED}.*")
HERE = "http://localhost"


def outcomes(service: Any) -> list[str]:
    """What became of each reload so far."""
    return DONE.findall(service.log)


def reload(service: Any) -> str:
    """Have it read the file again; what it said of that."""
    before = len(outcomes(service))
    service.process.send_signal(signal.SIGHUP)
    return str(wait_until(lambda: outcomes(service)[before:], "the reload")[0])


def titles(service: Any) -> dict[str, str]:
    reply = service.http.get("/paraview/applications").json()
    return {each["name"]: each["title"] for each in reply["applications"]}


def metric(service: Any, name: str) -> float:
    text = service.http.get("/metrics").text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_new_applications_are_shown_and_launched_and_sessions_keep_what_they_have(
    site: Any, serve: Serve
) -> None:
    site.write()
    service = serve("--end-sessions")
    session = service.post({"application": "cone"}).json()
    fresh = site.config["applications"]["cone"] | {"title": "A new flow", "description": "Fresh."}
    tuned = {"title": "Tuned again", "parameters": {"level": {"max": 5}}}
    site.write(applications={"cone": None, "flow": fresh, "tuned": tuned})
    told = reload(service)
    for key in ("applications.cone", "applications.flow", "applications.tuned.title"):
        assert key in told
    assert {"flow": "A new flow", "tuned": "Tuned again"}.items() <= titles(service).items()
    assert "cone" not in titles(service)
    page = service.http.get("/").text
    assert "A new flow" in page
    assert "Fresh." in page
    assert service.post({"application": "flow"}).status_code == 200
    refused = service.post({"application": "cone"})
    assert refused.status_code == 400
    assert "There is no application 'cone'" in refused.json()["error"]
    assert service.post({"application": "tuned", "level": 7}).status_code == 400
    # That of before goes on, as it was.
    assert service.state(session["id"]) == "ready"
    target = f"/proxy?sessionId={session['id']}&path="
    assert service.http.get(target).status_code == 502  # the program accepts, and says nothing
    assert service.http.delete(f"/paraview/{session['id']}").status_code == 200
    assert service.stop() == 0
    assert "Traceback" not in service.log


BROKEN = {
    "[applications": "not TOML",
    "": "clusters: required, but missing.",
    "[server]\nprot = 1\n": "server.prot: unknown key. Did you mean 'port'?",
}


def test_a_broken_file_is_refused_with_the_reason_and_the_last_good_one_stays(
    site: Any, serve: Serve
) -> None:
    good = site.write().read_text()
    service = serve("--end-sessions")
    assert metric(service, "hpcbridge_configuration_reload_successful") == 1
    for broken, said in BROKEN.items():
        site.path.write_text(broken)
        told = reload(service)
        assert told.startswith(NOT_RELOADED)
        assert said in told
        assert metric(service, "hpcbridge_configuration_reload_successful") == 0
    site.path.unlink()
    assert "cannot be read: No such file or directory" in reload(service)
    assert service.post({"application": "cone"}).status_code == 200
    site.path.write_text(good)
    assert reload(service) == "the configuration is reloaded: all as before"
    assert metric(service, "hpcbridge_configuration_reload_successful") == 1
    assert "Traceback" not in service.log


def test_a_template_that_cannot_be_used_keeps_the_last_good_configuration(
    site: Any, serve: Serve
) -> None:
    folder = site.root / "templates"
    folder.mkdir()
    own = folder / "own.sh"
    own.write_text("#!/bin/bash\n{% include 'prelude.sh' %}\nhpcbridge_run {{ app.program }}\n")
    site.write(template_dirs=[str(folder)])
    service = serve("--end-sessions")
    site.write(
        template_dirs=[str(folder)],
        applications={"cone": {"template": "own.sh", "title": "Own", "properties": None}},
    )
    told = reload(service)
    assert told.startswith(NOT_RELOADED)
    assert "cone: " in told
    assert "program" in told
    assert titles(service)["cone"] == "cone"


def test_what_needs_a_restart_is_told_and_the_rest_counts(site: Any, serve: Serve) -> None:
    site.write(limits={"sessions": 1})
    service = serve("--end-sessions")
    assert service.post({"application": "cone"}).status_code == 200
    assert service.post({"application": "cone"}).status_code == 503
    site.write(limits={"sessions": 2, "connections": 9}, server={"max_body": 999})
    assert reload(service) == "the configuration is reloaded: limits.sessions"
    restarted = "the service has to be restarted for: server.max_body, limits.connections"
    wait_until(lambda: restarted in service.log)
    assert service.post({"application": "cone"}).status_code == 200
    site.write(limits={"sessions": 2}, clusters={"here": {"drain": "moving house"}})
    assert reload(service) == "the configuration is reloaded: clusters.here.drain"
    refused = service.post({"application": "cone"})
    assert refused.status_code == 503
    assert "moving house" in refused.json()["error"]
    assert "moving house" in service.http.get("/paraview/applications").text
    site.write(limits={"sessions": 9})
    reload(service)
    assert service.post({"application": "cone"}).status_code == 200


def test_who_waits_for_a_launch_is_answered_though_its_application_has_gone(
    site: Any, serve: Serve
) -> None:
    site.write()
    service = serve("--end-sessions")
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(service.post({"application": "mute"})))
    thread.start()
    wait_until(site.processes, "the application")
    site.write(applications={"mute": None})
    assert "applications.mute" in reload(service)
    thread.join(60)
    assert replies[0].status_code == 504
    assert "Traceback" not in service.log


def test_warm_sessions_follow(site: Any, serve: Serve) -> None:
    warm = {"count": 1, "shared": True}
    site.write(applications={"cone": {"walltime": 600, "warm": warm}})
    service = serve("--end-sessions")

    series = 'hpcbridge_sessions{application="cone",cluster="here",state="ready"} '

    def ready(count: int) -> bool:
        return f"{series}{count}.0\n" in service.http.get("/metrics").text

    wait_until(lambda: ready(1), "the first one")
    site.write(applications={"cone": {"walltime": 600, "warm": warm | {"count": 2}}})
    reload(service)
    wait_until(lambda: ready(2), "a second one")
    site.write()
    reload(service)
    wait_until(lambda: ready(0), "none")


def test_asked_again_and_again_it_reads_the_last_state_of_the_file(site: Any, serve: Serve) -> None:
    site.write()
    service = serve("--end-sessions")
    for number in range(20):
        site.write(applications={"cone": {"title": f"Cone {number}"}})
        service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: titles(service)["cone"] == "Cone 19")
    assert service.post({"application": "cone"}).status_code == 200
    assert "Traceback" not in service.log


def test_the_service_tells_since_when_it_runs_not_when_it_reloaded(site: Any, serve: Serve) -> None:
    site.write()
    service = serve("--end-sessions")
    begun = service.http.get("/status").json()["started_at"]
    time.sleep(1)  # it is told in seconds
    reload(service)
    assert service.http.get("/status").json()["started_at"] == begun


def test_a_port_of_the_command_line_stays(site: Any, serve: Serve) -> None:
    site.write(server={"port": 1})
    service = serve("--port", "0", "--end-sessions")
    assert reload(service) == "the configuration is reloaded: all as before"
    assert "restarted" not in service.log


# -- a terminal

TERMINAL = """
import fcntl, os, pty, sys, termios
keeper, end = pty.openpty()
fcntl.ioctl(end, termios.TIOCSCTTY, 0)
from hpcbridge.cli.main import main
sys.argv[0] = "hpcbridge"
main()
"""


class InTerminal(ServiceProcess):
    """A service whose terminal may be closed."""


@pytest.mark.parametrize("ignored", [False, True], ids=["hung up", "nohup"])
def test_the_end_of_its_terminal_ends_it_unless_that_is_ignored(
    site: Any, tmp_path: Path, ignored: bool
) -> None:
    program = tmp_path / "terminal.py"
    program.write_text(f"#!{sys.executable}\n{TERMINAL}")
    site.write()
    service = InTerminal(site.root, site.path, "--end-sessions", PYTHONPATH=str(ROOT))
    service.program = (str(program),)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN) if ignored else None
    try:
        service.start()
    finally:
        if ignored:
            signal.signal(signal.SIGHUP, before)
    try:
        session_id = service.post({"application": "cone"}).json()["id"]
        service.process.send_signal(signal.SIGHUP)
        if ignored:
            assert service.state(session_id) == "ready"
            assert service.stop() == 0
        else:
            assert service.wait() == 0
        assert not site.processes()
        assert outcomes(service) == []
    finally:
        service.stop(signal.SIGKILL)
