"""``hpcbridge serve launcher.json``: the file runs as it is, and its clients notice nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import hpcbridge
from hpcbridge.frontends.textmap import parse_map
from tests.processes import marked
from tests.programs import PYTHON
from tests.serviceprocess import ServiceProcess
from tests.waiting import wait_until
from tests.wslinkclient import WslinkClient

pytestmark = pytest.mark.servers

APPS = Path(hpcbridge.__file__).parent / "apps"
ECHO = f"""#!{PYTHON} -SE
import json, os, socket, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((options["--host"], int(options["--port"])))
found = {{"argv": sys.argv, "cwd": os.getcwd(), "display": os.environ.get("DISPLAY")}}
with open(options["--to"], "w") as file:
    json.dump(found, file)
print("at your service", end="", flush=True)
while True:
    server.accept()[0].close()
"""
FILE = """\ufeff{
  ## The launcher's file, as in the older documentation
  "configuration": {
    "host" : "localhost",                         # name of the interface
    "port" : 9000,
    "endpoint": "paraview",
    "proxy_file" : "proxy.txt",
    "sessionURL" : "ws://${host}:${port}/ws",     // straight to the application
    "timeout" : 60,
    "log_dir" : ".",
    "fields" : ["file", "updir", "lines", "host", "port"],
    "sanitize": {
      "lines": { "type": "regexp", "regexp": "^[0-9]{1,3}$", "default": "40" },
      "mode": { "type": "inList", "list": ["fast", "fine"], "default": "fast" }
    }
  },
  "sessionData" : { "updir": "${dataDir}/Home" },
  "resources" : [ { "host" : "localhost", "port_range" : [9001, 9004] } ],
  "properties" : { "python": "PYTHON", "apps": "APPS", "dataDir": "/srv/data" },
  "apps" : {
    "flow" : {
      "cmd" : [ "${python}", "${apps}/flow.py", "--port", "$port", "--streamlines", "${lines}",
                "--authKey", "${secret}" ],
      "ready_line" : "Starting factory"
    },
    "keyless" : {  /* does not ask for the secret */
      "cmd" : [ "${python}", "${apps}/flow.py", "--port", "$port", "--streamlines", "20" ],
      "ready_line" : "Starting factory"
    },
    "echo" : {
      "cmd" : [ "./echo", "--host", "${host}", "--port", "${port}", "--to", "${dataDir}FOLDER/said",
                "--mode", "${mode}", "--file", "${dataDir}/${file}" ],
      "ready_line" : "at your service"
    },
    "broken" : { "cmd" : [ "./no-such-program", "${port}" ], "ready_line" : "x" }
  }
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("launcher")
    text = FILE.replace("PYTHON", sys.executable).replace("APPS", str(APPS))
    text = text.replace("${dataDir}FOLDER", str(found))
    (found / "launcher.json").write_text(text.replace("\n", "\r\n"))
    (found / "echo").write_text(ECHO)
    (found / "echo").chmod(0o755)
    return found


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        folder,
        folder / "launcher.json",
        "--end-sessions",
        HPCBRIDGE_SERVER__PORT="0",
        HPCBRIDGE_SERVER__STATE_DIR=str(folder / "state"),
        DISPLAY=":97",
    ) as running:
        yield running


@pytest.fixture
def post(service: ServiceProcess) -> Iterator[Any]:
    """Post a launch as browsers do; the sessions end with the test."""
    with httpx.Client(base_url=service.url, timeout=90) as client:
        started: list[str] = []

        def posted(**body: Any) -> httpx.Response:
            reply = client.post("/paraview/", content=json.dumps(body))
            if "id" in reply.json():
                started.append(reply.json()["id"])
            return reply

        yield posted
        for session in started:
            client.delete(f"/paraview//{session}")


def said(folder: Path) -> dict[str, Any]:
    """What the last echo told of itself."""
    found: dict[str, Any] = json.loads((folder / "said").read_text())
    return found


def proper(reply: httpx.Response) -> dict[str, Any]:
    """The body of a launch that a client of the old launcher takes for one."""
    assert reply.status_code == 200
    body: dict[str, Any] = reply.json()
    assert "error" not in body
    assert all(isinstance(body[key], str) for key in ("id", "sessionURL", "secret"))
    return body


