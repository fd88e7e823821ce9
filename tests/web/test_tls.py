"""The service speaks TLS itself: with which certificate, what it refuses, who may never end."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from hpcbridge.cli.main import app
from hpcbridge.config import file as configfile
from hpcbridge.config.server import ServerSettings
from hpcbridge.errors import ConfigError
from hpcbridge.web import certificates
from tests.ca import CA, private, replace
from tests.waiting import wait_until

NAMES = ("localhost", "127.0.0.1", "*.sessions.localhost")


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    return CA(folder)


def server(pair: tuple[Path, Path], **more: Any) -> dict[str, str]:
    return {"tls_certificate": str(pair[0]), "tls_key": str(pair[1]), **more}


def settings(pair: tuple[Path, Path]) -> ServerSettings:
    return ServerSettings.model_validate(server(pair))


@pytest.fixture
def secure(site: Any, ca: CA, serve: Callable[..., Any]) -> Iterator[Any]:
    """A service with a certificate of the CA, and an ``http`` that trusts it."""
    site.write(
        server=server(ca.issue(*NAMES), hsts="max-age=600"),
        frontend={"session_domain": "sessions.localhost"},
        limits={"connections_per_address": 40},
    )
    service = serve("--end-sessions")
    service.http = httpx.Client(base_url=service.url, verify=trust(ca), timeout=90)
    yield service
    service.http.close()


def trust(ca: CA) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca.file))


def port(service: Any) -> int:
    return int(service.url.rsplit(":", 1)[1])


def shown(service: Any, ca: CA, name: str = "localhost") -> int:
    """The serial number of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port(service)), 30) as raw,
        trust(ca).wrap_socket(raw, server_hostname=name) as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def test_clients_hear_https_everywhere_and_that_it_shall_stay_so(secure: Any) -> None:
    assert secure.url.startswith("https://127.0.0.1:")
    reply = secure.http.post("/paraview", json={"application": "cone"})
    assert reply.status_code == 200
    assert reply.json()["sessionURL"].startswith("wss://127.0.0.1:")
    for path, status in (("/", 200), ("/paraview/applications", 200), ("/nothing", 404)):
        found = secure.http.get(path)
        assert found.status_code == status
        assert found.headers["strict-transport-security"] == "max-age=600"


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(
    secure: Any, ca: CA, site: Any
) -> None:
    first = shown(secure, ca)
    assert shown(secure, ca, "a.sessions.localhost") == first
    with contextlib.closing(socket.create_connection(("127.0.0.1", port(secure)), 30)) as raw:
        old = trust(ca).wrap_socket(raw, server_hostname="localhost")
        pair = ca.issue(*NAMES)
        wait_until(lambda: shown(secure, ca) != first)
        second = shown(secure, ca)
        old.sendall(b"GET /paraview/applications HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert old.recv(15) == b"HTTP/1.1 200 OK"  # what was open stays open
        old.close()
    assert "a new certificate is used, valid until" in secure.log
    stranger = ec.generate_private_key(ec.SECP256R1())
    replace(pair[1], private(stranger))
    wait_until(lambda: "is not the key of the first certificate" in secure.log)
    assert shown(secure, ca) == second
    examined = CliRunner().invoke(app, ["doctor", str(site.path)])
    assert "FAIL  certificate: server.tls_key:" in examined.output
    third = ca.issue(*NAMES)
    third[1].chmod(0o640)
    wait_until(lambda: "has the mode 0640, so others can reach it" in secure.log)
    assert shown(secure, ca) == second
    third[1].chmod(0o600)
    wait_until(lambda: shown(secure, ca) != second)
    assert "PRIVATE KEY" not in secure.log


def test_doctor_tells_until_when_and_for_what_it_is(site: Any, ca: CA) -> None:
    domain = {"session_domain": "sessions.localhost"}
    site.write(server=server(ca.issue(*NAMES)), frontend=domain)
    said = CliRunner().invoke(app, ["doctor", str(site.path)]).output
    assert "ok    certificate: For localhost, *.sessions.localhost, 127.0.0.1, until 20" in said
    ca.issue("localhost")
    said = CliRunner().invoke(app, ["doctor", str(site.path)]).output
    assert "FAIL  certificate:" in said
    assert "is not for *.sessions.localhost, but for: localhost." in said
    ca.issue(*NAMES, days=3)
    said = CliRunner().invoke(app, ["doctor", str(site.path)]).output
    assert "FAIL  certificate: The certificate ends 20" in said


def test_a_certificate_is_told_of_before_and_after_its_time(ca: CA) -> None:
    loaded = certificates.load(settings(ca.issue("localhost", days=20)))
    now = datetime.now(UTC)
    assert loaded.worry(now) == ""
    assert "ends" in loaded.worry(now + timedelta(days=7))
    assert "not valid since" in loaded.worry(now + timedelta(days=21))
    assert "not valid before" in loaded.worry(now - timedelta(days=3))


def test_what_cannot_be_a_certificate_or_its_key_is_told_in_words(ca: CA, tmp_path: Path) -> None:
    def refused(pair: tuple[Path, Path]) -> str:
        with pytest.raises(ConfigError) as caught:
            certificates.load(settings(pair))
        assert "PRIVATE" not in str(caught.value)
        return str(caught.value)

    def key(content: bytes, mode: int = 0o600) -> tuple[Path, Path]:
        pair = ca.issue("localhost")
        replace(pair[1], content)
        pair[1].chmod(mode)
        return pair

    good = private(ec.generate_private_key(ec.SECP256R1()))
    locked = private(ec.generate_private_key(ec.SECP256R1()), b"word")
    assert "is not the key of" in refused(key(good))
    assert "has a passphrase" in refused(key(locked))
    assert "has no private key in PEM" in refused(key(b"something"))
    for mode in (0o644, 0o640, 0o604, 0o666):
        assert f"has the mode {mode:04o}" in refused(key(good, mode))
    certificate, secret = ca.issue("localhost")
    assert "cannot be read: No such file" in refused((tmp_path / "none", secret))
    assert "cannot be read: No such file" in refused((certificate, tmp_path / "none"))
    assert "has no certificate in PEM" in refused((secret, secret))
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "key").symlink_to(secret)
    certificates.load(settings((certificate, folder / "key")))  # as certbot has them
    folder.chmod(0o777)
    assert "others could replace what is in" in refused((certificate, folder / "key"))


