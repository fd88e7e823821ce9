"""Users of the test cluster as the service meets them: named by a header, at home on the nodes."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from testbed.handle import Testbed
from testbed.layout import SERVICE_USER

SECRET = "only-the-front-end-knows-these-words"

# Ready at once, in any account: it says so and accepts for ever.
LISTENER = r"""
use strict; use IO::Socket::INET; $| = 1;
my $l = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 8) or die $!;
print 'Starting factory'; while (my $c = $l->accept) { close $c }
"""


def headers(user: str) -> dict[str, str]:
    """What the front end adds to a request of this user."""
    return {"X-Remote-User": user, "X-Hpcbridge-Secret": SECRET}


async def launch(client: httpx.AsyncClient, user: str) -> dict[str, Any]:
    """A session of this user, which is ready."""
    reply = await client.post("/paraview", json={"application": "listener"}, headers=headers(user))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def settings(site: Testbed, folder: Path, **identity: Any) -> dict[str, Any]:
    """A configuration for several users, with ``identity`` for the cluster."""
    secret = folder / "front-end-secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    (folder / "listener.sh").write_text(
        "#!/bin/bash\n#SBATCH --partition={{ cluster.partition | directive }}\n"
        '{% include "prelude.sh" %}\n'
        "exec perl -e {{ app.program }} {{ job.bind }} $HPCBRIDGE_PORT\n"
    )
    ssh = {"host": site.head, "config": str(site.ssh_config), "user": SERVICE_USER}
    if identity["mode"] != "ssh-ca":
        ssh["identity_files"] = [str(site.layout.client_key(SERVICE_USER))]
    return {
        "template_dirs": [str(folder)],
        "server": {"port": 0, "state_dir": str(folder / "state"), "fields": ["host", "job_id"]},
        "auth": {"accept": ["header"], "secret_file": str(secret)},
        "clusters": {
            "lab": {
                "scheduler": "slurm",
                "options": {"partition": "viz"},
                "ssh": ssh,
                "tunnel": {"node_pattern": "hpcb-n[0-9]"},
                "identity": identity,
            }
        },
        "applications": {
            "listener": {
                "cluster": "lab",
                "template": "listener.sh",
                "wait": 90,
                "properties": {"program": LISTENER.replace("\n", " ")},
            }
        },
    }


def by_certificates(site: Testbed, folder: Path, **more: Any) -> dict[str, Any]:
    """The same with the CA that the cluster's sshd trust."""
    return settings(site, folder, mode="ssh-ca", ca_key=str(site.layout.user_ca), **more)


def by_sudo(site: Testbed, folder: Path, **more: Any) -> dict[str, Any]:
    """The same with sudo, on the head."""
    helper = str(site.layout.state / "hpcbridge-files")
    return settings(site, folder, mode="sudo", helper=helper, **{"runas": ["alice", "bob"]} | more)


def by_keys(site: Testbed, folder: Path, **more: Any) -> dict[str, Any]:
    """The same with a private key for each user."""
    keys = str(site.layout.state / "id_{account}")
    return settings(site, folder, mode="ssh-key", keys=keys, **more)


def by_rest(site: Testbed, folder: Path, **more: Any) -> dict[str, Any]:
    """The same with slurmrestd, and a token for each user; files by certificates."""
    key = folder / "jwt_hs256.key"
    key.write_bytes((site.layout.state / "ctld/jwt_hs256.key").read_bytes())
    key.chmod(0o600)
    config = by_certificates(site, folder, **more)
    config["clusters"]["lab"] |= {
        "scheduler": "slurmrest",
        "url": site.rest_url,
        "user": SERVICE_USER,
        "jwt_key_file": str(key),
    }
    return config


@contextlib.contextmanager
def sudo_rules(site: Testbed, config: Path) -> Iterator[None]:
    """What 'hpcbridge sudoers' prints is installed on the head, as an admin would do it."""

    def printed(*options: str) -> str:
        command = [sys.executable, "-m", "hpcbridge", "sudoers", str(config), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    rules, helper = site.layout.sudoers / "hpcbridge", site.layout.state / "hpcbridge-files"
    rules.write_text(printed())
    rules.chmod(0o440)
    helper.write_text(printed("--helper"))
    helper.chmod(0o755)
    site.call("visudo", "-c", "-f", "/etc/sudoers.d/hpcbridge")
    try:
        yield
    finally:
        rules.unlink()
        helper.unlink()


@contextlib.contextmanager
def account(name: str, home: Path | None = None, *, locked: bool = False) -> Iterator[int]:
    """An account of this machine, and so of the cluster; its number."""
    place = ["--no-create-home", "--home-dir", str(home or "/nonexistent")]
    password = ["--password", "!" if locked else "*"]
    subprocess.run(["useradd", "--shell", "/bin/bash", *place, *password, name], check=True)
    try:
        found = pwd.getpwnam(name)
        if home is not None:
            home.mkdir(mode=0o700)
            os.chown(home, found.pw_uid, found.pw_gid)
        yield found.pw_uid
    finally:
        subprocess.run(["userdel", "--force", name], capture_output=True, check=False)
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