@pytest.mark.parametrize("application", ["flow", "keyless"])
async def test_an_application_of_wslink_is_launched_and_shown(
    post: Any, folder: Path, application: str
) -> None:
    body = proper(post(application=application, file="can.ex2", lines="7"))
    assert (body["file"], body["updir"], body["host"]) == ("can.ex2", "/srv/data/Home", "localhost")
    assert body["port"] > 1024
    assert list(parse_map((folder / "proxy.txt").read_text())) == [body["id"]]
    async with WslinkClient.connect(body["sessionURL"], body["secret"]) as viewer:
        assert (await viewer.picture()).std() > 5
    with pytest.raises(PermissionError):
        async with WslinkClient.connect(body["sessionURL"], "wslink-secret"):
            pass


def test_the_secret_is_on_no_command_line_and_in_no_environment(
    post: Any, folder: Path, service: ServiceProcess
) -> None:
    secret = proper(post(application="flow"))["secret"]
    assert marked("flow.py", file="cmdline")
    assert marked(secret, file="cmdline") == []
    assert marked(secret, file="environ") == []
    assert secret not in service.log


def test_what_was_checked_comes_back_as_it_was_used(post: Any) -> None:
    assert proper(post(application="flow", lines="7; rm -rf /"))["lines"] == "40"
    assert "lines" not in proper(post(application="keyless"))


def test_a_program_starts_where_the_file_is_with_the_launcher_s_display(
    post: Any, folder: Path
) -> None:
    proper(post(application="echo", file="a b"))
    found = said(folder)
    assert (found["cwd"], found["display"]) == (str(folder), ":97")
    assert found["argv"][0] == f"{folder}/echo"
    assert found["argv"][-3:] == ["fast", "--file", "/srv/data/a b"]


def test_posted_keys_take_no_property_s_place(post: Any, folder: Path) -> None:
    evil = {"python": "/bin/sh", "dataDir": "/etc", "apps": "/tmp", "host": "0.0.0.0", "port": 1}
    body = proper(post(application="echo", file="x", cmd=["/bin/sh"], secret="known", **evil))
    argv = said(folder)["argv"]
    assert argv[1:3] == ["--host", "127.0.0.1"]
    assert int(argv[4]) > 1024
    assert argv[-1] == "/srv/data/x"
    assert body["secret"] != "known"
    assert (body["host"], body["updir"]) == ("localhost", "/srv/data/Home")


@pytest.mark.parametrize(
    "value", ["; touch HERE", "$(touch HERE)", "`touch HERE`", "'; touch HERE;'"]
)
def test_what_shells_would_run_is_text(post: Any, folder: Path, value: str) -> None:
    mark = folder / "ran"
    value = value.replace("HERE", mark.name)
    proper(post(application="echo", file=value, mode=value))
    assert said(folder)["argv"][-3:] == ["fast", "--file", f"/srv/data/{value}"]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("posted", "message"),
    [
        ({"application": "../echo"}, "There is no application"),
        ({"application": "echo/../flow"}, "There is no application"),
        ({"application": "echo", "file": "../../etc/passwd"}, "Parameter 'file' must be"),
        ({"application": "echo", "file": "a\nb"}, "Parameter 'file' must be"),
        ({"application": "echo", "file": ["a"]}, "Parameter 'file' must be"),
        ({"application": "echo"}, "Parameter 'file' is required"),
        ({"cmd": ["/bin/sh"]}, "The request is not complete"),
    ],
)
def test_what_is_refused_is_told_as_the_old_clients_show_it(
    post: Any, posted: dict[str, Any], message: str
) -> None:
    reply = post(**posted)
    assert reply.status_code == 400
    assert message in reply.json()["error"]


def test_a_program_that_cannot_start_is_told_at_once(post: Any) -> None:
    """The old launcher let its client wait until timeout was over."""
    reply = post(application="broken")
    assert reply.status_code >= 500
    assert "no-such-program" in reply.json()["error"]
    assert reply.elapsed.total_seconds() < 30


def test_when_all_ports_are_taken_the_next_client_is_told(post: Any) -> None:
    for _ in range(4):
        proper(post(application="echo", file="x"))
    reply = post(application="echo", file="x")
    assert reply.status_code == 503
    assert "All slots (4)" in reply.json()["error"]


def test_output_is_kept_below_log_dir(post: Any, service: ServiceProcess, folder: Path) -> None:
    launched = proper(post(application="flow"))
    service.http.delete(f"/paraview/{launched['id']}")

    def kept() -> str:
        return "".join(each.read_text() for each in (folder / "hpcbridge").glob("*.log"))

    wait_until(lambda: "Starting factory" in kept(), "the kept output")
    assert launched["secret"] not in kept()


def test_what_works_differently_is_told_when_it_starts(service: ServiceProcess) -> None:
    assert "configuration.sessionURL: led to the application's own port" in service.log
