"""Jobs of the embedded runner under an account of their own: what they reach, and do not."""

import json
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.errors import ConfigError
from tests.cluster.people import account
from tests.site import Service, Site
from tests.usersite import auth, named
from tests.waiting import wait_until

pytestmark = pytest.mark.servers

WHO = "hpcb-jobs"
PYTHON = "/usr/bin/python3"
# Tries all that it should not be able to do, says what it could, and then serves.
ATTACKER = f"""#!{PYTHON} -IS
import json, os, signal, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
done = dict(uid=os.getuid(), gid=os.getgid(), groups=os.getgroups(), home=os.environ["HOME"])
for path in TARGETS:
    for kind, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY)):
        try:
            os.close(os.open(path, flags))
            done[f"{{kind}} {{path}}"] = "open"
        except OSError as error:
            pass
for pid in [int(each) for each in os.listdir("/proc") if each.isdigit()]:
    try:
        if open(f"/proc/{{pid}}/cmdline").read().find("hpcbridge\\0serve") > 0:
            os.kill(pid, signal.SIGSTOP)
            done["stopped the service"] = pid
    except OSError:
        pass
for name in ("setuid", "setgid"):
    try:
        getattr(os, name)(0)
        done[name] = True
    except OSError:
        pass
print(json.dumps(done), flush=True)
server = socket.create_server((options["--host"], int(options["--port"])))
os.write(1, b"wslink: Starting factory")
while True:
    server.accept()[0].close()
"""


@pytest.fixture
def uid() -> Iterator[int]:
    with account(WHO) as found:
        yield found


@pytest.fixture
def elsewhere(site: Site, directory: Path) -> Site:
    """The site with sessions where another account can go, and with users."""
    site.config["clusters"]["here"] |= {
        "trust_jobs": False,
        "run_as": WHO,
        "session_root": str(directory / "sessions"),
        "python": PYTHON,
    }
    site.config["auth"] = auth(site)
    return site


def attacker(site: Site, directory: Path) -> str:
    targets = ["hpcbridge.sqlite", "lock", "local", "."]
    paths = [str(site.state_dir / each) for each in targets]
    paths += [
        str(site.root / each) for each in ("front-end.secret", "audit.jsonl", "hpcbridge.toml")
    ]
    program = directory / "attacker"
    program.write_text(ATTACKER.replace("TARGETS", repr(paths)))
    program.chmod(0o755)
    return str(program)


def test_a_job_has_its_own_account_and_reaches_nothing_of_the_services(
    uid: int, elsewhere: Site, directory: Path, serve: Callable[..., Service]
) -> None:
    program = attacker(elsewhere, directory)
    elsewhere.write(applications={"cone": {"properties": {"program": program}}})
    service = serve("--end-sessions")
    reply = service.post({"application": "cone"}, headers=named("alice"))
    assert reply.status_code == 200, reply.text
    session = reply.json()["id"]
    log = service.http.get(f"/paraview/{session}/log", headers=named("alice")).text
    done = json.loads(next(line for line in log.splitlines() if line.startswith("{")))
    person = pwd.getpwnam(WHO)
    expected = {"uid": uid, "gid": person.pw_gid, "groups": [person.pw_gid], "home": person.pw_dir}
    assert done == expected
    (folder,) = (directory / "sessions").iterdir()
    assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (uid, 0o700)
    assert {each.stat().st_uid for each in folder.iterdir()} == {uid}
    assert '"as": "hpcb-jobs"' in (elsewhere.root / "audit.jsonl").read_text()
    stopped = service.http.delete(f"/paraview/{session}", headers=named("alice"))
    assert stopped.status_code == 200
    wait_until(lambda: not folder.exists(), "the end of its directory")
    assert service.stop() == 0


def test_what_a_job_puts_in_the_services_way_leads_root_nowhere(
    uid: int, elsewhere: Site, directory: Path, serve: Callable[..., Service]
) -> None:
    """The service is root, and works in a directory that belongs to somebody else."""
    victim = elsewhere.root / "victim"
    victim.write_text("the service's own\n")
    program = directory / "links"
    program.write_text(
        f"#!/bin/sh\nrm -f output.log secret status\n"
        f"ln -s {victim} output.log\nln -s {elsewhere.state_dir} status\n"
        f"mkdir d && ln -s {elsewhere.root} d/out\nexit 7\n"
    )
    program.chmod(0o755)
    elsewhere.write(applications={"cone": {"properties": {"program": str(program)}}})
    service = serve("--end-sessions")
    reply = service.post({"application": "cone"}, headers=named("alice"))
    assert "the service's own" not in reply.text
    assert reply.status_code >= 500
    wait_until(lambda: not list((directory / "sessions").iterdir()), "the end of its directory")
    assert victim.read_text() == "the service's own\n"
    assert (elsewhere.root / "hpcbridge.toml").exists()
    assert (victim.stat().st_uid, elsewhere.state_dir.stat().st_uid) == (0, 0)


@pytest.mark.parametrize("accept", ["header", "token"])
def test_users_and_jobs_of_the_services_own_account_go_together_only_where_that_is_said(
    site: Site, accept: str
) -> None:
    users = auth(site, accept)
    for more in ({}, {"run_as": None}):
        with pytest.raises(ConfigError, match="trust_jobs = true"):
            configfile.load(site.write(auth=users, clusters={"here": {"trust_jobs": False} | more}))
    configfile.load(site.write(auth=users, clusters={"here": {"trust_jobs": True}}))
    configfile.load(site.write(auth=users, clusters={"here": {"trust_jobs": None, "run_as": WHO}}))
    configfile.load(site.write(clusters={"here": {"trust_jobs": None}}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_as": "root"}, "'root' is root; name an account"),
        ({"run_as": "hpcb-nobody-has-this"}, "there is no account"),
        ({"session_root": None}, "run_as needs session_root"),
    ],
)
def test_an_account_that_cannot_be_stops_the_start(
    uid: int, elsewhere: Site, serve: Callable[..., Service], changes: dict[str, Any], said: str
) -> None:
    elsewhere.write(clusters={"here": changes})
    with pytest.raises(RuntimeError, match=said):
        serve()


def test_a_session_root_that_the_account_cannot_enter_is_told(
    uid: int, elsewhere: Site, directory: Path, serve: Callable[..., Service]
) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    elsewhere.write(clusters={"here": {"session_root": str(closed / "sessions")}})
    service = serve("--end-sessions")
    reply = service.post({"application": "cone"}, headers=named("alice"))
    assert f"{WHO} cannot enter {closed}" in reply.json()["error"]
    assert not list((closed / "sessions").iterdir())
