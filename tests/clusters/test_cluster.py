"""A cluster put together from its settings: where its files are, and whose connections it has."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from hpcbridge.clusters import cluster as cluster_module
from hpcbridge.clusters.cluster import Cluster, build
from hpcbridge.config.batchsystems import LocalCluster, SlurmCluster
from hpcbridge.errors import ConfigError
from hpcbridge.identity.views import Views
from hpcbridge.transports.connection import SSHHost
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import SSHTransport
from hpcbridge.transports.sudo import SudoTransport
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


# -- put together for users


def slurm(folder: Path, identity: dict[str, Any], **more: Any) -> SlurmCluster:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ca"], check=True)
    known = {"mode": "ssh-ca", "ca_key": folder / "ca"} | identity
    return SlurmCluster(scheduler="slurm", identity=known, **more)  # type: ignore[arg-type]


LOGIN: dict[str, Any] = {"host": "login", "user": "bridge"}


@pytest.mark.parametrize(
    ("ssh", "certified"), [(LOGIN, True), (LOGIN | {"identity_files": ["/k"]}, False)]
)
async def test_the_ca_lets_the_services_own_account_in_unless_that_has_a_key(
    tmp_path: Path, ssh: dict[str, Any], *, certified: bool
) -> None:
    cluster = build("big", slurm(tmp_path, {}, ssh=ssh), tmp_path)
    assert cluster.login is not None
    assert (cluster.login._login is not None) == certified
    if cluster.login._login is not None:
        assert cluster.login._login.least_uid is None, "it may be a system's account"
    assert cluster.service == "bridge"
    view = cluster.hold("ann")
    assert view.login is not None
    assert view.login._login is not None
    assert view.login._login.least_uid is not None
    await cluster.close()


@pytest.mark.parametrize("ssh", [None, LOGIN])
async def test_sudo_runs_what_is_a_users_on_the_login_host_or_here(
    tmp_path: Path, ssh: dict[str, Any] | None
) -> None:
    settings = slurm(tmp_path, {"mode": "sudo", "ca_key": None, "runas": ["ann"]}, ssh=ssh)
    cluster = build("big", settings, tmp_path)
    assert (cluster.login is None) == (ssh is None)
    if cluster.login is not None:
        assert cluster.login._login is None
    view, inner = cluster.hold("ann"), SSHTransport if ssh else LocalTransport
    assert isinstance(cluster.transport, inner)
    assert isinstance(view.transport, SudoTransport)
    assert isinstance(view.transport._inner, inner)
    assert view.tunnels is cluster.tunnels
    assert (view.login is None) == (ssh is None)
    assert view.own == []
    await cluster.close()


@pytest.mark.parametrize(
    ("identity", "lacks", "said"),
    [
        ({"mode": "sudo", "ca_key": None, "runas": ["ann"]}, {"commands": ()}, "identity.mode"),
        ({"listing": "service"}, {"lists_others": False}, "identity.listing"),
    ],
)
async def test_what_an_adapter_cannot_do_for_users_stops_the_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    identity: dict[str, Any],
    lacks: dict[str, Any],
    said: str,
) -> None:
    settings = slurm(tmp_path, identity, ssh=LOGIN)
    await build("big", settings, tmp_path).close()
    kind = dataclasses.replace(cluster_module.kind_of(settings), **lacks)
    monkeypatch.setattr(cluster_module, "kind_of", lambda _: kind)
    with pytest.raises(ConfigError, match=rf"clusters\.big\.{said}: "):
        build("big", settings, tmp_path)
    able = dataclasses.replace(kind, lists_others=True, as_user=lambda given, _: given)
    monkeypatch.setattr(cluster_module, "kind_of", lambda _: able)
    await build("big", settings, tmp_path).close()


async def test_an_adapter_may_make_a_users_settings_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = slurm(tmp_path, {"listing": "user"}, ssh=LOGIN)

    def as_user(given: SlurmCluster, account: str) -> SlurmCluster:
        return given.model_copy(update={"title": f"as {account}"})

    kind = dataclasses.replace(cluster_module.kind_of(settings), as_user=as_user)
    monkeypatch.setattr(cluster_module, "kind_of", lambda _: kind)
    cluster = build("big", settings, tmp_path)
    view = cluster.hold("ann")
    assert (view.settings.title, cluster.settings.title) == ("as ann", settings.title)
    assert view.own == [view.tunnels, view.watcher]
    await cluster.close()


async def test_a_cluster_that_is_closed_leaves_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, closed = build("big", slurm(tmp_path, {}, ssh=LOGIN), tmp_path), []

    async def close(host: SSHHost) -> None:
        closed.append(host)

    monkeypatch.setattr(SSHHost, "close", close)
    await cluster.close()
    assert cluster.login in closed
