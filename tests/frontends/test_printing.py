"""What is printed for web servers in front of the service, in the eyes of their own parsers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpcbridge.cli.main import app
from hpcbridge.errors import BridgeError
from hpcbridge.frontends import parsing, traefik
from tests.ca import CA
from tests.usersite import auth

from .apache_server import free_port
from .webservers import TRAEFIK_LOGIN, program

KINDS = ("nginx", "haproxy", "traefik")
servers = pytest.mark.servers
ASKED = ("nginx", "haproxy", pytest.param("traefik", marks=servers))
"""Traefik is started to be asked."""
Files = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _programs_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "PATH", f"{parsing.PATH}:{program('traefik').parent}")


@pytest.fixture
def files(directory: Path) -> Files:
    """Options that name files which there are: of TLS, and of what users need."""
    certificate, key = CA(directory).issue("viz.example.org", "*.sessions.example.org")
    both, empty, login = (directory / each for each in ("both.pem", "empty", "login.yml"))
    login.write_text(TRAEFIK_LOGIN.format(here=directory, secret="0" * 32))
    (directory / "users").write_text("alice:{SHA}AAAA\n")
    both.write_text(certificate.read_text() + key.read_text())
    empty.touch()

    def options(kind: str) -> list[str]:
        return {
            "nginx": [f"--certificate={certificate}", f"--key={key}", f"--login-conf={empty}"],
            "haproxy": [f"--certificate={both}", f"--secret-map={empty}"],
            "traefik": [f"--certificate={certificate}", f"--key={key}", f"--login-conf={login}"],
        }[kind]

    return options


def printed(*arguments: Any) -> str:
    """The output, where it goes well; raises what is told otherwise."""
    done = CliRunner().invoke(app, ["frontend", *map(str, arguments)])
    if isinstance(done.exception, BridgeError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def bare(text: str) -> str:
    """Without comments and spaces."""
    lines = [line.strip() for line in text.splitlines()]
    return "".join("".join(line.split()) for line in lines if not line.startswith("#"))


def sections(kind: str, **more: Any) -> dict[str, Any]:
    frontend = {
        "kind": kind,
        "server_name": "viz.example.org",
        "session_domain": "sessions.example.org",
    }
    given = {"server": {"port": 8123}, "frontend": frontend | more.pop("frontend", {})}
    return given | more


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("paths", [False, True])
def test_the_servers_own_parser_takes_it(
    site: Any, files: Files, directory: Path, kind: str, users: bool, paths: bool
) -> None:
    (directory / "www").mkdir()
    more: dict[str, Any] = {"auth": auth(site, "header", "token")} if users else {}
    if paths:
        more["frontend"] = {"session_address": "path", "trust_applications": True}
    given = sections(kind, **more)
    given["server"]["content"] = {"/visualizer-1.0": str(directory / "www")}
    path = site.write(**given)
    arguments = [kind, path, f"--listen=127.0.0.1:{free_port()}", *files(kind)]
    text = printed(*arguments)
    assert "/visualizer-1" in text
    assert ("sessions.example.org" in text) is not paths
    assert "The server takes it." in printed(*arguments, "--check")
    assert "The server takes it." in printed(*arguments, "--plain", "--check")


@pytest.mark.parametrize("kind", ASKED)
def test_what_the_parser_refuses_is_told_in_its_words(site: Any, kind: str) -> None:
    path = site.write(**sections(kind))
    with pytest.raises(BridgeError, match="does not take this configuration") as told:
        printed(kind, path, "--check", "--certificate=/no/such.pem")
    assert "/no/such.pem" in str(told.value)
    assert "hpcbridge-check-" not in str(told.value)


@pytest.fixture
def apache(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's own configuration of Apache in another place, with the modules that are needed."""
    place = directory / "apache2"
    shutil.copytree("/etc/apache2", place, symlinks=True)
    for module in ("headers", "rewrite", "proxy", "proxy_http", "proxy_wstunnel"):
        for each in (place / "mods-available").glob(f"{module}.*"):
            enabled = place / "mods-enabled" / each.name
            if not enabled.exists():
                enabled.symlink_to(each)
    monkeypatch.setenv("APACHE_CONFDIR", str(place))
    return place


def test_apache_takes_its_virtual_host_with_the_modules_that_it_has(
    site: Any, directory: Path, apache: Path
) -> None:
    map_file = directory / "map"
    map_file.touch()
    path = site.write(server={"port": 8123}, frontend={"kind": "apache", "map_file": str(map_file)})
    assert "The server takes it." in printed("apache", path, "--check")
    for each in (apache / "mods-enabled").glob("rewrite.*"):
        each.unlink()
    with pytest.raises(BridgeError, match="Invalid command 'RewriteEngine'"):
        printed("apache", path, "--check")


