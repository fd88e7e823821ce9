"""hpcbridge lookup: what a front end finds of a session, in words for each way it can be."""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.cli import main as cli
from hpcbridge.config import file as configfile
from hpcbridge.doctor import lookup
from hpcbridge.doctor.findings import Finding
from hpcbridge.errors import SessionNotFound
from tests.frontends.test_embedded_users import ECHO
from tests.programs import PYTHON
from tests.usersite import auth, named
from tests.waiting import until

pytestmark = pytest.mark.servers

ALL = ["session", "service", "local end", "answer"]


async def found(site: Any, name: str) -> dict[str, Finding]:
    settings = configfile.load(site.path)
    return {each.what: each async for each in lookup.look(settings, name)}


def red(findings: dict[str, Finding]) -> list[str]:
    return [each.what for each in findings.values() if not each.good]


@pytest.fixture
def start(site: Any, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts the service; its application answers HTTP."""

    def run(**sections: Any) -> Any:
        program = site.program("echo", f"#!{PYTHON} -SE\n{ECHO}")
        site.write(
            applications={
                "page": site.config["applications"]["cone"] | {"properties": {"program": program}}
            },
            **sections,
        )
        return serve("--end-sessions")

    return run


def launch(service: Any, application: str = "page", **headers: str) -> dict[str, Any]:
    reply = service.post({"application": application}, headers=headers)
    assert reply.status_code in (200, 202), reply.text
    return dict(reply.json())


@pytest.mark.parametrize("local_end", ["tcp", "unix"])
async def test_a_session_that_is_reached_is_told_by_id_or_name_whoever_has_it(
    site: Any, start: Callable[..., Any], directory: Path, local_end: str
) -> None:
    ends = {"local_end": local_end, "socket_dir": str(directory / "s")}
    service = start(auth=auth(site), frontend=ends)
    session_id = launch(service, **named("alice"))["id"]
    findings = await found(site, session_id)
    assert (list(findings), red(findings)) == (ALL, [])
    assert "page of alice on here, is ready" in findings["session"].said
    where = "127.0.0.1:" if local_end == "tcp" else f"unix:{directory}/s/ID.sock"
    assert findings["local end"].said.startswith(where)
    assert "HTTP 200" in findings["answer"].said
    name = findings["session"].said.partition(",")[0]
    assert name.startswith("hpcb-")
    again = await found(site, name)
    assert (list(again), red(again)) == (ALL, [])
    assert session_id not in "".join(each.said for each in again.values())
    assert service.stop() == 0


def test_the_command_reads_an_id_from_its_input_and_its_status_tells(
    site: Any,
    start: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = start(frontend={"kind": "nginx"})
    session_id = launch(service)["id"]

    def run(given: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{given}\n"))
        monkeypatch.setattr(sys, "argv", ["hpcbridge", "lookup", str(site.path), "-"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    code, out, _ = run(session_id)
    assert not code
    assert out.count("ok  ") == len(ALL)
    assert "nginx hands requests on to 127.0.0.1:" in out
    code, out, error = run("7" * 40)
    assert (code, out) == (1, "")
    assert error.startswith("hpcbridge: There is no session with this id or job's name.")
    service.http.delete(f"/paraview/{session_id}")
    code, out, _ = run(session_id)
    assert code == 1
    assert out.startswith("FAIL  session: hpcb-")
    assert ": stopped." in out
    assert "Front ends say 404. Launch another." in out
    assert service.stop() == 0


async def test_without_a_database_there_is_no_session(site: Any) -> None:
    site.write()
    with pytest.raises(SessionNotFound, match="forgotten after"):
        await found(site, "7" * 40)


async def test_a_session_on_its_way_has_nothing_to_connect_to(
    site: Any, start: Callable[..., Any]
) -> None:
    service = start()
    session_id = launch(service, "late", Prefer="respond-async")["id"]
    findings = await found(site, session_id)
    assert (list(findings), red(findings)) == (["session"], ["session"])
    assert "not ready yet" in findings["session"].said
    assert service.stop() == 0


async def test_an_application_that_is_silent_or_speaks_no_http_is_told(
    site: Any, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start()
    closing, stopped = launch(service, "cone")["id"], launch(service)["id"]
    findings = await found(site, closing)
    assert red(findings) == ["answer"]
    assert "is no HTTP" in findings["answer"].said
    monkeypatch.setattr(lookup, "PATIENCE", 0.3)
    for pid in site.processes():
        os.kill(pid, signal.SIGSTOP)
    try:
        findings = await found(site, stopped)
    finally:
        for pid in site.processes():
            os.kill(pid, signal.SIGCONT)
    assert red(findings) == ["answer"]
    assert "None within 0.3 s" in findings["answer"].said
    assert service.stop() == 0


async def test_after_the_end_of_the_service_its_tunnels_are_shut(
    site: Any, start: Callable[..., Any]
) -> None:
    service = start()
    session_id = launch(service)["id"]
    service.stop(signal.SIGKILL)
    findings = await found(site, session_id)
    assert red(findings) == ["service", "answer"]
    assert "None is running" in findings["service"].said
    assert "Nothing can be connected to" in findings["answer"].said


async def test_a_map_that_leads_elsewhere_is_told(
    site: Any, start: Callable[..., Any], directory: Path
) -> None:
    path = directory / "map"
    service = start(frontend={"kind": "apache", "map_file": str(path)})
    session_id = launch(service)["id"]
    findings = await found(site, session_id)
    assert (red(findings), findings["map"].said) == ([], f"{path} leads there.")
    assert "Apache connects to the local end itself" in findings["service"].said
    for text, said in (
        (f"{session_id} 127.0.0.1:1\n", "leads to 127.0.0.1:1"),
        ("", "does not have it"),
        ("x", "last line"),
    ):
        path.write_text(text)
        findings = await found(site, session_id)
        assert red(findings) == ["map"]
        assert said in findings["map"].said
    path.unlink()
    assert "cannot be read" in (await found(site, session_id))["map"].said
    service.stop(signal.SIGKILL)
    await until(lambda: service.process.poll() is not None)