def test_settings_that_contradict_tls_are_refused(site: Any, ca: CA) -> None:
    def refused(**sections: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            configfile.load(site.write(**sections))
        return str(caught.value)

    pair = ca.issue("localhost")
    whole = server(pair)
    assert "one of them is missing" in refused(server={"tls_key": str(pair[1])})
    assert "has no TLS" in refused(server=whole | {"unix_socket": str(site.root / "s")})
    assert "hsts: needs tls_certificate" in refused(server={"hsts": "max-age=1"})
    assert "hsts" in refused(server=whole | {"hsts": "max-age=1\r\nx: y"})
    apache = {"kind": "apache", "map_file": str(site.root / "map")}
    assert "that web server speaks TLS" in refused(server=whole, frontend=apache)


def test_a_key_that_others_can_read_stops_the_start(site: Any, ca: CA) -> None:
    pair = ca.issue("localhost")
    pair[1].chmod(0o644)
    site.write(server=server(pair))
    started = CliRunner().invoke(app, ["serve", str(site.path)])
    assert isinstance(started.exception, ConfigError)
    assert "chmod 600" in str(started.exception)


def spoken(service: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port(service)}", *arguments]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=60)


def test_old_versions_and_weak_ciphers_are_refused(secure: Any) -> None:
    for version in ("-tls1", "-tls1_1"):
        assert spoken(secure, version, "-cipher", "ALL:@SECLEVEL=0").returncode != 0
    for cipher in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "NULL", "DHE"):
        done = spoken(secure, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
        assert done.returncode != 0, cipher
    for version in ("-tls1_2", "-tls1_3"):
        assert spoken(secure, version).returncode == 0, version


def test_visitors_who_never_end_their_handshake_are_counted_and_given_up(secure: Any) -> None:
    where = ("127.0.0.1", port(secure))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(where, 30)) for _ in range(40)]
        silent[0].sendall(b"\x16\x03\x01\x02\x00\x01")  # a record that does not go on
        full = stack.enter_context(socket.create_connection(where, 30))
        with pytest.raises(OSError):  # noqa: PT012  # closed, or reset
            full.settimeout(60)
            if full.recv(1) == b"":
                raise ConnectionResetError
        for each in silent:
            each.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
    assert secure.http.get("/paraview/applications").status_code == 200
    with contextlib.closing(socket.create_connection(where, 30)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(100)
    assert "Traceback" not in secure.log
