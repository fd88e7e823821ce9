"""The doctor: a healthy site is green, and each thing that is wrong is red, with its cure."""

import asyncio
import grp
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge import doctor
from hpcbridge.cli import main as cli
from hpcbridge.clusters import cluster as clusters
from hpcbridge.config import file as configfile
from hpcbridge.config.installation import job_name, mark
from hpcbridge.config.settings import Settings
from hpcbridge.doctor import audit, database
from hpcbridge.doctor.audit import Sight, violations
from hpcbridge.schedulers.base import EndReason, JobRequest
from hpcbridge.schedulers.local import LocalScheduler, cgroup
from hpcbridge.store import SessionRow, State, Store
from tests.usersite import SECRET, auth
from tests.waiting import until

pytestmark = pytest.mark.servers

Findings = dict[str, doctor.Finding]
ID, OTHER = "a" * 40, "b" * 40
MARK = "0123abcd"


async def examined(path: Path, *, audit: bool = False) -> Findings:
    return {found.what: found async for found in doctor.examine(path, audit=audit)}


def red(findings: Findings) -> list[str]:
    return [each.what for each in findings.values() if not each.good]


async def sick(path: Path, what: str, *said: str, **more: Any) -> None:
    """Only ``what`` is red, and its line says all of ``said``."""
    findings = await examined(path, **more)
    assert red(findings) == [what], findings
    for each in said:
        assert each in findings[what].said


@pytest.fixture
def healthy(site: Any) -> Callable[..., Path]:
    def write(**sections: Any) -> Path:
        site.state_dir.mkdir(mode=0o700, exist_ok=True)
        path: Path = site.write(clusters={"here": {"grace": 0.2}}, **sections)
        return path

    return write


# -- the site


async def test_a_site_before_its_first_start_is_green_and_stays_untouched(
    site: Any, healthy: Callable[..., Path]
) -> None:
    findings = await examined(healthy(), audit=True)
    assert red(findings) == []
    assert {"configuration", "state directory", "database", "here: scheduler"} < set(findings)
    assert list(site.state_dir.iterdir()) == []
    site.state_dir.rmdir()
    assert red(await examined(site.path, audit=True)) == []
    assert not site.state_dir.exists()


async def test_as_whom_jobs_run_here_and_what_ends_them_is_told(
    site: Any, healthy: Callable[..., Path], directory: Path
) -> None:
    what = "here: account of jobs"
    findings = await examined(healthy())
    assert "the service's own account: they can read its secrets" in findings[what].said
    ends = findings["here: processes of jobs"].said
    assert ("all its processes end with it" in ends) == (cgroup.place() is not None)
    findings = await examined(healthy(auth=auth(site)))
    assert "by trust_jobs" in findings[what].said
    site.config["clusters"]["here"] |= {"run_as": "nobody", "session_root": str(directory / "s")}
    assert "Jobs run as nobody" in (await examined(healthy()))[what].said
    directory.chmod(0o700)
    assert f"nobody cannot enter {directory}" in (await examined(healthy()))[what].said
    site.config["clusters"]["here"] |= {"run_as": "hpcb-nobody-has-this"}
    assert "there is no account" in (await examined(healthy()))[what].said


async def test_a_site_at_work_is_green(site: Any, launcher: Any) -> None:
    more = {
        "clusters": {"here": {"grace": 0.2}},
        "frontend": {"map_file": str(site.root / "sessions.map")},
    }
    async with launcher(**more) as api:
        posted = await api.post({"application": "cone"})
        await api.post({"application": "crash"})
        secret, session_id = posted.json()["secret"], posted.json()["id"]
        findings = await examined(site.path, audit=True)
        assert red(findings) == []
        assert "living jobs of this account: 1." in findings["here: scheduler"].said
        assert set(audit.CURES) < set(findings)
        told = str(findings)
        assert secret not in told
        assert session_id not in told
        assert (await api.row(session_id)).state == State.READY
    findings = await examined(site.path, audit=True)
    assert red(findings) == []
    assert "no service is running" in findings["no route without a ready session"].said


