"""Pools over crashes and changes of the configuration: taken up again, never doubled."""

import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.waiting import wait_until

pytestmark = pytest.mark.servers

WARM = {"application": "warm"}


@pytest.fixture
def pool(warm_site: Any) -> Callable[[str], list[str]]:
    """Ids of the site's sessions for which a condition holds, as the database has it."""

    def ids(condition: str) -> list[str]:
        connection = sqlite3.connect(warm_site.state_dir / "hpcbridge.sqlite")
        query = f"SELECT id FROM sessions WHERE pool IS NOT NULL AND {condition}"
        found = [each[0] for each in connection.execute(query)]
        connection.close()
        return found

    return ids


READY = "state = 'ready' AND taken_at IS NULL"


def test_a_pool_outlives_a_crash_and_is_not_doubled(
    warm_site: Any, serve: Callable[..., Any], pool: Callable[[str], list[str]]
) -> None:
    warm_site.write()
    first = serve()
    (waiting,) = wait_until(lambda: pool(READY), "a warm session")
    first.stop(signal.SIGKILL)
    second = serve()
    reply = second.post(WARM)
    assert reply.status_code == 200, reply.text
    assert reply.json()["id"] == waiting
    (other,) = wait_until(lambda: pool(READY), "another")
    assert set(pool("1")) == {waiting, other}
    assert second.stop() == 0
    assert pool("state != 'ended'") == [waiting]
    assert len(warm_site.directories()) == 1


def test_a_pool_that_is_configured_otherwise_is_replaced_and_one_that_is_gone_is_ended(
    warm_site: Any, serve: Callable[..., Any], pool: Callable[[str], list[str]]
) -> None:
    warm_site.write()
    service = serve()
    (waiting,) = wait_until(lambda: pool(READY), "a warm session")
    service.stop(signal.SIGKILL)
    warm_site.config["applications"]["warm"]["walltime"] = 1800
    warm_site.write()
    service = serve()
    wait_until(lambda: pool(f"state = 'ended' AND id = '{waiting}'"), "its end")
    (other,) = wait_until(lambda: pool(READY), "another")
    service.stop(signal.SIGKILL)
    del warm_site.config["applications"]["warm"]["warm"]
    warm_site.write()
    serve("--end-sessions")
    wait_until(lambda: not pool("state != 'ended'"), "the end of all")
    wait_until(lambda: not warm_site.directories(), "nothing left")
    assert set(pool("1")) == {waiting, other}
