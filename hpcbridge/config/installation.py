"""The mark of an installation, by which it knows its own jobs among those of its account.

Two services may share an account of a cluster without sharing a database. Each one's job names and
session directories begin with its own mark, so that neither takes the other's for forgotten ones.
"""

import hashlib
import os
import re
import socket
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from hpcbridge.config.settings import Settings

MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5)"""


def mark(settings: Settings) -> str:
    """Eight hexadecimal digits: the same after a restart, an upgrade or the loss of the database.

    The first service on a database leaves its mark there, and all others on it take that one.

    They come from ``server.instance`` where it is set; else from this machine's id and name, the
    state directory (which only one service can hold) and the database's URL without its password.
    """
    if settings.server.instance is not None:
        parts = ["instance", settings.server.instance]
    else:
        state_dir = os.path.realpath(settings.server.state_dir)
        parts = [_machine(), socket.gethostname(), state_dir, _url(settings)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def job_name(session_id: str, mark: str) -> str:
    """The job's name. The id opens the session and job names are public: so a digest of it."""
    return f"hpcb-{mark}-{hashlib.sha256(session_id.encode()).hexdigest()[:24]}"


def is_marked(name: str, mark: str) -> bool:
    """Whether a job or a directory has the name of a session of the installation with ``mark``."""
    return re.fullmatch(rf"hpcb-{re.escape(mark)}-[0-9a-f]{{24}}(-[1-9])?", name) is not None


def replica(settings: Settings) -> str:
    """Tells a service from others on its database, by the state directory that only it can hold."""
    parts = [_machine(), socket.gethostname(), os.path.realpath(settings.server.state_dir)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _machine() -> str:
    try:
        return MACHINE_ID.read_text().strip()
    except OSError:
        return ""


def _url(settings: Settings) -> str:
    if settings.store.url is None:
        return ""  # it follows from state_dir
    try:
        return make_url(settings.store_url).render_as_string(hide_password=True)
    except ArgumentError:  # the store says what is wrong with it
        return ""
