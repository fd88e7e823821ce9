"""A cluster put together from its settings: where its files are, and whose connections it has."""

from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge.clusters.cluster import Cluster, build
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.identity.views import Views
from tests.fakes import fake_cluster


def local(**more: Any) -> LocalCluster:
    return LocalCluster(scheduler="local", **more)


async def test_session_directories_are_where_the_settings_say_else_below_the_home() -> None:
    cluster = fake_cluster()
    cluster.settings = local(session_root="/scratch/{account}/sessions")
    assert await cluster.session_root() == "/scratch/{account}/sessions"
    cluster.account = "alice"
    assert await cluster.session_root() == "/scratch/alice/sessions"
    cluster.settings = local()
    assert await cluster.session_root() == "/home/alice/.hpcbridge"
    cluster.default_root = "/var/lib/hpcbridge"
    assert await cluster.session_root() == "/var/lib/hpcbridge"


async def test_the_embedded_batch_runner_keeps_sessions_in_the_state_directory(
    tmp_path: Path,
) -> None:
    cluster = build("here", local(), tmp_path)
    assert await cluster.session_root() == f"{tmp_path}/local/here/sessions"
    await cluster.close()


async def test_where_jobs_are_the_services_own_everybody_has_the_same_cluster() -> None:
    cluster = fake_cluster()
    assert await cluster.account_of("alice") is None
    assert cluster.hold("alice") is cluster
    cluster.release("alice")


async def test_each_account_has_a_view_while_somebody_holds_it() -> None:
    made: list[str] = []

    def view(account: str) -> Cluster:
        made.append(account)
        return fake_cluster()

    cluster, views = fake_cluster(), Views(view, linger=60)
    cluster.views, cluster.service = views, "hpcbridge"
    for own in (None, "", "hpcbridge"):
        assert cluster.hold(own) is cluster
        cluster.release(own)
    assert made == []
    first = cluster.hold("alice")
    assert first is not cluster
    with cluster.held("alice") as again:
        assert again is first
        assert views._holders == {"alice": 2}
    with pytest.raises(ZeroDivisionError), cluster.held("alice"):
        raise ZeroDivisionError
    assert (views._holders, made) == ({"alice": 1}, ["alice"])
    await cluster.close()


async def test_a_cluster_that_is_closed_closes_all_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    def told(name: str) -> Any:
        async def close() -> None:
            closed.append(name)

        return close

    base, view = fake_cluster(), fake_cluster()
    for whose, cluster in (("base", base), ("view", view)):
        for part in ("watcher", "tunnels", "follower", "scheduler", "transport"):
            monkeypatch.setattr(getattr(cluster, part), "close", told(f"{whose}'s {part}"))
    view.account = "alice"
    view.own.append(cast(Any, view.tunnels))
    base.views, base.service = Views(lambda _: view, linger=60), "hpcbridge"
    base.hold("alice")
    await base.close()
    shared = {"view's watcher"}
    everything = {
        f"{whose}'s {part}"
        for whose in ("base", "view")
        for part in ("watcher", "tunnels", "follower", "scheduler", "transport")
    }
    assert sorted(closed) == sorted(everything - shared)
