"""Warm sessions at two replicas: each is handed out once, and the pool is filled once."""

import contextlib
import functools
import hashlib
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.postgres.replicas import Site
from tests.waiting import wait_until
from tests.warm.conftest import PROGRAM

pytestmark = pytest.mark.timeout(300)

READY = "SELECT id FROM sessions WHERE pool IS NOT NULL AND taken_at IS NULL AND state = 'ready'"
LIVING = "SELECT id FROM sessions WHERE taken_at IS NULL AND state != 'ended'"


@pytest.fixture
def pools(site: Site) -> Site:
    """Two replicas, and two warm sessions that both have a tunnel to."""
    site.config["applications"]["cone"] |= {"walltime": 3600, "warm": {"count": 2}}
    for each in [site.replica().start(wait=False), site.replica().start(wait=False)]:
        each.ready()
    filled(site)
    return site


def filled(site: Site) -> set[str]:
    wait_until(lambda: len(site.ask(READY)) == 2, "two warm sessions")
    return set(site.ask(READY))


def test_launches_at_both_get_different_sessions_and_the_pool_fills_again(pools: Site) -> None:
    waiting = filled(pools)

    def launch(number: int) -> dict[str, Any]:
        return pools.replicas[number % 2].launch()

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(launch, range(6)))
    ids = {each["id"] for each in found}
    assert len(ids) == 6
    assert waiting <= ids
    assert not filled(pools) & ids
    assert len(pools.ask(LIVING)) == 2
    assert len(pools.slurm.names) == len(set(pools.slurm.names)) == 8


def test_a_follower_hands_over_and_the_leader_knows(pools: Site) -> None:
    waiting = filled(pools)
    session = pools.follower.launch()
    assert session["id"] in waiting
    for each in pools.replicas:
        wait_until(lambda each=each: each.reaches(session["id"]), "its application")
        wait_until(lambda each=each: each.told(session["id"]).get("warm"), "its hand-over")
    assert session["id"] not in filled(pools)


def answers(end: tuple[str, int], expected: str) -> bool:
    """Whether the application says this first; not where the connection was cut."""
    with socket.create_connection(end, 5) as connection, contextlib.suppress(ConnectionError):
        return connection.recv(100).decode() == expected
    return False


def test_a_follower_gives_the_session_a_new_secret_and_the_leader_keeps_it(site: Site) -> None:
    program = site.root / "takes"
    program.write_text(PROGRAM.replace("TAKES", "True"))
    program.chmod(0o755)
    warm = {"count": 2, "new_secret": True}
    given = {"walltime": 3600, "keep": 0.5, "properties": {"program": str(program)}, "warm": warm}
    site.config["applications"]["cone"] |= given
    for each in [site.replica().start(wait=False), site.replica().start(wait=False)]:
        each.ready()
    waiting = filled(site)
    for replica in (site.follower, site.leader):
        session = replica.launch()
        end = site.leader.end_of(session["id"])
        assert end is not None
        # The leader, which learns of the hand-over a moment later, cuts whoever came before that.
        expected = hashlib.sha256(session["secret"].encode()).hexdigest()
        wait_until(functools.partial(answers, end, expected), "the new secret")
        assert site.ask(f"SELECT secret FROM sessions WHERE id = '{session['id']}'") == [
            session["secret"]
        ]
        waiting -= {session["id"]}
        filled(site)
        assert site.leader.told(session["id"])["state"] == "ready"
    assert waiting == set()


def test_a_new_leader_keeps_the_pool_as_it_is(pools: Site) -> None:
    waiting = filled(pools)
    leader, follower = pools.leader, pools.follower
    leader.end(signal.SIGKILL)
    wait_until(lambda: pools.leader is follower, "another leader")
    session = follower.launch()
    assert session["id"] in waiting
    left = filled(pools)
    assert waiting - {session["id"]} < left
    assert len(pools.slurm.names) == 3


def test_the_last_replica_that_stops_ends_the_warm_sessions(pools: Site) -> None:
    session = pools.replicas[0].launch()
    filled(pools)
    assert pools.replicas[0].end() == 0
    assert len(pools.ask(READY)) == 2
    assert pools.replicas[1].end() == 0
    assert pools.ask(LIVING) == []
    assert pools.ask("SELECT id FROM sessions WHERE state = 'ready'") == [session["id"]]