async def test_a_wrong_configuration_or_template_is_red(
    site: Any, healthy: Callable[..., Path]
) -> None:
    await sick(site.root / "missing.toml", "configuration", "cannot be read")
    await sick(site.write(server={"prot": 1}), "configuration", "Did you mean 'port'?")
    site.write()
    path = healthy(applications={"cone": {"template": "missing.sh"}})
    await sick(path, "template of cone", "missing.sh")


async def test_a_state_directory_that_others_read_is_red(
    site: Any, healthy: Callable[..., Path]
) -> None:
    path = healthy()
    site.state_dir.chmod(0o755)
    await sick(path, "state directory", "mode 0755", f"chmod 700 {site.state_dir}")
    site.state_dir.rmdir()
    site.state_dir.write_text("")
    assert "state directory" in red(await examined(path))


async def test_a_state_directory_of_another_account_is_red(
    site: Any, healthy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = healthy()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    await sick(path, "state directory", "belongs to", "Run this as")


async def test_a_secret_or_an_audit_log_that_cannot_be_used_is_red(
    site: Any, healthy: Callable[..., Path]
) -> None:
    section = auth(site)
    findings = await examined(healthy(auth=section))
    assert red(findings) == []
    assert {"front end's secret", "audit log"} < set(findings)
    assert SECRET not in str(findings)
    (site.root / "front-end.secret").chmod(0o640)
    await sick(site.path, "front end's secret", "0640", "chmod 600")
    (site.root / "front-end.secret").chmod(0o600)
    (site.root / "audit.jsonl").symlink_to("/dev/null")
    await sick(site.path, "audit log", "is a link")


async def test_a_session_root_that_cannot_be_written_is_red(
    site: Any, healthy: Callable[..., Path]
) -> None:
    site.session_root.write_text("")
    await sick(healthy(), "here: session_root", "is not a directory")


# -- the database


@pytest.fixture
async def sqlite(site: Any, healthy: Callable[..., Path]) -> Path:
    healthy()
    path: Path = site.state_dir / "hpcbridge.sqlite"
    store = await Store.open(f"sqlite+aiosqlite:///{path}")
    await store.close()
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


async def test_a_database_of_a_newer_version_is_red_and_an_older_one_is_not(
    site: Any, sqlite: Path
) -> None:
    assert "schema is 0" in (await examined(site.path))["database"].said
    change(sqlite, "UPDATE alembic_version SET version_num = '0001'")
    assert "next start brings it" in (await examined(site.path))["database"].said
    change(sqlite, "UPDATE alembic_version SET version_num = '9999'")
    before = sqlite.read_bytes()
    await sick(site.path, "database", "newer hpcbridge")
    assert sqlite.read_bytes() == before


async def test_a_damaged_database_is_red_and_left_as_it_is(site: Any, sqlite: Path) -> None:
    sqlite.write_bytes(b"garbage" * 1000)
    findings = await examined(site.path, audit=True)
    assert red(findings) == ["database", "audit"]
    assert "not a database" in findings["database"].said
    assert sqlite.read_bytes() == b"garbage" * 1000


async def test_a_database_server_that_is_away_is_red_without_its_password(
    site: Any, healthy: Callable[..., Path]
) -> None:
    for url in ("nonsense://bridge:p4ssw0rd@db/x", "p4ssw0rd"):
        findings = await examined(healthy(store={"url": url}))
        assert red(findings) == ["database"]
        assert findings["database"].said.startswith("store.url: not a database that can be used.")
        assert "p4ssw0rd" not in str(findings)


async def test_a_database_in_use_is_read_without_waiting(site: Any, sqlite: Path) -> None:
    writer = sqlite3.connect(sqlite, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert (await database.look(f"sqlite+aiosqlite:///{sqlite}")).good
    writer.execute("ROLLBACK")
    writer.close()


# -- the front end


async def test_a_map_that_cannot_be_written_is_red(site: Any, healthy: Callable[..., Path]) -> None:
    path = healthy(frontend={"map_file": str(site.root / "missing/sessions.map")})
    await sick(path, "map file", "is not there")


async def test_what_the_front_end_cannot_enter_is_red(healthy: Callable[..., Path]) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        place = Path(name) / "web"
        place.mkdir(mode=0o700)
        path = healthy(frontend={"map_file": str(place / "sessions.map"), "group": group})
        await sick(path, "map file", f"The group {group} cannot enter {place}")
        place.chmod(0o750)
        os.chown(place, -1, os.getegid())
        Path(name).chmod(0o755)
        assert red(await examined(path)) == []


async def test_a_web_server_that_cannot_connect_to_the_service_is_red(
    healthy: Callable[..., Path], directory: Path
) -> None:
    socket = {"unix_socket": str(directory / "api.sock")}
    await sick(healthy(frontend={"kind": "nginx"}), "web server", "server.port is 0")
    path = healthy(server=socket, frontend={"kind": "haproxy"})
    await sick(path, "web server", "Only this account may connect", "that haproxy runs as")
    path = healthy(server=socket, frontend={"kind": "traefik"})
    await sick(path, "web server", "no unix sockets")
    findings = await examined(healthy(server={"port": 8123}, frontend={"kind": "traefik"}))
    assert red(findings) == []
    assert "traefik hands requests on to 127.0.0.1:8123" in findings["web server"].said


async def test_a_group_that_is_not_there_is_red(healthy: Callable[..., Path]) -> None:
    await sick(healthy(frontend={"group": "no-such-group"}), "group", "There is no group")


async def test_sockets_for_a_group_below_the_state_directory_are_red(
    healthy: Callable[..., Path],
) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    path = healthy(frontend={"local_end": "unix", "group": group})
    await sick(path, "sockets", "socket_dir")


async def test_a_socket_directory_whose_name_is_too_long_is_red(
    healthy: Callable[..., Path], tmp_path: Path
) -> None:
    long = str(tmp_path / ("x" * 90))
    await sick(healthy(frontend={"local_end": "unix", "socket_dir": long}), "sockets", "too long")


# -- the audit


def row(session_id: str = ID, **more: Any) -> SessionRow:
    values: dict[str, Any] = {
        "id": session_id,
        "application": "a",
        "cluster": "here",
        "job_name": job_name(session_id, MARK),
        "state": State.READY,
        "secret": "s",
    }
    return SessionRow(**values | more)


def over(session_id: str = ID, **more: Any) -> SessionRow:
    values: dict[str, Any] = {"state": State.ENDED, "reason": EndReason.STOPPED, "secret": None}
    return row(session_id, **values | {"job_ended": True} | more)


END = "127.0.0.1:4000"
NAME, STRANGER = job_name(ID, MARK), job_name(OTHER, MARK)


@pytest.mark.parametrize(
    ("sight", "broken"),
    [
        (Sight([row()], [("here", NAME)], {("here", NAME)}, {ID: END}, endpoints={ID: END}), {}),
        (Sight([over()], [("here", "x"), ("here", job_name(ID, "ffffffff"))]), {}),
        (Sight([over(job_ended=False)], [("here", NAME)], {("here", NAME)}), {}),
        (
            Sight([row()], [("here", NAME), ("here", NAME)]),
            {"one job at most for each session": {NAME}},
        ),
        (Sight([over()], [("here", NAME)]), {"no job without a session": {NAME}}),
        (Sight([], [("here", STRANGER)]), {"no job without a session": {STRANGER}}),
        (Sight([over(reason=None)]), {"every ended session has a reason": {NAME}}),
        (Sight([over(secret="s")]), {"secrets of ended sessions are erased": {NAME}}),
        (
            Sight([], directories={("here", STRANGER), ("here", "notes")}),
            {"no session directory without a session": {STRANGER}},
        ),
        (
            Sight([over()], routes={ID: "127.0.0.1:4000", OTHER: "127.0.0.1:4001"}),
            {"no route without a ready session": {NAME, STRANGER}},
        ),
        (
            Sight([row()], routes={}, endpoints={ID: END}),
            {"no ready session without a route": {NAME}},
        ),
        (
            Sight([row()], routes={ID: "127.0.0.1:4001"}, endpoints={ID: END}),
            {
                "no route without a ready session": {NAME},
                "no ready session without a route": {NAME},
            },
        ),
        (Sight([row()], sockets={ID}, endpoints={ID: "unix:/s/a.sock"}), {}),
        (
            Sight([row()], sockets={OTHER}, endpoints={ID: "unix:/s/a.sock"}),
            {
                "no ready session without a route": {NAME},
                "no socket without a ready session": {STRANGER},
            },
        ),
    ],
)
def test_each_violation_is_seen_and_nothing_else(sight: Sight, broken: dict[str, set[str]]) -> None:
    found = violations(sight, MARK)
    assert {what: names for what, names in found.items() if names} == broken


async def test_planted_violations_are_found_beside_a_running_service(
    site: Any, launcher: Any
) -> None:
    more = {
        "clusters": {"here": {"grace": 0.2}},
        "frontend": {"map_file": str(site.root / "sessions.map")},
    }
    async with launcher(**more) as api:
        posted = (await api.post({"application": "cone"})).json()
        ended = (await api.post({"application": "crash"})).status_code
        assert ended == 502
        stray = job_name(OTHER, mark(api.settings))
        (site.session_root / stray).mkdir()
        (site.root / "sessions.map").write_text(f"{OTHER} 127.0.0.1:4001\n")
        await asyncio.to_thread(  # the service may be writing
            change,
            site.state_dir / "hpcbridge.sqlite",
            "UPDATE sessions SET secret = 'left', reason = NULL WHERE state = 'ended'",
        )
        findings = await examined(site.path, audit=True)
        (site.session_root / stray).rmdir()
    assert set(red(findings)) == {
        "every ended session has a reason",
        "secrets of ended sessions are erased",
        "no session directory without a session",
        "no route without a ready session",
        "no ready session without a route",
    }
    assert stray in findings["no session directory without a session"].said
    for secret in (posted["id"], posted["secret"], "left", OTHER):
        assert secret not in str(findings)


async def test_a_job_without_a_session_is_found_without_being_touched(
    site: Any, sqlite: Path
) -> None:
    settings: Settings = settings_of(site)
    name = job_name(ID, mark(settings))
    directory = site.session_root / name
    directory.mkdir(parents=True)
    script = directory / "job.sh"
    script.write_text(f"#!/bin/sh\nHPCBRIDGE_DIRECTORY={directory} exec sleep 1000\n")
    script.chmod(0o700)
    runner = LocalScheduler(site.state_dir / "local/here", slots=1, queue=1)
    job_id = await runner.submit(JobRequest(name, str(directory), str(script)))
    await until(site.processes, "the job")
    findings = await examined(site.path, audit=True)
    assert red(findings) == ["no job without a session", "no session directory without a session"]
    assert len(site.processes()) == 1
    await runner.cancel({job_id: name})
    await until(lambda: not site.processes(), "the job's end")
    await runner.close()


def settings_of(site: Any) -> Settings:
    return configfile.load(site.path)


async def test_what_is_wrong_only_for_a_moment_is_not_told(
    site: Any, sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sights = [Sight([], [("here", job_name(ID, mark(settings_of(site))))]), Sight([])]

    async def see(*_: Any) -> Sight:
        return sights.pop(0)

    monkeypatch.setattr(audit, "_see", see)
    assert red(await examined(site.path, audit=True)) == []
    assert sights == []


# -- the command


@pytest.mark.parametrize(("mode", "status"), [(0o700, 0), (0o755, 1)])
def test_the_command_has_a_line_for_each_and_an_exit_status(
    site: Any,
    healthy: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    status: int,
) -> None:
    path = healthy()
    site.state_dir.chmod(mode)
    monkeypatch.setattr("sys.argv", ["hpcbridge", "doctor", str(path), "--audit"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert (caught.value.code or 0) == status
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok    ", "FAIL  ")) for line in lines)
    assert sum(line.startswith("FAIL") for line in lines) == status


def test_building_a_cluster_starts_nothing(site: Any) -> None:
    built = clusters.build("here", site.settings().clusters["here"], site.state_dir)
    assert built.login is None
    assert not site.state_dir.exists()
