"""From a user's name to an account: what is let through, and what never is, whatever is allowed."""

import os
import pwd
from pathlib import Path

import pytest

from hpcbridge.config.identity import IdentitySettings
from hpcbridge.errors import AccountRefused, ConfigError
from hpcbridge.identity.names import AccountNames, parse_map

HOSTILE = [
    "-oProxyCommand=x",
    "../x",
    "a/b",
    "alice\nbob",
    "alice bob",
    "alice\0",
    "",
    "a" * 300,
    "\u0430lice",  # Cyrillic a
    "\uff41lice",  # full width
    "alice\u200b",
    "\u0661",
    ".hidden",
    "$(id)",
    "alice;id",
    "alice,bob",
    "#1000",
    "%wheel",
    "alice\r",
]


def names(**settings: object) -> AccountNames:
    return AccountNames("lab", IdentitySettings(mode="ssh-ca", **settings))


async def test_a_plain_name_is_the_account() -> None:
    assert await names().account("hpcb-nobody-has-this") == "hpcb-nobody-has-this"


@pytest.mark.parametrize("user", HOSTILE)
@pytest.mark.parametrize("pattern", ["[a-z][a-z0-9_-]{0,31}", r"(?s).*"])
async def test_a_hostile_name_is_refused_even_where_the_pattern_allows_all(
    user: str, pattern: str
) -> None:
    with pytest.raises(AccountRefused) as caught:
        await names(pattern=pattern).account(user)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("user", ["root", "daemon", "nobody", "slurm", "munge", "www-data"])
async def test_an_account_of_the_system_is_refused(user: str) -> None:
    with pytest.raises(AccountRefused, match="system's own"):
        await names(pattern=".*").account(user)


async def test_an_account_with_a_small_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("vendor", "x", 999, 999, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)
    with pytest.raises(AccountRefused, match="system's own"):
        await names().account("vendor")
    assert await names(least_uid=500).account("vendor") == "vendor"


async def test_a_request_without_a_user_is_told_to_log_in() -> None:
    with pytest.raises(AccountRefused, match="Log in"):
        await names().account(None)


# -- the map file


def map_file(folder: Path, text: str, mode: int = 0o644) -> Path:
    path = folder / "accounts"
    path.write_text(text)
    path.chmod(mode)
    return path


async def test_a_map_file_says_who_is_who_and_nobody_else_gets_in(tmp_path: Path) -> None:
    path = map_file(tmp_path, "# who is who\n\nann@example.org  ann_e\nbob bob2\n")
    accounts = names(map_file=path)
    assert await accounts.account("ann@example.org") == "ann_e"
    assert await accounts.account("bob") == "bob2"
    with pytest.raises(AccountRefused, match="'eve' has no account on lab"):
        await accounts.account("eve")


@pytest.mark.parametrize("account", ["root", "-oProxyCommand=x", "../x", "UPPER", "\u0430lice"])
async def test_a_map_file_cannot_lead_where_names_cannot(tmp_path: Path, account: str) -> None:
    accounts = names(map_file=map_file(tmp_path, f"ann {account}\n"))
    with pytest.raises(AccountRefused):
        await accounts.account("ann")


async def test_a_map_file_that_changed_counts_from_the_next_launch_on(tmp_path: Path) -> None:
    path = map_file(tmp_path, "ann ann1\n")
    accounts = names(map_file=path)
    assert await accounts.account("ann") == "ann1"
    new = tmp_path / "new"
    new.write_text("ann ann2\n")
    new.rename(path)
    assert await accounts.account("ann") == "ann2"
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        await accounts.account("ann")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_map_file_that_others_can_write_stops_the_start(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="whoever can write it can be anybody"):
        names(map_file=map_file(tmp_path, "ann ann\n", mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_map_file_of_another_owner_stops_the_start(tmp_path: Path) -> None:
    path = map_file(tmp_path, "ann ann\n")
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="whoever can write it can be anybody"):
        names(map_file=path)


def test_a_map_file_that_others_could_replace_stops_the_start(tmp_path: Path) -> None:
    path = map_file(tmp_path, "ann ann\n")
    tmp_path.chmod(0o2775)
    with pytest.raises(ConfigError, match=r"lab\.identity\.map_file: others could replace"):
        names(map_file=path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"ann\n", "line 1: not 'user account'"),
        (b"ann a b\n", "line 1: not 'user account'"),
        (b"ann a\nann b\n", "line 2: 'ann' has a line already"),
        (b"ann \xff\xfe\n", "line 1: not 'user account'"),
    ],
)
def test_a_map_that_is_no_map_is_told_with_its_line(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_map(text, "accounts")


def test_a_map_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clusters\.lab\.identity\.map_file: .*cannot be read"):
        names(map_file=tmp_path / "none")
