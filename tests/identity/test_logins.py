"""Keys and certificates: what is in them, and which files are not used."""

import os
import subprocess
import time
from pathlib import Path

import asyncssh
import pytest

from hpcbridge.config.identity import IdentitySettings
from hpcbridge.errors import ConfigError
from hpcbridge.identity.logins import NODE_COMMAND, Authority, logins_of


@pytest.fixture
def ca_key(tmp_path: Path) -> Path:
    path = tmp_path / "ca"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    path.chmod(0o600)
    return path


def settings(**more: object) -> IdentitySettings:
    return IdentitySettings(mode="ssh-ca", **more)


def shown(certificate: asyncssh.SSHCertificate, folder: Path) -> str:
    """What OpenSSH reads in it."""
    path = folder / "cert.pub"
    certificate.write_certificate(path)
    done = subprocess.run(
        ["ssh-keygen", "-L", "-f", path], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_certificate_is_for_one_account_for_minutes_and_for_as_little_as_can_be(
    ca_key: Path, tmp_path: Path
) -> None:
    wanted = settings(ca_key=ca_key, lifetime=120, source_addresses=["192.0.2.0/24"])
    logins = logins_of("lab", wanted)
    assert logins is not None
    login = logins.to_commands("alice")
    ((key, certificate),) = login.keys()
    text = shown(certificate, tmp_path)
    principals = text.partition("Principals:")[2].partition("Critical Options:")
    assert principals[0].split() == ["alice"]
    assert principals[2].partition("Extensions:")[0].split() == ["source-address", "192.0.2.0/24"]
    assert text.partition("Extensions:")[2].split() == ["permit-port-forwarding"]
    assert key.algorithm == b"ssh-ed25519"
    assert login.account == "alice"


def test_a_certificate_for_the_nodes_forwards_ports_and_runs_nothing_else(
    ca_key: Path, tmp_path: Path
) -> None:
    logins = logins_of("lab", settings(ca_key=ca_key))
    assert logins is not None
    ((_, certificate),) = logins.to_nodes("alice").keys()
    text = shown(certificate, tmp_path)
    assert text.partition("Critical Options:")[2].split()[:2] == ["force-command", NODE_COMMAND]
    assert text.partition("Extensions:")[2].split() == ["permit-port-forwarding"]


def test_where_no_tunnel_goes_through_the_login_host_its_certificate_forwards_nothing(
    ca_key: Path, tmp_path: Path
) -> None:
    logins = logins_of("lab", settings(ca_key=ca_key), forwarding=False)
    assert logins is not None
    ((_, certificate),) = logins.to_commands("alice").keys()
    assert shown(certificate, tmp_path).partition("Extensions:")[2].split() == ["(none)"]


def test_each_connection_has_a_new_key_and_a_new_certificate(ca_key: Path) -> None:
    logins = logins_of("lab", settings(ca_key=ca_key))
    assert logins is not None
    login = logins.to_commands("alice")
    assert login.keys()[0][0].public_data != login.keys()[0][0].public_data


def test_a_certificate_ends_when_its_lifetime_does() -> None:
    now = time.time()
    key = asyncssh.generate_private_key("ssh-ed25519")
    ((_, certificate),) = Authority(key, 300, clock=lambda: now).keys("alice")
    fields = certificate
    assert fields._valid_before == int(now) + 300
    assert fields._valid_after == int(now) - 60


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_the_usual_kinds_of_key_can_be_the_ca(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ca"
    asyncssh.generate_private_key(kind).write_private_key(path)
    path.chmod(0o600)
    logins = logins_of("lab", settings(ca_key=path))
    assert logins is not None
    ((_, certificate),) = logins.to_commands("alice").keys()
    assert "Signing CA" in shown(certificate, tmp_path)


def test_no_private_key_is_in_what_a_login_shows(ca_key: Path) -> None:
    logins = logins_of("lab", settings(ca_key=ca_key))
    assert logins is not None
    login = logins.to_commands("alice")
    assert "PRIVATE" not in repr(login) + repr(login.keys()) + login.cure
    assert "SHA256:" in login.cure


# -- files that are not used


def test_without_a_ca_key_the_error_names_the_setting_and_the_credential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"clusters\.lab\.identity\.ca_key.*LoadCredential"):
        logins_of("lab", settings())


def test_the_ca_key_may_be_a_credential_of_systemd(
    ca_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_key.rename(ca_key.with_name("ca_key"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(ca_key.parent))
    assert logins_of("lab", settings()) is not None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o644])
def test_a_ca_key_that_others_can_reach_stops_the_start(ca_key: Path, mode: int) -> None:
    ca_key.chmod(mode)
    if mode == 0o640 and os.geteuid() == 0:
        os.chown(ca_key, 0, 12345)
    with pytest.raises(ConfigError, match=r"clusters\.lab\.identity\.ca_key: .*mode"):
        logins_of("lab", settings(ca_key=ca_key))


def test_a_ca_key_that_others_could_replace_stops_the_start(ca_key: Path) -> None:
    ca_key.parent.chmod(0o775)
    with pytest.raises(ConfigError, match=r"identity\.ca_key: others could replace what is in"):
        logins_of("lab", settings(ca_key=ca_key))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_ca_key_of_another_owner_stops_the_start(ca_key: Path) -> None:
    os.chown(ca_key, 12345, -1)
    with pytest.raises(ConfigError, match="uid 12345"):
        logins_of("lab", settings(ca_key=ca_key))


def test_a_ca_key_that_is_none_is_told_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "ca"
    path.write_text("s3cret")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is not an SSH private key") as caught:
        logins_of("lab", settings(ca_key=path))
    assert "s3cret" not in str(caught.value)


def test_a_ca_key_with_a_passphrase_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ca"
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path, passphrase="secret")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="has a passphrase"):
        logins_of("lab", settings(ca_key=path))


def test_a_user_s_key_that_others_can_reach_stops_the_start(ca_key: Path) -> None:
    ca_key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"clusters\.lab\.identity\.keys"):
        logins_of("lab", IdentitySettings(mode="ssh-key", keys=f"{ca_key.parent}/{{account}}"))


def test_a_user_without_a_key_is_told_which_file_is_missing(tmp_path: Path) -> None:
    logins = logins_of("lab", IdentitySettings(mode="ssh-key", keys=f"{tmp_path}/{{account}}"))
    assert logins is not None
    with pytest.raises(ConfigError, match=f"{tmp_path}/alice cannot be read"):
        logins.to_commands("alice").keys()


def test_the_service_s_own_identity_logs_in_as_nobody() -> None:
    assert logins_of("lab", IdentitySettings()) is None
