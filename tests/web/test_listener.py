"""The service on a unix socket: reached by its front end alone, and nobody's way is in it."""

import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge.config.server import ServerSettings
from hpcbridge.errors import ConfigError
from hpcbridge.web.listener import listening
from tests.usersite import auth, named

GROUP = next(each for each in grp.getgrall() if each.gr_gid != os.getegid())


def on(path: Path) -> ServerSettings:
    return ServerSettings(unix_socket=path)


def test_the_service_answers_on_its_socket(site: Any, serve: Callable[..., Any]) -> None:
    path = site.root / "api.sock"
    names = ["viz.example.org"]
    server = {"unix_socket": str(path), "trusted_proxies": [], "host_names": names}
    site.write(server=server, auth=auth(site), frontend={"group": GROUP.gr_name})
    service = serve("--end-sessions")
    assert service.url == f"unix:{path}"
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, GROUP.gr_gid)
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://viz.example.org", timeout=90) as client:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        body = {"application": "cone"}
        reply = client.post("/paraview", json=body, headers=named("alice") | forwarded)
        assert reply.status_code == 200, reply.text
        assert reply.json()["sessionURL"].startswith("wss://viz.example.org/proxy?")
        assert '"from": "192.0.2.7", "peer": "unix"' in (site.root / "audit.jsonl").read_text()
        assert client.get("/paraview", headers={"Host": "no host"}).status_code == 421
    assert service.stop() == 0
    assert not path.exists()


def test_without_a_group_only_this_account_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(on(path), None) as (listener, url):
        assert url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert listener.family == socket.AF_UNIX
    assert not path.exists()


def test_the_socket_of_a_service_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with listening(on(path), None):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        taken = pytest.raises(ConfigError, match="another program does")
        with taken, listening(on(path), None):
            pass
        assert path.exists()


def test_a_socket_that_took_our_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(on(path), None):
        path.rename(tmp_path / "moved")
        path.touch()
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "something else is there"),
        ("link", "something else is there"),
        ("directory", "something else is there"),
        ("no/such", "No such file or directory"),
        ("x" * 108, "is too long"),
    ],
)
def test_what_is_in_the_way_stays_and_is_told(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "directory").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=said) as caught, listening(on(tmp_path / name), None):
        pass
    assert "server.unix_socket" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"
