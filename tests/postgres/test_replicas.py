"""Two services on one PostgreSQL: either serves all sessions, and one goes on without the other."""

import asyncio
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hpcbridge.database.changes import LAUNCHING
from tests.postgres.replicas import Replica, Site, greeting
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

DOWN = "sbatch: error: Batch job submission failed: Unable to contact slurm controller\n"


class Asking:
    """Asks a replica for a session all the time, and counts what failed."""

    def __init__(self, replica: Replica, session_id: str) -> None:
        self.asked, self.failed = 0, 0
        self._url = f"{replica.client.base_url}paraview/{session_id}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(timeout=5) as client:
            while not self._over.wait(0.01):
                self.asked += 1
                try:
                    self.failed += client.get(self._url).json()["state"] != "ready"
                except httpx.HTTPError:
                    self.failed += 1

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def everywhere(site: Site, session: dict[str, Any]) -> None:
    """The session is ready and can be reached through every replica."""
    for each in site.replicas:
        wait_until(lambda each=each: each.reaches(session["id"]), "its application")


def connections(port: int) -> int:
    """How many have sent something to a port of 127.0.0.1 that nobody has read yet."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(
        local == f"0100007F:{port:04X}" and not queues.endswith(":00000000")
        for _, local, _, _, queues, *_ in fields
    )


def no_double(site: Site) -> None:
    assert len(set(site.slurm.names)) == len(site.slurm.names)
    assert "Traceback" not in "".join(each.log for each in site.replicas)


def test_a_session_launched_at_either_is_reached_through_both_and_stopped_at_the_other(
    two: Site,
) -> None:
    leader, follower = two.leader, two.follower
    for here, there in ((leader, follower), (follower, leader)):
        session = here.launch()
        everywhere(two, session)
        assert here.end_of(session["id"]) != there.end_of(session["id"])
        there.stop(session["id"])
        for each in (here, there):
            told = each.becomes(session["id"], "ended")
            assert told["reason"] == "stopped"
        wait_until(lambda: not two.slurm.living, "the job's end")
        wait_until(lambda: not list((two.root / "sessions").iterdir()), "its directory's removal")
    wait_until(lambda: two.ask("SELECT count(*) FROM doors") == ["0"], "no local end left")
    assert len(two.slurm.names) == 2
    no_double(two)


def test_a_client_may_come_to_a_replica_before_that_has_heard_of_its_session(site: Site) -> None:
    site.behind_proxies()
    for _ in range(2):
        site.replica().start()
    leader, follower = site.leader, site.follower
    follower.send(signal.SIGSTOP)
    session = leader.launch()
    there = follower.client.base_url
    session["sessionURL"] = f"ws://{there.host}:{there.port}/proxy?sessionId={session['id']}"
    with ThreadPoolExecutor() as pool:
        visits = [pool.submit(greeting, session) for _ in range(3)]
        told = pool.submit(lambda: [each["state"] for each in follower.events(session["id"])])
        wait_until(lambda: connections(there.port or 0) >= 4, "what they ask for")
        follower.send(signal.SIGCONT)
        assert all(visit.result() for visit in visits)
        leader.stop(session["id"])
        assert set(told.result()) == {"ready", "ended"}
    no_double(site)


def test_a_leader_that_is_killed_is_followed_and_no_request_fails(
    two: Site,
) -> None:
    leader, follower = two.leader, two.follower
    session = leader.launch()
    everywhere(two, session)
    with Asking(follower, session["id"]) as asking:
        leader.end(signal.SIGKILL)
        second = follower.launch()
    assert (asking.failed, asking.asked > 50) == (0, True)
    assert follower.reaches(session["id"])
    assert follower.reaches(second["id"])
    leader.start()
    everywhere(two, session)
    everywhere(two, second)
    no_double(two)


def test_a_leader_that_ends_in_order_is_followed_at_once(two: Site) -> None:
    leader, follower = two.leader, two.follower
    session = leader.launch()
    end = leader.end_of(session["id"])
    (holder,) = two.ask("SELECT holder FROM leadership")
    assert leader.end(signal.SIGTERM) == 0
    held = "expires_at > extract(epoch FROM clock_timestamp())"
    assert two.ask(f"SELECT holder FROM leadership WHERE {held}") != [holder]
    follower.launch()
    leader.start()
    wait_until(lambda: leader.end_of(session["id"]) == end, "its old local end")
    everywhere(two, session)
    no_double(two)


def test_a_leader_that_stood_still_for_longer_than_its_lease_follows_and_doubles_nothing(
    two: Site,
) -> None:
    leader, follower = two.leader, two.follower
    session = leader.launch()
    two.slurm.hold()
    waiting = [leader.begin() for _ in range(3)]
    leader.send(signal.SIGSTOP)
    waiting += [follower.begin() for _ in range(3)]
    wait_until(lambda: len(two.slurm.names) == 7, "jobs by the new leader")
    assert "this replica leads" in follower.log
    leader.send(signal.SIGCONT)
    wait_until(lambda: "leads no more" in leader.log, "its stepping down")
    assert two.leader is follower
    two.slurm.hold(False)
    for each in waiting:
        follower.becomes(each, "ready")
        leader.becomes(each, "ready")
    everywhere(two, session)
    assert len(two.slurm.names) == len(two.slurm.living) == 7
    no_double(two)


@pytest.mark.parametrize(
    "locked",
    ["SELECT term FROM leadership FOR UPDATE", f"SELECT pg_advisory_xact_lock({LAUNCHING})"],
)
async def test_a_replica_that_stands_still_in_the_middle_of_a_statement_holds_nobody_up(
    two: Site, url: str, locked: str
) -> None:
    """To PostgreSQL such a one is active, and not idle in a transaction."""
    await asyncio.to_thread(two.leader.launch)
    stuck = await asyncpg.connect(
        url.replace("+asyncpg", ""), server_settings={"application_name": "hpcbridge"}
    )
    await stuck.execute("BEGIN")
    await stuck.execute(locked)
    stuck._transport.pause_reading()
    # Parse "SELECT 1" and Flush; neither Bind, Execute nor Sync follow.
    stuck._transport.write(b"P\0\0\0\x10\0SELECT 1\0\0\0H\0\0\0\4")
    for each in two.replicas:
        assert (await asyncio.to_thread(each.launch))["id"]
    assert "of a replica that stands still" in two.replicas[0].log + two.replicas[1].log
    stuck.terminate()
    no_double(two)


def test_a_leader_that_stood_still_in_the_middle_of_a_submission_doubles_nothing(
    two: Site,
) -> None:
    leader, follower = two.leader, two.follower
    two.slurm.spoil(sbatch={"before": 1.0, "times": 1})
    waiting = leader.begin()
    wait_until(lambda: list((two.root / "sessions").glob("*")), "its directory")
    leader.send(signal.SIGSTOP)
    assert follower.becomes(waiting, "ready")["state"] == "ready"
    leader.send(signal.SIGCONT)
    leader.becomes(waiting, "ready")
    wait_until(lambda: len(two.slurm.living) == 1, "one job")
    no_double(two)


def test_what_a_waiting_job_may_expect_is_told_alike_at_each_replica(two: Site) -> None:
    leader, follower = two.leader, two.follower
    two.slurm.hold(estimate="2000000000")
    leader.becomes(leader.begin(), "queued")
    second = follower.begin()
    expected = {
        "queue": "viz",
        "position": 2,
        "waits_for": "2 GPUs",
        "estimated_start": 2_000_000_000,
    }

    def known(told: dict[str, Any]) -> bool:
        return expected.items() <= told.items() and "1 job is ahead" in told["message"]

    assert any(known(told) for told in follower.events(second))
    for each in two.replicas:
        wait_until(lambda each=each: known(each.told(second)), "its place and estimate")
    leader.end(signal.SIGKILL)
    asked = two.slurm.calls("squeue")
    while two.slurm.calls("squeue") < asked + 2:  # the new leader looks at the jobs themselves
        assert known(follower.told(second))
    two.slurm.hold(False)
    assert not expected.keys() & follower.becomes(second, "ready").keys()
    assert two.ask("SELECT count(*) FROM sessions WHERE outlook IS NOT NULL") == ["0"]
    no_double(two)


def test_while_the_database_is_away_sessions_go_on_and_nothing_ends(two: Site) -> None:
    session = two.leader.launch()
    everywhere(two, session)
    found = [each.client.get("/status").json() for each in two.replicas]
    assert {each["leader"] for each in found} == {
        two.leader.client.get("/status").json()["replica"]
    }
    assert sorted(each["leading"] for each in found) == [False, True]
    two.postgresql.stop()
    for each in two.replicas:
        wait_until(lambda each=each: each.client.get("/readyz").status_code == 503, "not ready")
        assert each.client.get("/livez").text == "ok\n"
        reply = each.client.post("/paraview", json={"application": "cone"})
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) > 0
        assert each.client.delete(f"/paraview/{session['id']}").status_code == 503
    wait_until(lambda: "leads no more" in two.replicas[0].log + two.replicas[1].log, "no leader")
    for each in two.replicas:
        assert each.told(session["id"])["state"] == "ready"
        assert each.reaches(session["id"])
    assert len(two.slurm.living) == 1
    two.postgresql.start()
    wait_until(lambda: len({each.begin() for each in two.replicas}) == 2, "launches")
    wait_until(lambda: len(two.slurm.living) == 3, "their jobs")
    everywhere(two, session)
    assert {each.client.get("/readyz").text for each in two.replicas} == {"ok\n"}
    no_double(two)


def test_a_leader_that_stands_still_in_the_middle_of_a_change_holds_nobody_up(two: Site) -> None:
    """Its transaction holds the row of its term; the database gives that up by itself."""
    leader, follower = two.leader, two.follower
    held = (
        "BEGIN; SET idle_in_transaction_session_timeout = 2000;"
        "SELECT term FROM leadership FOR SHARE;"
    )
    with two.postgresql.transaction(two.database, held):
        leader.end(signal.SIGKILL)
        follower.launch()
    no_double(two)


def test_one_key_is_one_session_at_whichever_replica_it_is_sent(two: Site) -> None:
    key = {"Idempotency-Key": "0123456789abcdef"}
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(each.launch, **key) for each in two.replicas * 3]
        replies = [each.result() for each in asked]
    assert len({(each["id"], each["secret"]) for each in replies}) == 1
    assert len(two.slurm.names) == 1
    no_double(two)


def test_what_ended_a_launch_is_told_alike_at_each_replica_and_after_a_restart(two: Site) -> None:
    two.slurm.spoil(sbatch={"times": -1, "lost": True, "status": 1, "err": DOWN})
    leader, follower = two.leader, two.follower

    def launched(replica: Replica, key: str) -> tuple[int, dict[str, Any]]:
        headers = {"Idempotency-Key": key}
        reply = replica.client.post("/paraview", json={"application": "cone"}, headers=headers)
        return reply.status_code, reply.json()

    there = launched(leader, "0123456789abcdef")
    assert there[0] == 503
    assert launched(follower, "fedcba9876543210") == there
    again = [launched(each, "0123456789abcdef") for each in (leader, follower)]
    follower.end()
    again.append(launched(follower.start(), "0123456789abcdef"))
    assert [status for status, _ in again] == [503] * 3
    assert len({body["error"] for _, body in again}) == 1


def test_a_repeated_launch_joins_its_session_at_the_other_replica(site: Site) -> None:
    for each in [site.replica(slow={"hold": 0.5}), site.replica(slow={"hold": 0.5})]:
        each.start()
    site.slurm.hold()
    first, second = site.replicas
    told = first.client.post("/paraview", json={"application": "slow"})
    assert told.status_code == 503
    site.slurm.hold(False)
    second.becomes(told.json()["id"], "ready")
    assert second.launch("slow")["id"] == told.json()["id"]
    another = first.client.post("/paraview", json={"application": "slow"})
    assert another.json()["id"] != told.json()["id"]  # that one has its client now
    no_double(site)


def test_a_session_is_kept_for_a_client_that_waits_at_a_follower(site: Site) -> None:
    for _ in range(2):
        site.replica(brief={"keep": 0.1}).start()
    site.slurm.hold()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(site.follower.launch, "brief")
        time.sleep(6)  # that nothing happens can only be seen over time
        site.slurm.hold(False)
        session = waiting.result()
    site.leader.becomes(session["id"], "ready")
    wait_until(lambda: site.leader.reaches(session["id"]), "its application")


def test_limits_hold_for_all_replicas_together(site: Site) -> None:
    for _ in range(2):
        site.replica(few={"sessions": 3}).start()
    site.slurm.hold()
    body = {"application": "few"}
    headers = {"Prefer": "respond-async"}
    with ThreadPoolExecutor(10) as pool:
        asked = [
            pool.submit(each.client.post, "/paraview", json=body, headers=headers)
            for each in site.replicas * 5
        ]
        statuses = sorted(each.result().status_code for each in asked)
    assert statuses == [202] * 3 + [503] * 7
    wait_until(lambda: len(site.slurm.names) == 3, "three jobs")


def test_a_session_with_a_visitor_at_a_follower_is_not_idle(site: Site) -> None:
    for _ in range(2):
        site.replica(watched={"idle": 3.0, "properties": site.staying()}).start()
    leader, follower = site.leader, site.follower
    session = leader.launch("watched")
    wait_until(lambda: follower.end_of(session["id"]), "the follower's tunnel")
    with socket.create_connection(follower.end_of(session["id"])):  # type: ignore[arg-type]
        time.sleep(18)  # longer than idle and all that is added to it
        assert leader.told(session["id"])["state"] == "ready"
    assert leader.becomes(session["id"], "ended")["reason"] == "idle"
    assert follower.becomes(session["id"], "ended")["reason"] == "idle"


def test_a_session_directory_and_its_secret_are_removed_once_by_whoever_leads(two: Site) -> None:
    leader, follower = two.leader, two.follower
    session = follower.launch()
    two.slurm.spoil(scancel={"times": 2, "lost": True, "status": 1, "err": "error: no\n"})
    follower.stop(session["id"])
    leader.becomes(session["id"], "ended")
    leader.end(signal.SIGKILL)
    wait_until(lambda: not two.slurm.living, "the job's end")
    wait_until(lambda: not list((two.root / "sessions").iterdir()), "the directory's removal")
    row = "SELECT state, secret, job_ended FROM sessions"
    wait_until(lambda: two.ask(row) == ["ended||t"], "its record")
