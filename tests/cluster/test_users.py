"""Two users of one service: each one's jobs, files and tunnels are the own, and the other's closed.

All of it for each way in which a service may come to work as its users.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from hpcbridge import doctor
from testbed.handle import Testbed
from tests.cluster import people
from tests.cluster.test_secrets import CURIOUS
from tests.serviceprocess import ServiceProcess, Start
from tests.waiting import until

Begin = Callable[..., ServiceProcess]

WAYS = {
    "ssh-ca": people.by_certificates,
    "sudo": people.by_sudo,
    "ssh-key": people.by_keys,
    "slurmrest": people.by_rest,
}
# Everything that root can see of all processes.
PROCESSES = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"


@pytest.fixture(autouse=True)
def nothing_of_theirs_left(site: Testbed) -> Iterator[None]:
    """After each test no session directory is there, whoever's."""
    yield
    roots = [site.home(user) / ".hpcbridge" for user in ("bob", "bridge")]
    left = [path for root in roots if root.is_dir() for path in root.glob("*")]
    for path in left:
        shutil.rmtree(path)
    assert left == []


@pytest.fixture
def begin(site: Testbed, tmp_path: Path) -> Iterator[Begin]:
    """Starts a service that works as its users in the way that is named; with sudo's rules."""
    with contextlib.ExitStack() as stack:

        def started(way: str, **identity: Any) -> ServiceProcess:
            config = WAYS[way](site, tmp_path, **identity)
            if way == "sudo":
                path = tmp_path / "for-sudoers.toml"
                path.write_text(tomli_w.dumps(config))
                stack.enter_context(people.sudo_rules(site, path))
            return stack.enter_context(ServiceProcess(tmp_path, config, "--end-sessions"))

        yield started


async def refused(client: httpx.AsyncClient, user: str) -> httpx.Response:
    reply = await client.post(
        "/paraview", json={"application": "listener"}, headers=people.headers(user)
    )
    assert reply.status_code != 200, reply.text
    return reply


def owners(site: Testbed) -> dict[str, str]:
    """Job id -> whose it is."""
    return dict(line.split() for line in site.call("squeue", "-h", "-o", "%i %u").splitlines())


def directories(site: Testbed, user: str) -> list[Path]:
    root = site.home(user) / ".hpcbridge"
    return sorted(root.iterdir()) if root.is_dir() else []


