"""The test cluster: found or brought up, the application put there, and all of it undone."""

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Unavailable
from benchmarks.waiting import until
from scripts import software
from testbed import cluster
from testbed.handle import Testbed

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "benchmarks"
"""Below alice's home: the instant application, and the output of the peer's jobs."""


class Lab:
    """A test cluster that is up, with a folder of ours in alice's home."""

    def __init__(self, site: Testbed) -> None:
        self.site = site
        self.folder = site.home() / FOLDER
        self.sessions = self.folder / "sessions"
        #: The same folder as the cluster's machines see it.
        self.inside = f"{pwd.getpwnam(site.user).pw_dir}/{FOLDER}"

    def install(self, *programs: Path) -> None:
        """Copy programs into the folder: the cluster cannot see this checkout."""
        account = pwd.getpwnam(self.site.user)
        for folder in (self.folder, self.sessions):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, account.pw_uid, account.pw_gid)
        for program in programs:
            copy = Path(shutil.copy(program, self.folder))
            os.chown(copy, account.pw_uid, account.pw_gid)

    def install_software(self) -> None:
        """VTK and wslink for the nodes, as the demonstration and the tests have them."""
        software.install_on_cluster(ROOT)

    def idle(self) -> None:
        """Wait until no job is left and every node is free again."""
        until(
            lambda: not self.site.jobs() and set(self.site.node_states().values()) == {"idle"},
            "the cluster is idle (does something else use it?)",
            pause=0.1,
        )

    def settings(self) -> dict[str, Any]:
        """hpcbridge's ``[clusters.lab]``."""
        return {
            "scheduler": "slurm",
            "session_root": f"{self.inside}/sessions",
            "python": f"{pwd.getpwnam(self.site.user).pw_dir}/software/python",
            "options": {"partition": "viz"},
            "ssh": {"host": self.site.head, "config": str(self.site.ssh_config)},
            "tunnel": {"node_pattern": "hpcb-n[0-9]"},
        }


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """The test cluster; taken down at the end only if it was not up before."""
    try:
        cluster.load()
        was_up = True
    except cluster.TestbedError:
        was_up = False
    try:
        site, _ = cluster.up()
    except cluster.TestbedError as error:
        raise Unavailable(str(error)) from error
    found = Lab(site)
    shutil.rmtree(found.folder, ignore_errors=True)
    try:
        yield found
    finally:
        shutil.rmtree(found.folder, ignore_errors=True)
        if not was_up:
            cluster.down()
