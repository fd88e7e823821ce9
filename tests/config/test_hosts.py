"""Settings of a cluster that is a list of machines."""

from typing import Any

import pytest
from pydantic import ValidationError

from hpcbridge.clusters.cluster import build
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.config.settings import Settings
from hpcbridge.schedulers.hosts import HostsScheduler


def cluster(**more: Any) -> HostsCluster:
    return HostsCluster.model_validate({"scheduler": "hosts", "hosts": [{"name": "m1"}]} | more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hosts": []}, "at least 1 item"),
        ({"hosts": [{"name": "m1"}, {"name": "M1"}]}, "hosts has m1 twice"),
        ({"hosts": [{"name": "-oProxyCommand=x"}]}, "should match pattern"),
        ({"hosts": [{"name": "../m1"}]}, "should match pattern"),
        ({"hosts": [{"name": "localhost"}], "ssh": {"host": "login"}}, "cannot have 'localhost'"),
        (
            {"identity": {"mode": "sudo", "runas": ["%viz"]}, "ssh": {"host": "h", "user": "u"}},
            "identity.mode = 'sudo' is not for scheduler = 'hosts'",
        ),
        ({"tunnel": {"backend": "openssh"}}, "'openssh' is not for scheduler = 'hosts'"),
        ({"environment": {"A=B": "c"}}, "should match pattern"),
    ],
)
def test_what_cannot_be_is_told(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        cluster(**more)


def test_this_machine_is_none_that_several_services_share() -> None:
    given = {
        "clusters": {"here": {"scheduler": "hosts", "hosts": [{"name": "localhost"}]}},
        "applications": {"cone": {"cluster": "here", "template": "command.sh"}},
    }
    assert Settings.model_validate(given)
    with pytest.raises(ValidationError, match="'localhost' is another machine for each"):
        Settings.model_validate(given | {"store": {"url": "postgresql://db/x"}})


def test_jobs_on_this_machine_are_refused_where_there_are_users() -> None:
    """They would run as the service, and could be any of its users."""
    given = {
        "clusters": {"here": {"scheduler": "hosts", "hosts": [{"name": "localhost"}]}},
        "applications": {"cone": {"cluster": "here", "template": "command.sh"}},
        "auth": {"accept": ["token"]},
    }
    with pytest.raises(ValidationError, match=r"clusters\.here\.hosts: jobs on 'localhost' run as"):
        Settings.model_validate(given)


async def test_machines_are_logged_in_to_as_access_says_or_as_the_login_host(
    tmp_path: Any,
) -> None:
    named = cluster(access={"user": "viz"}, tunnel={"node_port": 2222}).login_to("m1")
    through = cluster(ssh={"host": "login", "user": "viz"}).login_to("m1")
    assert named is not None
    assert through is not None
    assert (named.host, named.user, through.user) == ("m1", "viz", "viz")
    assert cluster(hosts=[{"name": "localhost"}]).login_to("localhost") is None
    built = build("lab", cluster(hosts=[{"name": "m1"}, {"name": "localhost"}]), tmp_path)
    assert isinstance(built.scheduler, HostsScheduler)
    assert built.machines["localhost"] is None
    assert built.machines["m1"] is not None
    await built.close()
