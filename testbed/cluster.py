"""Bring the test cluster up and down, and find it from tests.

from testbed import cluster

bed = cluster.load()
job = bed.run("head", "alice", ["sbatch", "--parsable"], text=script).stdout.strip()
with bed.down("slurmctld"):
    ...
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed import accounting, accounts, config, daemons, network, packages, services
from testbed.handle import Testbed
from testbed.layout import LINK, Layout, TestbedError, make_layout, own_state

__all__ = ["Testbed", "TestbedError", "check_root", "down", "load", "up"]

_LOCK = Path("/run/hpcb-testbed.lock")
_MARKER = "this-is-a-hpcbridge-testbed"


def load(state: Path | None = None) -> Testbed:
    """The running cluster of this state directory."""
    layout = make_layout(state)
    if not layout.description.exists() or not daemons.is_running(layout, "munged"):
        raise TestbedError(
            "The test cluster is not up: run `make cluster` (or python3 -m testbed up)."
        )
    return Testbed(layout)


def up(state: Path | None = None, *, with_accounting: bool = False) -> tuple[Testbed, list[str]]:
    """Bring the cluster up, or repair it; also tells which daemons were started.

    One that was up with accounting and is wanted without it loses it, and the other way round.
    """
    check_root()
    packages.check()
    layout = make_layout(state)
    with _locked():
        network.check_owner(layout.state)
        _claim(layout)
        _link(layout)
        accounts.prepare(layout)
        if with_accounting:
            accounting.prepare(layout)
        elif layout.accounting:
            _stop_daemons(layout)
            accounting.remove(layout)
        if config.prepare(layout):
            _stop_daemons(layout)
            # A controller without slurmdbd numbers itself; 24.11 then refuses slurmdbd's number.
            (layout.state / "ctld/clustername").unlink(missing_ok=True)
        network.up(layout.state)
        _stop_strays(layout)
        started = [
            daemon.name for daemon in services.all_of(layout) if daemons.start(layout, daemon)
        ]
        layout.rest_socket.chmod(0o666)  # the token is what counts
        testbed = Testbed(layout)
        testbed.settle()
        if layout.accounting:
            accounting.enrol(layout, testbed.call)
    return testbed, started


def down(state: Path | None = None) -> bool:
    """Cancel jobs, stop everything, remove the state; False when there was nothing."""
    check_root()
    layout = make_layout(state)
    with _locked():
        network.check_owner(layout.state)
        existed = layout.state.exists() or network.is_up()
        if daemons.is_running(layout, "slurmctld"):
            # Jobs outlive slurmd; those that do not end in time are ended by stop_rest.
            with contextlib.suppress(TestbedError, subprocess.TimeoutExpired):
                Testbed(layout).cancel_all()
        _stop_daemons(layout)
        daemons.stop_rest()
        network.down()
        if (layout.state / _MARKER).exists():
            shutil.rmtree(layout.state)
        if LINK.is_symlink() and LINK.readlink() == layout.state:
            LINK.unlink()
    return existed


def _claim(layout: Layout) -> None:
    """Mark the state directory as ours, since `down` removes it with all that is in it."""
    if (layout.state / _MARKER).exists():
        return
    if layout.state.exists() and any(layout.state.iterdir()):
        raise TestbedError(
            f"{layout.state} holds other things: name an empty or new directory with --state."
        )
    # Somebody removed the state of a running cluster: its processes are strangers now.
    daemons.stop_rest()
    accounts.directory(layout.state)
    (layout.state / _MARKER).write_text(
        "Removed, with all that is beside it, by: python3 -m testbed down\n"
    )


def _link(layout: Layout) -> None:
    """Let the examples find the checkout's own cluster; one that was put elsewhere has no link."""
    if layout.state != own_state():
        return
    if LINK.is_dir() and not LINK.is_symlink():
        raise TestbedError(f"{LINK} is where an earlier version had its cluster: remove it first.")
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(layout.state)


def _stop_strays(layout: Layout) -> None:
    """Stop daemons whose namespace was removed under them: they live on, in one without a name."""
    for daemon in services.all_of(layout):
        pid = daemons.running_pid(layout, daemon.name)
        if pid is not None and pid not in network.processes(daemon.machine):
            daemons.stop(layout, daemon.name)


def _stop_daemons(layout: Layout) -> None:
    daemons.stop(layout, *(daemon.name for daemon in services.all_of(layout)))


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_root() -> None:
    """Raise, politely, when this is not root."""
    if os.geteuid() != 0:
        raise TestbedError(
            "The test cluster needs root, for network namespaces, users and daemons: try again "
            "with sudo. (Nothing was changed; what does not need the cluster works without root.)"
        )