def test_a_server_that_is_not_here_is_told(
    site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parsing, "PATH", str(tmp_path))
    for kind in KINDS:
        with pytest.raises(BridgeError, match=f"{kind} is not installed on this machine"):
            printed(kind, site.write(**sections(kind)), "--plain", "--check")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({"frontend": {"server_name": "a b"}}, [], "server_name is 'a b'"),
        ({"frontend": {"server_name": "a;b"}}, [], "server_name is 'a;b'"),
        ({"server": {"host_names": ["a\nb"]}}, [], "host_names"),
        ({"server": {"host": "a b"}}, [], "host is 'a b'"),
        ({"server": {"port": 0}}, [], "server.port is 0"),
        ({"server": {"unix_socket": "/run/a b"}}, [], "unix_socket is '/run/a b'"),
        ({}, ["--listen", "80\nuser root"], "listen is "),
        ({}, ["--listen", "70000"], "listen is "),
        ({}, ["--certificate", "/a b"], "certificate is '/a b'"),
        ({}, ["--certificate", "/a;b"], "certificate is '/a;b'"),
        ({"frontend": {"kind": "apache", "map_file": "/m"}}, [], "frontend.kind is 'apache'"),
    ],
)
def test_what_a_server_could_misread_is_refused(
    site: Any, kind: str, changes: dict[str, Any], arguments: list[str], said: str
) -> None:
    given = sections(kind)
    for key, values in changes.items():
        given[key] = given.get(key, {}) | values
    with pytest.raises(BridgeError, match=said):
        printed(kind, site.write(**given), *arguments)


def test_nobody_is_named_before_nginx_was_told_how_they_log_in(
    site: Any,
) -> None:
    """$remote_user is what a client says where there is no login; it must not be printed."""
    path = site.write(**sections("nginx", auth=auth(site, "header")))
    text = printed("nginx", path)
    active = [line for line in text.splitlines() if not line.strip().startswith("#")]
    assert not [line for line in active if "remote_user" in line and "log_format" not in line]
    assert any('set $hpcbridge_user "";' in line for line in active)


def test_nor_before_haproxy_was(site: Any) -> None:
    path = site.write(**sections("haproxy", auth=auth(site, "header")))
    text = printed("haproxy", path)
    active = [line for line in text.splitlines() if not line.strip().startswith("#")]
    assert not [line for line in active if "http_auth" in line]
    text = printed("haproxy", path, "--userlist", "site")
    (named,) = [
        line
        for line in text.splitlines()
        if line.startswith("    http-request set-var(txn.hpcbridge_user)")
    ]
    assert named.endswith("http_auth_user if { http_auth(site) }")
    with pytest.raises(BridgeError, match="userlist is"):
        printed("haproxy", path, "--userlist", "a) }")


@servers
def test_nothing_is_served_to_users_before_traefik_was_told_how_they_log_in(site: Any) -> None:
    path = site.write(**sections("traefik", auth=auth(site, "header")))
    text = printed("traefik", path)
    assert "      middlewares: [hpcbridge-claims, hpcbridge-login]\n" in text
    with pytest.raises(BridgeError, match=r'"hpcbridge-login@file\\?" does not exist'):
        printed("traefik", path, "--check", "--plain", "--login-conf=/dev/null")


def test_traefik_connects_to_no_unix_sockets(site: Any) -> None:
    path = site.write(**sections("traefik", server={"unix_socket": "/run/x/api.sock"}))
    with pytest.raises(BridgeError, match="Traefik connects to no unix sockets"):
        printed("traefik", path)


def test_what_is_read_beside_a_site_s_own_haproxy_is_valid_by_itself(
    site: Any, files: Files
) -> None:
    path = site.write(**sections("haproxy"))
    whole, part = printed("haproxy", path), printed("haproxy", path, "--snippet")
    assert "global\n" in whole
    assert "global\n    log" not in part
    assert "takes it" in printed("haproxy", path, "--snippet", "--check", *files("haproxy"))


def test_parts_for_a_site_s_own_nginx_are_what_the_whole_consists_of(site: Any) -> None:
    path = site.write(**sections("nginx"))
    whole = bare(printed("nginx", path))
    for part in ("http", "portal", "sessions"):
        found = bare(printed("nginx", path, "--snippet", part))
        assert len(found) > 100
        assert found in whole


def test_a_part_that_there_is_not_is_told(site: Any) -> None:
    more = {"session_address": "path", "trust_applications": True}
    path = site.write(**sections("nginx", frontend=more))
    with pytest.raises(BridgeError, match="There is no domain of sessions"):
        printed("nginx", path, "--snippet", "sessions")
    with pytest.raises(BridgeError, match="without --snippet"):
        printed("nginx", path, "--snippet", "http", "--check")


@servers
def test_traefik_is_asked_through_no_proxy(
    site: Any, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(traefik, "PATIENCE", 10.0)
    path = site.write(**sections("traefik"))
    assert "takes it" in printed("traefik", path, "--check", *files("traefik"))
