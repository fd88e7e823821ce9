"""Copies of the database: whole, private, without what is over; and the way back, with sessions."""

import os
import sqlite3
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.cli import main as cli
from tests.site import Service, Site
from tests.usersite import auth, bearer
from tests.waiting import wait_until

pytestmark = pytest.mark.servers


@pytest.fixture
def hpcbridge(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a command says, on either stream."""

    def command(*arguments: Any, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capfd.readouterr()
        assert (caught.value.code or 0) == status, said.err
        return said.out + said.err

    return command


def rows(file: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def backup(site: Site) -> Path:
    return site.root / "copies" / "backup.sqlite"


@pytest.fixture(autouse=True)
def _folder(backup: Path) -> None:
    backup.parent.mkdir(mode=0o755)


def test_a_backup_is_whole_private_and_without_the_secrets_of_what_is_over(
    site: Site, serve: Callable[..., Service], backup: Path, hpcbridge: Callable[..., str]
) -> None:
    config = site.write()
    service = serve("--end-sessions")
    over = service.post({"application": "cone"}).json()
    assert service.http.delete(f"/paraview/{over['id']}").status_code == 200
    wait_until(lambda: service.state(over["id"]) == "ended", "the end of the first")
    lives = service.post({"application": "cone"}).json()
    before = os.umask(0)
    try:
        hpcbridge("backup", config, backup)
    finally:
        os.umask(before)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [each.name for each in backup.parent.iterdir()] == [backup.name]
    content = backup.read_bytes()
    assert lives["secret"].encode() in content
    assert over["secret"].encode() not in content, "nor in pages that are free"
    told = dict(rows(backup, "SELECT id, state FROM sessions"))
    assert told == {over["id"]: "ended", lives["id"]: "ready"}
    # It replaces nothing, whatever it is.
    assert "is there already" in hpcbridge("backup", config, backup, status=1)
    assert backup.read_bytes() == content
    link = backup.with_name("link")
    link.symlink_to("/nonexistent/x")
    assert "is there already" in hpcbridge("backup", config, link, status=1)


def test_sessions_go_on_from_a_backup_and_what_it_does_not_know_is_ended(
    site: Site, serve: Callable[..., Service], backup: Path, hpcbridge: Callable[..., str]
) -> None:
    users = auth(site, "token")
    config = site.write(auth=users)
    service = serve()
    made = [hpcbridge("token", "create", config, "--user=alice").split()[0] for _ in range(2)]
    headers = bearer(made[0])
    known, ends = (service.post({"application": "cone"}, headers=headers).json() for _ in range(2))
    hpcbridge("backup", config, backup)
    # After the backup: one ends, one begins, a token is revoked.
    service.http.delete(f"/paraview/{ends['id']}", headers=headers)
    later = service.post({"application": "cone"}, headers=headers).json()
    hpcbridge("token", "revoke", config, made[1][5:17])
    processes = set(site.processes())
    assert "is running" in hpcbridge("restore", config, backup, "--replace", status=1)
    service.stop()
    assert "--replace" in hpcbridge("restore", config, backup, status=1)
    said = hpcbridge("restore", config, backup, "--replace")
    (aside,) = site.state_dir.glob("hpcbridge.sqlite.replaced-*[0-9]")
    assert str(aside) in said
    database = site.state_dir / "hpcbridge.sqlite"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    again = serve("--end-sessions")
    told = again.http.get(f"/paraview/{known['id']}", headers=headers).json()
    assert (told["state"], told["secret"]) == ("ready", known["secret"])

    def ended() -> bool:
        reply = again.http.get(f"/paraview/{ends['id']}", headers=headers)
        return bool(reply.json()["state"] == "ended")

    wait_until(ended, "the end of what ended after the backup")
    assert again.http.get(f"/paraview/{later['id']}", headers=headers).status_code == 404
    assert again.http.get("/paraview", headers=bearer(made[1])).status_code == 401, "revoked"
    wait_until(lambda: len(site.processes()) < len(processes), "the end of the unknown job")
    assert again.http.get(f"/paraview/{known['id']}", headers=headers).json()["state"] == "ready"
    assert again.stop() == 0


def test_a_session_that_waited_for_its_user_is_nobodys_again(
    site: Site, serve: Callable[..., Service], backup: Path, hpcbridge: Callable[..., str]
) -> None:
    """It may have been handed out since the backup."""
    config = site.write()
    serve().stop()
    hpcbridge("backup", config, backup)
    insert = (
        "INSERT INTO sessions (id, secret, application, cluster, parameters, state, message, "
        "job_name, job_ended, claimed, stopped, forsaken, version, directory, attempt, log_tail, "
        "pool, taken_at) VALUES (?, 's', 'cone', 'here', '{}', 'ready', '', ?, 0, 0, 0, 0, 0, '',"
        " 0, '', 'p', ?)"
    )
    connection = sqlite3.connect(backup)
    connection.execute(insert, ("w" * 40, "a", None))
    connection.execute(insert, ("t" * 40, "b", 1.0))
    connection.commit()
    connection.close()
    hpcbridge("restore", config, backup, "--replace")
    database = site.state_dir / "hpcbridge.sqlite"
    stopped = dict(rows(database, "SELECT pool || id, stopped FROM sessions"))
    assert stopped == {f"p{'w' * 40}": 1, f"p{'t' * 40}": 0}


def test_what_is_no_backup_changes_nothing(
    site: Site, serve: Callable[..., Service], backup: Path, hpcbridge: Callable[..., str]
) -> None:
    config = site.write()
    serve().stop()
    database = site.state_dir / "hpcbridge.sqlite"
    hpcbridge("backup", config, backup)
    newer = backup.with_name("newer")
    newer.write_bytes(backup.read_bytes())
    connection = sqlite3.connect(newer)
    connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    connection.commit()
    connection.close()
    damaged = backup.with_name("damaged")
    damaged.write_bytes(backup.read_bytes()[:9000])
    text = backup.with_name("text")
    text.write_text("no database" * 999)
    other = backup.with_name("other")
    sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
    link, foreign = backup.with_name("link"), backup.with_name("foreign")
    link.symlink_to(backup)
    foreign.write_bytes(backup.read_bytes())
    os.chown(foreign, 65534, 65534)
    before = database.read_bytes()
    wrong = {
        newer: "newer hpcbridge",
        damaged: "",
        text: "no database of hpcbridge",
        other: "no database of hpcbridge",
        link: "no link",
        foreign: "of this account",
        backup.with_name("missing"): "No such file",
    }
    for file, why in wrong.items():
        assert why in hpcbridge("restore", config, file, "--replace", status=1), file
        assert database.read_bytes() == before
    assert not list(site.state_dir.glob("*.replaced*"))
    assert not list(site.state_dir.glob(".*part*"))


def test_another_account_makes_no_backup_and_postgresql_has_its_own(
    site: Site, backup: Path, hpcbridge: Callable[..., str]
) -> None:
    config = site.write()
    site.state_dir.mkdir()
    os.chown(site.state_dir, 65534, 65534)
    assert "Run this as" in hpcbridge("backup", config, backup, status=1)
    remote = {"scheduler": "slurm"}
    shared = site.write(
        store={"url": "postgresql+asyncpg://u@localhost/d"},
        clusters={"here": None, "hpc": remote},
        applications={name: {"cluster": "hpc"} for name in site.config["applications"]},
    )
    assert "pg_dump" in hpcbridge("backup", shared, backup, status=1)
    assert "pg_restore" in hpcbridge("restore", shared, backup, status=1)
    assert not backup.exists()
