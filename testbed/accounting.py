"""Slurm's accounting, where it was asked for: slurmdbd on a MariaDB of its own, accounts, limits.

MariaDB serves a Unix socket that only Slurm's user can reach, and no port.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from testbed import accounts, services
from testbed.daemons import PATH
from testbed.layout import USERS, Layout, TestbedError

#: Programs that only accounting needs, and the package that brings each.
_PROGRAMS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core"}
_SQL = Path("/usr/share/mysql")
_SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
_GRANTS = """\
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
"""

#: Arguments of sacctmgr(1). "brief" refuses jobs of more than 10 minutes, "single" lets each user
#: run one job, "scavenger" is preempted by "normal"; the account "tiny" may run one CPU.
_ENROLMENT = (
    "add account science Description=science Organization=site",
    "add account tiny Description=tiny Organization=site GrpTRES=cpu=1",
    "add qos brief MaxWall=00:10:00 Flags=DenyOnLimit",
    "add qos single MaxJobsPerUser=1",
    "add qos scavenger PreemptMode=cancel",
    "modify qos normal set Preempt=scavenger",
    f"add user {','.join(USERS)} Account=science DefaultAccount=science "
    "QOS=normal,brief,single,scavenger DefaultQOS=normal",
    f"add user {USERS[0]} Account=tiny QOS=normal DefaultQOS=normal",
)


def prepare(layout: Layout) -> None:
    """Make the database's directories and its system tables, once."""
    _check()
    accounts.directory(layout.database, "slurm", 0o700)
    grants = layout.database / "grants.sql"
    grants.write_text(_GRANTS)
    accounts.give(grants, "slurm", 0o600)
    tables = layout.database / "tables"
    if not (tables / "mysql").exists():
        accounts.directory(tables, "slurm", 0o700)
        script = "CREATE DATABASE mysql;\nUSE mysql;\n"
        script += "".join((_SQL / name).read_text() for name in _SYSTEM_TABLES)
        _bootstrap([*services.mariadbd(layout), "--bootstrap"], script)


def remove(layout: Layout) -> None:
    """Forget all accounts, users and records; the daemons must have ended."""
    shutil.rmtree(layout.database)
    (layout.state / "slurm/slurmdbd.conf").unlink(missing_ok=True)


def enrol(layout: Layout, call: Callable[..., str]) -> None:
    """Make the accounts, users and limits, once; `call` runs a command as root on the head."""
    done = layout.database / "enrolled"
    if not done.exists():
        for words in _ENROLMENT:
            call("sacctmgr", "--immediate", "--quiet", *words.split())
        done.touch()


def _check() -> None:
    names = [package for name, package in _PROGRAMS.items() if not shutil.which(name, path=PATH)]
    if names:
        raise TestbedError(
            f"Accounting needs what is not installed: {', '.join(names)}. Install it with:\n"
            "    python3 -m testbed install"
        )


def _bootstrap(command: list[str], script: str) -> None:
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise TestbedError(f"MariaDB cannot make its system tables:\n{done.stderr[-2000:]}")
