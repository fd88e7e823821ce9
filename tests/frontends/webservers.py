"""This machine's web servers with what is printed for them, apart from others of their kind."""

import base64
import contextlib
import grp
import hashlib
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

import httpx
from typer.testing import CliRunner

from hpcbridge.cli.main import app

from .apache_server import free_port

USERS = ("alice", "bob", "olga")
PASSWORD = "their password"


class WebServer(ABC):
    """One in the foreground, on a port of 127.0.0.1, with its files in ``directory``."""

    kind: str
    #: The account of its workers; its group may connect to unix sockets.
    account: str | None = None
    #: Whether it can connect to unix sockets.
    unix = True
    #: What its log says of requests that were handed on.
    logged = "/paraview/..."
    #: Whether it is Go's: it takes off what Connection names, and makes HTTP/1.0 HTTP/1.1.
    hops = False
    #: Whether it can say in JSON that the service is not there.
    tells_down = True

    def __init__(self, directory: Path, certificate: Path, key: Path) -> None:
        self.directory = directory
        self.certificate = certificate
        self.key = key
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its first process, while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def group(self) -> str:
        name = self.account if self.account and os.geteuid() == 0 else None
        return name or grp.getgrgid(os.getegid()).gr_name

    @property
    def log(self) -> str:
        """Its access log."""
        return (self.directory / "access.log").read_text()

    @property
    def output(self) -> str:
        """What else it said."""
        return (self.directory / "output.log").read_text(errors="replace")

    def print(self, config: Path, *options: str) -> str:
        """What ``hpcbridge frontend`` prints for it."""
        done = CliRunner().invoke(app, ["frontend", self.kind, str(config), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    @abstractmethod
    def configure(self, config: Path, secret: str | None, *, parts: bool = False) -> list[str]:
        """Write what it needs; returns the command. Users log in where there is a ``secret``, which
        is sent to the service. ``parts``: by what is printed for a site's own configuration."""

    def start(self, config: Path, secret: str | None = None, *, parts: bool = False) -> None:
        """Return when the port accepts connections."""
        command = self.configure(config, secret, parts=parts)
        with (self.directory / "output.log").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.kind} did not start: {self.output}")
            # Nothing tells when it listens; a refused connection costs nothing to try again.
            time.sleep(0.02)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _tls(self) -> list[str]:
        return [f"--listen=127.0.0.1:{self.port}", f"--certificate={self.certificate}"]


class Nginx(WebServer):
    kind = "nginx"
    account = "www-data"

    def configure(self, config: Path, secret: str | None, *, parts: bool = False) -> list[str]:
        here = self.directory
        login = f"--login-conf={here}/login.conf"
        if secret is not None:
            self._login(secret)
        if parts:
            text = self._parts(config, login)
        else:
            text = self.print(config, *self._tls(), f"--key={self.key}", login)
        (here / "hpcbridge.conf").write_text(
            text.replace("/var/log/nginx/hpcbridge", f"{here}/access")
        )
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        lines = [
            *([f"user {self.account};"] if os.geteuid() == 0 else []),
            "daemon off;",
            "worker_processes 2;",
            f"pid {here}/nginx.pid;",
            "error_log stderr;",
            "events {}",
            "http {",
            "access_log off;",
            *(f"{each}_temp_path {here}/{each};" for each in temporary),
            f"include {here}/hpcbridge.conf;",
            "}",
        ]
        (here / "nginx.conf").write_text("\n".join(lines))
        return ["/usr/sbin/nginx", "-e", "stderr", "-c", f"{here}/nginx.conf"]

    def _login(self, secret: str) -> None:
        users = self.directory / "users"
        users.write_text("".join(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in USERS))
        users.chmod(0o644)
        lines = [
            "auth_basic $hpcbridge_realm;",
            f"auth_basic_user_file {users};",
            "set $hpcbridge_user $remote_user;",
            f'proxy_set_header X-Hpcbridge-Secret "{secret}";',
        ]
        conf = self.directory / "login.conf"
        conf.touch(mode=0o600)
        conf.write_text("\n".join(lines))

    def _parts(self, config: Path, login: str) -> str:
        """A site's own configuration, in which the parts are included."""
        part = {each: self.print(config, f"--snippet={each}", login) for each in ("http", "portal")}
        (self.directory / "portal.conf").write_text(
            part["portal"].replace("/var/log/nginx/hpcbridge", f"{self.directory}/access")
        )
        lines = [
            f"listen 127.0.0.1:{self.port} ssl http2;",
            "server_name localhost;",
            f"ssl_certificate {self.certificate};",
            f"ssl_certificate_key {self.key};",
            f"include {self.directory}/portal.conf;",
            "location = /site { return 200 'the site\\'s own'; }",
        ]
        return part["http"] + "server {\n" + "\n".join(lines) + "\n}\n"


class HAProxy(WebServer):
    kind = "haproxy"
    account = "haproxy"

    @property
    def log(self) -> str:
        return self.output

    def configure(self, config: Path, secret: str | None, *, parts: bool = False) -> list[str]:
        here = self.directory
        pem = here / "both.pem"
        pem.write_text(self.certificate.read_text() + self.key.read_text())
        options = [f"--listen=127.0.0.1:{self.port}", f"--certificate={pem}"]
        files = [here / "haproxy.cfg"]
        if secret is not None:
            options += [f"--secret-map={here}/secret.map", "--userlist=site"]
            (here / "secret.map").write_text(f"secret {secret}\n")
            users = [f'    user {user} insecure-password "{PASSWORD}"' for user in USERS]
            files.append(here / "users.cfg")
            files[-1].write_text("\n".join(["userlist site", *users, ""]))
        own = "    log stdout format raw local0\n"
        if parts:
            files.insert(0, here / "site.cfg")
            files[0].write_text(f"global\n{own}")
            text = self.print(config, "--snippet", *options)
        else:
            text = self.print(config, *options).replace("    log /dev/log local0\n", own)
            if os.geteuid() != 0:
                text = text.replace("    user haproxy\n    group haproxy\n", "")
        (here / "haproxy.cfg").write_text(text)
        named = [word for file in files for word in ("-f", str(file))]
        return ["/usr/sbin/haproxy", "-db", *named]


class Traefik(WebServer):
    kind = "traefik"
    unix = False
    logged = '"RouterName":"hpcbridge-sessions@file"'
    tells_down = False
    hops = True

    def _accepts(self) -> bool:
        """It listens before it has read its files: then there is nothing, at no address."""
        with contextlib.suppress(httpx.HTTPError):
            asked = f"https://localhost:{self.port}/paraview"
            return httpx.get(asked, verify=False, timeout=5).status_code != 404
        return False

    @property
    def log(self) -> str:
        return self.output

    def configure(self, config: Path, secret: str | None, *, parts: bool = False) -> list[str]:
        here, files = self.directory, self.directory / "files"
        files.mkdir()
        login = f"--login-conf={files}/login.yml"
        options = [*self._tls(), f"--key={self.key}", login]
        if secret is not None:
            digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
            (here / "users").write_text("".join(f"{user}:{{SHA}}{digest}\n" for user in USERS))
            (files / "login.yml").write_text(TRAEFIK_LOGIN.format(here=here, secret=secret))
        (files / "hpcbridge.yml").write_text(self.print(config, *options))
        (here / "traefik.yml").write_text(self.print(config, "--static", *options))
        return [str(program("traefik")), f"--configFile={here}/traefik.yml"]


TRAEFIK_LOGIN = """
http:
  middlewares:
    hpcbridge-login:
      chain: {{middlewares: [site-login, hpcbridge-proof]}}
    site-login:
      basicAuth: {{usersFile: {here}/users, headerField: X-Remote-User}}
    hpcbridge-proof:
      headers: {{customRequestHeaders: {{X-Hpcbridge-Secret: "{secret}"}}}}
"""


def program(name: str) -> Path:
    """One that a Python package brings."""
    return Path(sys.executable).parent / name


SERVERS: dict[str, type[WebServer]] = {"nginx": Nginx, "haproxy": HAProxy, "traefik": Traefik}
