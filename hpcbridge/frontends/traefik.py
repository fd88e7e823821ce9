"""Prints what Traefik (3.4 and later) needs to hand requests on to the service."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from hpcbridge.errors import ConfigError
from hpcbridge.frontends import parsing
from hpcbridge.frontends.printing import TLS, Behind, Listen, file_name, render

PATIENCE = 30.0
"""Seconds in which Traefik has read its files."""


def dynamic(behind: Behind, tls: TLS | None, *, login: Path) -> str:
    """A file for the file provider: routers, the service, and the certificate where there is TLS.

    ``login`` is the file in which a site says who is logged in. Raises
    :class:`~hpcbridge.errors.ConfigError`, also for a unix socket: Traefik connects to none.
    """
    if isinstance(behind.address, Path):
        raise ConfigError(
            "server.unix_socket: Traefik connects to no unix sockets. Use server.host and "
            "server.port with it."
        )
    return render(
        "traefik.yml.j2",
        behind=behind,
        tls=tls,
        entry=_entry(tls is not None),
        login=file_name("login_conf", login),
    )


def static(listen: Listen, *, tls: bool, directory: Path) -> str:
    """A ``traefik.yml`` whose file provider reads ``directory``.

    Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    return render(
        "traefik-static.yml.j2",
        listen=listen,
        tls=tls,
        entry=_entry(tls),
        directory=file_name("login_conf's directory", directory),
    )


def _entry(tls: bool) -> str:
    return "websecure" if tls else "web"


def check(printed: str, tls: TLS | None, *, login: Path | None) -> str:
    """Start Traefik on ports of its own with :func:`dynamic`, and return what it has to say.

    It has no command that only reads. ``login`` is the file of the site's login, if there is one.
    Raises :class:`~hpcbridge.errors.ConfigError` with its words where it does not take it.
    """
    for each in (tls.certificate, tls.key) if tls else ():
        if not each.is_file():  # Traefik hides the name, which could be a key itself
            raise ConfigError(f"traefik does not take this configuration:\n{each} is not there.")
    program = shutil.which("traefik", path=parsing.PATH)
    if program is None:
        raise ConfigError("traefik is not installed on this machine. Check where Traefik runs.")
    with tempfile.TemporaryDirectory(prefix="hpcbridge-check-") as name:
        directory, log = Path(name), Path(name) / "log"
        files = directory / "files"
        files.mkdir()
        (files / "hpcbridge.yml").write_text(printed)
        if login is not None:
            (files / "login.yml").write_text(login.read_text())
        api, port = _free_ports(2)
        options = [
            f"--entrypoints.traefik.address=127.0.0.1:{api}",
            f"--entrypoints.{_entry(tls is not None)}.address=127.0.0.1:{port}",
            f"--providers.file.directory={files}",
            "--api.insecure=true",
            "--log.level=ERROR",
            "--log.nocolor=true",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ]
        with log.open("wb") as output:
            started = subprocess.Popen(  # noqa: S603 - a program of ours and files, no shell
                [program, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wrong = _wrong(started, api)
        finally:
            started.terminate()
            started.wait()
        said = "\n".join([*wrong, log.read_text(errors="replace")]).strip()
    if said:
        raise ConfigError(f"traefik does not take this configuration:\n{said}")
    return ""


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wrong(started: "subprocess.Popen[bytes]", api: int) -> list[str]:
    """What Traefik's API says against our routers, when it has read them."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and started.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            asked = f"http://127.0.0.1:{api}/api/http/routers"
            reply = httpx.get(asked, timeout=5, trust_env=False)  # by no proxy
            routers = reply.json() if reply.status_code == 200 else []
            ours = [each for each in routers if each["name"].startswith("hpcbridge")]
            if ours:
                return [word for each in ours for word in each.get("error", [])]
        time.sleep(0.05)
    return ["It has not read the file."]
