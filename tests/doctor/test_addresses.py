"""What doctor says of the sessions' own addresses, and of the connections there is room for."""

from typing import Any

import pytest

from hpcbridge.doctor import host
from hpcbridge.network.descriptors import limits, room
from tests.usersite import auth


@pytest.mark.parametrize(
    ("frontend", "server", "said", "fine"),
    [
        ({}, {}, "ID.localhost, origins of their own", True),
        ({}, {"host": "192.0.2.1"}, "do not find this one at ID.localhost", False),
        ({"server_name": "viz.example.org"}, {}, "frontend.session_domain is not set", True),
        (
            {"server_name": "viz.example.org", "session_domain": "s.example.org"},
            {"host": "192.0.2.1"},
            "ID.s.example.org",
            True,
        ),
        ({"session_address": "path"}, {}, "can act as the portal's users", True),
    ],
)
def test_the_sessions_addresses_are_told(
    site: Any, frontend: dict[str, Any], server: dict[str, Any], said: str, fine: bool
) -> None:
    found = list(host.session_addresses(site.settings(frontend=frontend, server=server)))
    assert said in found[-1].said
    assert found[-1].good is fine


def test_where_users_log_in_it_is_told_that_paths_were_chosen(site: Any) -> None:
    frontend = {"session_address": "path", "trust_applications": True}
    (found,) = host.session_addresses(site.settings(frontend=frontend, auth=auth(site)))
    assert "frontend.trust_applications" in found.said


def test_more_connections_than_there_are_descriptors_for_are_told(site: Any) -> None:
    hard = limits()[1]
    found = host.descriptors(site.settings())
    assert found.good
    assert f"room for {room(hard)} connections" in found.said
    found = host.descriptors(site.settings(limits={"connections": room(hard) + 1}))
    assert not found.good
    assert "LimitNOFILE" in found.said
