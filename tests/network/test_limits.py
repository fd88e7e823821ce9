"""Descriptors and connections: how many there are, and what is said when there are too many."""

import asyncio
import logging
import resource
import subprocess
import sys

import pytest

from hpcbridge.network.counts import Counts
from hpcbridge.network.descriptors import Complaints, room

RAISED = """
import resource, subprocess, sys
from hpcbridge.network.descriptors import raise_limit, usual
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
assert raise_limit() == hard
child = subprocess.Popen(["/bin/sh", "-c", "read x; ulimit -Sn"], stdin=-1, stdout=-1)
usual(child.pid)
print(child.communicate(b"go")[0].decode().strip(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_all_descriptors_are_taken_and_children_get_what_is_usual() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run(
        [sys.executable, "-c", RAISED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"256 ({hard}, {hard})"


def test_there_is_room_for_a_sixth_of_the_descriptors() -> None:
    assert (room(100), room(1024), room(1 << 20)) == (1, 137, 174_729)


async def test_failed_accepts_are_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    loop, complain = asyncio.get_running_loop(), Complaints()
    failed = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(24, "Too many open files"),
    }
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            complain(loop, failed)
        complain(loop, {"message": "another thing"})
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Too many open files" in caplog.messages[0]
    assert "another thing" in caplog.messages[1]


def test_connections_are_counted_once_and_a_front_ends_by_nobodys_address() -> None:
    counts = Counts(3, 1, 1, exempt=frozenset({"10.0.0.1"}))
    assert counts.arrive("a", "192.0.2.1")
    assert counts.arrive("a", "192.0.2.1")  # the next request on it
    assert not counts.arrive("b", "192.0.2.1")
    assert counts.arrive("c", "10.0.0.1")
    assert counts.arrive("d", "10.0.0.1")
    assert not counts.arrive("e", None)
    counts.leave("e")
    counts.leave("a")
    assert counts.arrive("e", None)
