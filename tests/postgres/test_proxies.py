"""The proxies of docs/operations.md before two services, with the text that is on that page."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from testbed.daemons import program
from tests.frontends.apache_server import ApacheServer, free_port
from tests.postgres.replicas import ROOT, Site, events, greeting
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def two_services(site: Site) -> Site:
    site.behind_proxies()
    for each in [site.replica().start(wait=False), site.replica().start(wait=False)]:
        each.ready()
    return site


def from_the_page(word: str, site: Site, listen: tuple[str, str]) -> str:
    """The configuration with ``word``; what is an example in it is replaced by what is here."""
    page = (ROOT / "docs/operations.md").read_text()
    (text,) = (
        each for each in re.findall(r"^```\w*\n(.*?)^```$", page, re.M | re.S) if word in each
    )
    here = [urlsplit(str(each.client.base_url)).netloc for each in site.replicas]
    for example, real in (listen, *zip(("192.0.2.1:8080", "192.0.2.2:8080"), here, strict=True)):
        assert text.count(example) == 1
        text = text.replace(example, real)
    return text


@contextlib.contextmanager
def haproxy(folder: Path, text: str, url: str) -> Iterator[None]:
    (folder / "haproxy.cfg").write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        command = [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url).status_code == 200
        return False

    try:
        wait_until(answers, "HAProxy")
        yield
    finally:
        process.terminate()
        process.wait(60)


def a_session_goes_on_behind(url: str, site: Site) -> None:
    """Through the proxy: launched, followed, visited, and all that again without one service."""
    with httpx.Client(base_url=url, timeout=120) as client:
        site.slurm.hold()
        asynchronous = {"Prefer": "respond-async"}
        begun = client.post("/paraview", json={"application": "cone"}, headers=asynchronous)
        assert begun.status_code == 202
        path = f"/paraview/{begun.json()['id']}"
        with contextlib.closing(events(client, begun.json()["id"])) as told:
            assert next(told)["state"] in ("submitting", "queued")
            site.slurm.hold(False)
            session = next(each for each in told if each["state"] in ("ready", "ended"))
        assert session.get("sessionURL", "").startswith(f"{url.replace('http', 'ws')}/proxy?")
        claimed = {"X-Forwarded-Proto": "https"}
        for _ in range(4):  # at both services
            assert greeting(session, origin=url)
            url_of = wait_until(lambda: client.get(path, headers=claimed).json().get("sessionURL"))
            assert url_of == session["sessionURL"]
        site.leader.end(signal.SIGKILL)
        for _ in range(4):
            assert client.get(path).json()["state"] == "ready"
            assert greeting(session, origin=url)
        second = client.post("/paraview", json={"application": "cone"})
        assert second.status_code == 200
        assert greeting(second.json(), origin=url)
        assert client.delete(path).status_code == 200


def test_behind_haproxy_a_session_goes_on_when_a_service_is_lost(
    two_services: Site, tmp_path: Path
) -> None:
    port = free_port()
    listen = ("bind :80", f"bind 127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}"
    with haproxy(tmp_path, from_the_page("backend hpcbridge", two_services, listen), url):
        a_session_goes_on_behind(url, two_services)


def test_behind_apache_a_session_goes_on_when_a_service_is_lost(
    two_services: Site, tmp_path: Path
) -> None:
    apache = ApacheServer(tmp_path, free_port())
    listen = ("*:80", f"127.0.0.1:{apache.port}")
    apache.start(from_the_page("balancer://hpcbridge", two_services, listen))
    try:
        a_session_goes_on_behind(f"http://127.0.0.1:{apache.port}", two_services)
    finally:
        apache.stop()
