"""As whom a cluster works: what may be configured, the rules of sudo, and what users share."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from hpcbridge.cli.main import app
from hpcbridge.clusters import cluster as clusters
from hpcbridge.config import file as configfile
from hpcbridge.config.settings import Settings
from hpcbridge.errors import AccountRefused, ClusterUnreachable, ConfigError
from hpcbridge.identity import sudoers, views
from hpcbridge.identity.views import Views
from hpcbridge.transports.base import Completed
from tests.waiting import until

PERSONAL: dict[str, dict[str, Any]] = {
    "ssh-ca": {"mode": "ssh-ca", "ca_key": "ca"},
    "ssh-key": {"mode": "ssh-key", "keys": "/etc/hpcbridge/keys/{account}"},
    "sudo": {"mode": "sudo", "runas": ["%viz"]},
}


def sections(identity: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    big = {"scheduler": "slurm", "ssh": {"host": "login", "user": "bridge"}, "identity": identity}
    return {
        "auth": {"accept": ["token"]},
        "clusters": {"big": big | cluster},
        "applications": {"cone": {"cluster": "big", "template": "python.sh"}},
    }


def written(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "hpcbridge.toml"
    path.write_text(tomli_w.dumps(data))
    return path


def loaded(folder: Path, data: dict[str, Any]) -> Settings:
    return configfile.load(written(folder, data))


def ca(folder: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ca"], check=True)


def built(folder: Path, identity: dict[str, Any], **cluster: Any) -> clusters.Cluster:
    """The cluster, not yet connected to; close it."""
    ca(folder)
    settings = loaded(folder, sections(identity, **cluster))
    return clusters.build("big", settings.clusters["big"], folder)


# -- settings


@pytest.mark.parametrize("mode", PERSONAL)
def test_each_mode_can_be_configured(tmp_path: Path, mode: str) -> None:
    settings = loaded(tmp_path, sections(PERSONAL[mode]))
    assert settings.clusters["big"].identity.mode == mode  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", PERSONAL)
def test_to_work_as_users_there_must_be_users(tmp_path: Path, mode: str) -> None:
    data = sections(PERSONAL[mode]) | {"auth": {}}
    with pytest.raises(ConfigError, match=f"identity.mode = '{mode}' needs users"):
        loaded(tmp_path, data)


@pytest.mark.parametrize(
    ("identity", "cluster", "said"),
    [
        ({"mode": "sudo"}, {}, "runas is needed"),
        ({"mode": "sudo", "runas": ["ALL"]}, {}, "'ALL' is no account"),
        ({"mode": "sudo", "runas": ["root"]}, {}, "'root' is no account"),
        ({"mode": "sudo", "runas": ["a, root"]}, {}, "is no account"),
        ({"mode": "sudo", "runas": ["alice"], "helper": "/x y"}, {}, "identity.helper"),
        ({"mode": "ssh-key"}, {}, "keys is needed"),
        ({"mode": "ssh-key", "keys": "/keys/id"}, {}, "identity.keys"),
        ({"mode": "ssh-ca", "runas": ["alice"]}, {}, "runas: only for mode = 'sudo'"),
        ({"mode": "service", "ca_key": "x"}, {}, "ca_key: only for mode = 'ssh-ca'"),
        ({"mode": "ssh-ca", "lifetime": 5}, {}, "identity.lifetime"),
        ({"mode": "ssh-ca", "source_addresses": ["x"]}, {}, "identity.source_addresses"),
        ({"mode": "ssh"}, {}, "identity.mode"),
        ({"mode": "ssh-ca"}, {"ssh": None}, "needs an [ssh] section"),
        ({"mode": "ssh-ca"}, {"ssh": {"host": "login"}}, "needs ssh.user"),
        ({"mode": "ssh-ca"}, {"session_root": "/scratch/all"}, "put '{account}' in it"),
        (
            {"mode": "sudo", "runas": ["a"]},
            {"session_root": "/scratch/{account}, ALL"},
            "only have letters",
        ),
    ],
)
def test_what_cannot_work_is_told_when_the_configuration_is_read(
    tmp_path: Path, identity: dict[str, Any], cluster: dict[str, Any], said: str
) -> None:
    data = sections(identity, **cluster)
    if data["clusters"]["big"]["ssh"] is None:
        del data["clusters"]["big"]["ssh"]
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, data)
    assert said in str(caught.value)


def test_the_embedded_runner_works_as_the_service_only(tmp_path: Path) -> None:
    data = sections(PERSONAL["sudo"])
    data["clusters"]["big"] = {"scheduler": "local", "identity": PERSONAL["sudo"]}
    with pytest.raises(ConfigError, match=r"clusters\.big\.identity: unknown key"):
        loaded(tmp_path, data)


async def test_a_key_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    settings = loaded(tmp_path, sections(PERSONAL["ssh-ca"]))
    with pytest.raises(ConfigError, match="cannot be read"):
        clusters.build("big", settings.clusters["big"], tmp_path)
    ca(tmp_path)
    (tmp_path / "ca").chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        clusters.build("big", settings.clusters["big"], tmp_path)


# -- the cluster as its users have it


async def test_the_service_s_own_identity_has_one_view_for_all(tmp_path: Path) -> None:
    settings = loaded(tmp_path, sections({"mode": "service"}))
    cluster = clusters.build("big", settings.clusters["big"], tmp_path)
    assert await cluster.account_of(None) is None
    assert await cluster.account_of("alice") is None
    assert cluster.hold("alice") is cluster
    cluster.release("alice")
    await cluster.close()


@pytest.mark.parametrize("mode", ["ssh-ca", "sudo"])
async def test_users_share_the_watcher_and_nothing_that_is_done_as_them(
    tmp_path: Path, mode: str
) -> None:
    cluster = built(tmp_path, PERSONAL[mode])
    ann, ben = cluster.hold("ann"), cluster.hold("ben")
    assert ann is cluster.hold("ann")
    assert len({id(each.watcher) for each in (cluster, ann, ben)}) == 1
    for part in ("transport", "scheduler", "follower", "login"):
        assert len({id(getattr(each, part)) for each in (cluster, ann, ben)}) == 3, part
    assert (len({id(each.tunnels) for each in (cluster, ann, ben)}) == 1) == (mode == "sudo")
    await cluster.close()


async def test_nobody_gets_the_service_s_own_account(tmp_path: Path) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"])
    with pytest.raises(AccountRefused, match="system's own"):
        await cluster.account_of("bridge")
    await cluster.close()


async def test_sessions_from_before_there_were_users_are_the_service_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"])
    asked: list[Sequence[str]] = []

    async def run(argv: Sequence[str], **_: Any) -> Completed:
        asked.append(argv)
        raise ClusterUnreachable("not there")

    monkeypatch.setattr(cluster.transport, "run", run)
    for account in (None, "", "bridge"):
        with cluster.held(account) as view:
            assert view is cluster
    with cluster.held("ann"), pytest.raises(ClusterUnreachable):
        await cluster.scheduler.list_jobs()
    assert "--user=ann,bridge" in asked[0]
    await cluster.close()


async def test_where_users_ask_themselves_they_have_a_watcher_each(tmp_path: Path) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"] | {"listing": "user"})
    views = [cluster, cluster.hold("ann"), cluster.hold("ben")]
    assert len({id(each.watcher) for each in views}) == 3
    await cluster.close()


async def test_a_session_root_is_filled_in_for_each_user(tmp_path: Path) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"], session_root="/scratch/{account}/viz")
    assert await cluster.hold("ann").session_root() == "/scratch/ann/viz"
    await cluster.close()


async def test_a_user_is_needed_where_sessions_are_users_own(tmp_path: Path) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"])
    with pytest.raises(AccountRefused, match="Log in"):
        await cluster.account_of(None)
    await cluster.close()


# -- views


class Connections:
    def __init__(self, account: str) -> None:
        self.account = account
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


async def test_a_view_is_kept_a_while_after_its_last_session() -> None:
    kept = Views(Connections, linger=0.1)
    first = kept.hold("ann")
    kept.hold("ann")
    kept.release("ann")
    kept.release("ann")
    assert kept.hold("ann") is first
    kept.release("ann")
    await until(lambda: first.closed)
    assert kept.hold("ann") is not first
    assert list(kept.accounts) == ["ann"]
    await kept.close()


async def test_why_there_is_no_view_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = built(tmp_path, PERSONAL["ssh-ca"])

    def refused(*_: object) -> None:
        raise AccountRefused("No such account.")

    monkeypatch.setattr(clusters, "_view", refused)
    with pytest.raises(AccountRefused), cluster.held("ann"):
        pass
    await cluster.close()


async def test_views_that_nobody_uses_are_bounded_and_those_in_use_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "MOST_IDLE", 2)
    kept = Views(Connections, linger=60)
    used = kept.hold("used")
    made = {}
    for name in ("a", "b", "c"):
        made[name] = kept.hold(name)
        kept.release(name)
    await until(lambda: made["a"].closed)
    assert sorted(kept.accounts) == ["b", "c", "used"]
    assert not used.closed
    await kept.close()
    assert used.closed
    assert made["b"].closed


# -- sudo's rules


VISUDO = shutil.which("visudo") or "/usr/sbin/visudo"


@pytest.mark.skipif(not Path(VISUDO).exists(), reason="sudo is not installed here")
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"session_root": "/scratch/{account}/hpc-bridge_1.0"},
        {"ssh": {"host": "login", "user": "svc.viz-1"}},
        {"identity": {"mode": "sudo", "runas": ["%viz-users", "alice", "b.ob"]}},
        {"identity": {"mode": "sudo", "runas": ["a"], "commands_dir": "/opt/slurm-22.05/bin"}},
    ],
)
def test_the_rules_are_valid_in_the_eyes_of_visudo(tmp_path: Path, more: dict[str, Any]) -> None:
    config = written(tmp_path, sections(**{"identity": PERSONAL["sudo"]} | more))
    done = CliRunner().invoke(app, ["sudoers", str(config)])
    assert done.exit_code == 0, done.output
    rules = tmp_path / "rules"
    rules.write_text(done.stdout)
    checked = subprocess.run([VISUDO, "-c", "-f", rules], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    allowed = [line for line in done.stdout.splitlines() if "NOPASSWD" in line]
    assert len(allowed) == 1
    assert "!root" in done.stdout
    assert "*" not in done.stdout


def test_the_rules_allow_what_the_adapter_runs_and_one_helper(tmp_path: Path) -> None:
    config = written(tmp_path, sections(PERSONAL["sudo"]))
    printed = CliRunner().invoke(app, ["sudoers", str(config)]).stdout
    for command in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        assert f"/usr/bin/{command}" in printed
    assert "/usr/local/libexec/hpcbridge-files 1000\n" in printed
    assert "\nbridge ALL = (HPCBRIDGE_USERS)" in printed


def test_the_helper_that_is_printed_is_a_program(tmp_path: Path) -> None:
    config = written(tmp_path, sections(PERSONAL["sudo"]))
    printed = CliRunner().invoke(app, ["sudoers", "--helper", str(config)]).stdout
    assert printed == sudoers.HELPER.read_text()
    assert printed.startswith("#!/usr/bin/python3 -I\n")


def test_rules_for_a_cluster_without_sudo_are_refused(tmp_path: Path) -> None:
    settings = loaded(tmp_path, sections({"mode": "service"}))
    with pytest.raises(ConfigError, match="None does"):
        sudoers.of_cluster(settings, None, None)


def test_of_several_clusters_one_is_chosen(tmp_path: Path) -> None:
    data = sections(PERSONAL["sudo"])
    data["clusters"]["small"] = data["clusters"]["big"]
    settings = loaded(tmp_path, data)
    with pytest.raises(ConfigError, match="--cluster: big, small"):
        sudoers.of_cluster(settings, None, None)
    assert "cluster small" in sudoers.of_cluster(settings, "small", None)


@pytest.mark.parametrize("account", ["a b", "ALL\nALL", "-x", "#0"])
def test_a_service_account_that_is_no_name_is_refused(tmp_path: Path, account: str) -> None:
    settings = loaded(tmp_path, sections(PERSONAL["sudo"]))
    with pytest.raises(ConfigError, match="--account"):
        sudoers.of_cluster(settings, None, account)
