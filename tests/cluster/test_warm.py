"""Warm sessions on a real Slurm: users' own ones, and the service's with a new secret over SSH."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.handle import Testbed
from tests.cluster import people
from tests.serviceprocess import ServiceProcess
from tests.waiting import until

# Ready at once, and takes a new secret as docs/templates.md says.
TAKER = r"""
use strict; use IO::Socket::INET; use Digest::SHA qw(sha256_hex); $| = 1;
my $l = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 8) or die $!;
print 'Starting factory';
if (!fork) { while (my $c = $l->accept) { close $c } }
while (1) {
  open my $f, '<', 'secret.new' or die $!; my $s = <$f> // ''; close $f;
  if ($s !~ /^taken/ && chomp $s) {
    open $f, '>', 'secret.new' or die $!; print $f 'taken ' . sha256_hex($s) . chr 10; close $f;
  }
  select undef, undef, undef, 0.03;
}
"""


async def operator_sees(client: httpx.AsyncClient, state: str) -> list[dict[str, Any]]:
    reply = await client.get("/paraview", headers=people.headers("oper"))
    return [each for each in reply.json()["sessions"] if each["state"] == state]


async def ready(client: httpx.AsyncClient, count: int) -> set[str]:
    async def there() -> list[dict[str, Any]]:
        found = await operator_sees(client, "ready")
        return found if len(found) == count else []

    return {each["id"] for each in await until(there, f"{count} warm sessions")}


@pytest.mark.parametrize("way", [people.by_certificates, people.by_keys])
async def test_named_users_get_sessions_that_run_as_themselves(
    site: Testbed, tmp_path: Path, way: Callable[..., dict[str, Any]]
) -> None:
    config = way(site, tmp_path)
    config["auth"]["operators"] = ["oper"]
    warm = {"count": 1, "users": ["alice", "bob"]}
    config["applications"]["listener"] |= {"walltime": 3600, "warm": warm}
    with ServiceProcess(tmp_path, config, "--end-sessions") as service:
        async with service.client() as client:
            there = await ready(client, 2)
            for user in ("alice", "bob"):
                (directory,) = (site.home(user) / ".hpcbridge").glob("hpcb-*")
                assert directory.stat().st_uid == site.home(user).stat().st_uid
            for user in ("alice", "bob"):
                session = await people.launch(client, user)
                assert session["id"] in there
                path = f"/paraview/{session['id']}"
                told = await client.get(path, headers=people.headers(user))
                assert told.json()["warm"] is True
                other = "bob" if user == "alice" else "alice"
                foreign = await client.get(path, headers=people.headers(other))
                assert foreign.status_code == 404


async def test_the_services_session_gets_a_new_secret_over_ssh(
    site: Testbed, tmp_path: Path
) -> None:
    config = people.settings(site, tmp_path, mode="service")
    key = str(site.layout.client_key("alice"))
    config["clusters"]["lab"]["ssh"] |= {"user": "alice", "identity_files": [key]}
    config["auth"]["operators"] = ["oper"]
    program = {"program": TAKER.replace("\n", " ")}
    more = {"walltime": 3600, "properties": program, "warm": {"count": 1, "new_secret": True}}
    config["applications"]["listener"] |= more
    with ServiceProcess(tmp_path, config, "--end-sessions") as service:
        async with service.client() as client:
            (there,) = await ready(client, 1)
            (directory,) = (site.home("alice") / ".hpcbridge").glob("hpcb-*")
            session = await people.launch(client, "bob")
            assert session["id"] == there
            text = (directory / "secret.new").read_text()
            assert text.startswith("taken ")
            assert session["secret"] not in text