@pytest.mark.parametrize("way", WAYS)
async def test_each_user_s_job_files_and_tunnel_are_the_user_s_own(
    begin: Begin, site: Testbed, way: str
) -> None:
    async with begin(way).client() as client:
        sessions = {user: await people.launch(client, user) for user in ("alice", "bob")}
        jobs = owners(site)
        for user, session in sessions.items():
            assert jobs[session["job_id"]] == user
            (directory,) = directories(site, user)
            assert {path.owner() for path in (directory, *directory.iterdir())} == {user}
            assert directory.stat().st_mode & 0o077 == 0
        if way != "sudo":
            tunnel = site.call("ps", "-C", "sshd", "-o", "user=")
            assert {"alice", "bob"} <= set(tunnel.split())
        assert directories(site, "bridge") == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_user_finds_nothing_of_another_s_session(
    begin: Begin, site: Testbed, way: str
) -> None:
    began = str(int(time.time()))
    async with begin(way).client() as client:
        session = await people.launch(client, "alice")
        for curious in ("bob", "bridge"):
            for machine in ("head", session["host"]):
                command = ["bash", "-c", CURIOUS, "-", str(site.layout.state), began]
                seen = site.run(machine, curious, command, timeout=60).stdout
                assert "hpcb-" in seen, "the job itself can be seen"
                assert session["secret"] not in seen, (curious, machine)
                assert session["id"] not in seen, (curious, machine)
        seen = site.run("head", "root", ["sh", "-c", PROCESSES]).stdout
        assert "listener" in seen or "perl" in seen, "the processes are looked at"
        for secret in (session["secret"], session["id"]):
            assert secret not in seen
        headers = people.headers("bob")
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"/paraview/{session['id']}", headers=headers)
            assert answer.status_code == 404
        assert site.run("head", "bob", ["scancel", session["job_id"]]).returncode != 0
        assert site.jobs() == [session["job_id"]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_is_ended_by_the_account_that_it_runs_as(
    begin: Begin, site: Testbed, way: str
) -> None:
    async with begin(way).client() as client:
        session, other = await people.launch(client, "alice"), await people.launch(client, "bob")
        await client.delete(f"/paraview/{session['id']}", headers=people.headers("alice"))

        async def gone() -> bool:
            return session["job_id"] not in owners(site) and not directories(site, "alice")

        await until(gone, "alice's job and directory are gone")
        assert owners(site) == {other["job_id"]: "bob"}
        log = (site.layout.log / "slurmctld.log").read_text()
    alice = site.call("id", "-u", "alice").strip()
    assert f"REQUEST_KILL_JOB JobId={session['job_id']} uid {alice}" in log


async def test_where_others_jobs_are_hidden_each_user_asks_for_the_own(
    begin: Begin, site: Testbed
) -> None:
    async with begin("ssh-ca", listing="user").client() as client:
        sessions = {user: await people.launch(client, user) for user in ("alice", "bob")}
        assert owners(site) == {each["job_id"]: user for user, each in sessions.items()}
        site.call("scancel", sessions["alice"]["job_id"])

        async def seen() -> bool:
            path = f"/paraview/{sessions['alice']['id']}"
            shown = (await client.get(path, headers=people.headers("alice"))).json()
            return bool(shown["state"] == "ended")

        await until(seen, "the end of alice's job is seen by alice")
        assert owners(site) == {sessions["bob"]["job_id"]: "bob"}


async def test_a_session_is_taken_up_again_as_its_user_by_the_next_service(
    start: Start, site: Testbed, tmp_path: Path
) -> None:
    config = people.by_certificates(site, tmp_path)
    first = start(config, "--port=0")  # without --end-sessions: they go on
    async with first.client() as client:
        session = await people.launch(client, "alice")
    first.stop()
    assert owners(site) == {session["job_id"]: "alice"}
    async with start(config).client() as client:

        async def ready() -> bool:
            path = f"/paraview/{session['id']}"
            shown = (await client.get(path, headers=people.headers("alice"))).json()
            return bool(shown["state"] == "ready" and shown.get("tunnel", "open") == "open")

        await until(ready, "the session is there again")


async def test_a_mapping_that_changes_does_not_move_a_session_that_lives(
    begin: Begin, site: Testbed, tmp_path: Path
) -> None:
    names = tmp_path / "accounts"
    names.write_text("ann alice\n")
    async with begin("ssh-ca", map_file=str(names)).client() as client:
        session = await people.launch(client, "ann")
        names.write_text("ann bob\n# a line more, so that the file differs\n")
        later = await people.launch(client, "ann")
        assert owners(site) == {session["job_id"]: "alice", later["job_id"]: "bob"}
        await client.delete(f"/paraview/{session['id']}", headers=people.headers("ann"))

        async def gone() -> bool:
            return owners(site) == {later["job_id"]: "bob"} and not directories(site, "alice")

        await until(gone, "alice's job was ended as alice")
        assert (await refused(client, "bob")).status_code == 403


# -- who gets no session


@pytest.mark.parametrize(
    "name", ["root", "daemon", "-oProxyCommand=x", "../x", "a" * 300, "аlice", "Alice;id", "ﬁn"]
)
async def test_a_name_that_is_no_user_s_is_refused_and_nothing_is_done(
    begin: Begin, site: Testbed, name: str
) -> None:
    async with begin("ssh-ca").client() as client:
        headers: Any = [
            (key.encode(), value.encode()) for key, value in people.headers(name).items()
        ]
        reply = await client.post("/paraview", json={"application": "listener"}, headers=headers)
        assert reply.status_code == 403
    assert site.jobs() == []


@pytest.mark.parametrize(
    ("way", "said"), [("ssh-ca", "refused the login of 'nosuchuser'"), ("sudo", "unknown user")]
)
async def test_a_user_whom_the_cluster_does_not_know_is_told_so(
    begin: Begin, site: Testbed, way: str, said: str
) -> None:
    async with begin(way).client() as client:
        reply = await refused(client, "nosuchuser")
        assert said in reply.json()["error"]
        assert (await people.launch(client, "alice"))["job_id"] in owners(site)


@pytest.mark.parametrize("locked", [True, False])
async def test_an_account_that_is_locked_or_without_a_home_gets_no_session(
    begin: Begin, site: Testbed, locked: bool
) -> None:
    name = "hpcb-locked" if locked else "hpcb-homeless"
    said = "refused the login of 'hpcb-locked'" if locked else "session_root"
    with people.account(name, locked=locked):
        async with begin("ssh-ca").client() as client:
            reply = await refused(client, name)
            assert said in reply.json()["error"]
    assert site.jobs() == []


async def test_without_the_rules_of_sudo_the_error_says_what_prints_them(
    start: Start, site: Testbed, tmp_path: Path
) -> None:
    async with start(people.by_sudo(site, tmp_path)).client() as client:
        said = (await refused(client, "alice")).json()["error"]
    assert "sudo does not let this service run" in said
    assert "as 'alice'" in said
    assert "'hpcbridge sudoers' prints the rules" in said


async def test_a_user_who_is_not_in_the_rules_of_sudo_gets_no_session(
    begin: Begin, site: Testbed
) -> None:
    async with begin("sudo", runas=["bob"]).client() as client:
        assert "as 'alice'" in (await refused(client, "alice")).json()["error"]
        session = await people.launch(client, "bob")
        assert owners(site) == {session["job_id"]: "bob"}


async def test_a_user_who_is_removed_while_sessions_run_disturbs_nobody_else(
    begin: Begin, site: Testbed
) -> None:
    home = site.layout.state / "leaver"
    async with begin("ssh-ca").client() as client:
        with people.account("hpcb-leaver", home) as uid:
            left = await people.launch(client, "hpcb-leaver")
            other = await people.launch(client, "alice")
            subprocess.run(["userdel", "--force", "hpcb-leaver"], check=True)
            again = await people.launch(client, "bob")
            for session, user in ((other, "alice"), (again, "bob")):
                shown = await client.get(f"/paraview/{session['id']}", headers=people.headers(user))
                assert shown.json()["state"] == "ready"
                assert shown.json().get("unknown_since") is None
            site.call("scancel", left["job_id"])

            async def noticed() -> bool:
                headers = people.headers("hpcb-leaver")
                shown = await client.get(f"/paraview/{left['id']}", headers=headers)
                return bool(shown.json()["state"] == "ended")

            await until(noticed, "the end of a job whose owner is unknown is seen")
            make = ["useradd", "--uid", str(uid), "--home-dir", str(home), "--password", "*"]
            subprocess.run([*make, "--shell", "/bin/bash", "hpcb-leaver"], check=True)

            async def cleaned() -> bool:
                return not list((home / ".hpcbridge").iterdir())

            await until(cleaned, "what is left of it is removed once that is possible", 90)


# -- the doctor


async def examined(config: dict[str, Any], folder: Path, user: str) -> dict[str, doctor.Finding]:
    path = folder / "doctor.toml"
    path.write_text(tomli_w.dumps(config))
    found = doctor.examine(path, user=user, audit=True)
    return {each.what: each async for each in found}


@pytest.mark.parametrize("way", WAYS)
async def test_the_doctor_finds_a_site_with_users_in_order(
    begin: Begin, site: Testbed, tmp_path: Path, way: str
) -> None:
    async with begin(way).client() as client:
        await people.launch(client, "alice")
        await people.launch(client, "bob")
        findings = await examined(WAYS[way](site, tmp_path), tmp_path, "alice")
    assert [each for each in findings.values() if not each.good] == []
    assert "/home/alice/.hpcbridge can be written" in findings["lab as alice: session_root"].said
    if way in ("ssh-ca", "slurmrest"):
        key = (site.layout.state / "ssh/user_ca.pub").read_text().strip()
        assert key in findings["lab: identity"].said


async def test_the_doctor_tells_what_is_missing(site: Testbed, tmp_path: Path) -> None:
    findings = await examined(people.by_sudo(site, tmp_path), tmp_path, "alice")
    assert "'hpcbridge sudoers'" in findings["lab: identity"].said
    assert "'hpcbridge sudoers'" in findings["lab as alice: home"].said
    findings = await examined(people.by_certificates(site, tmp_path), tmp_path, "root")
    assert "system's own" in findings["lab: user 'root'"].said
