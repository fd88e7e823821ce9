"""A page of another site in a real Chromium, whose client is logged in at the front end.

Apache, with the printed virtual host, knows the client by a cookie, as single sign-on has it. The
other site is another port of the same host, so the browser sends that cookie along: it looks at
the port for an origin, not for a site.
"""

import grp
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import driver
from tests.frontends.apache_server import ApacheServer, free_port
from tests.usersite import SECRET, audited, auth

pytestmark = pytest.mark.browser

# What any login module does with a valid cookie.
LOGIN = """
    <LocationMatch "^/">
        RequestHeader set X-Remote-User alice "expr=%{HTTP_COOKIE} =~ /sso=alice/"
    </LocationMatch>
</VirtualHost>
"""
FORM = """<!doctype html><title>another site</title>
<form method="post" enctype="text/plain" action="{target}">
<input name='{{"application": "cone", "x": "' value='"}}'></form>
<form method="post" action="{target}"><input name="application" value="cone"></form>
"""


class ForeignPage(BaseHTTPRequestHandler):
    """A site of somebody else's."""

    target = ""

    def do_GET(self) -> None:
        """The page with forms for the launcher."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path == "/sandboxed":
            self.send_header("Content-Security-Policy", "sandbox allow-scripts allow-forms")
        self.end_headers()
        self.wfile.write(FORM.format(target=self.target).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass
class World:
    """The portal behind Apache, and the other site."""

    site: Any
    portal: str
    foreign: str

    def launches(self) -> list[dict[str, Any]]:
        return [line for line in audited(self.site) if line["result"] == "done"]

    def refusals(self) -> list[dict[str, Any]]:
        return [line for line in audited(self.site) if line["result"] == "refused"]


@pytest.fixture
def world(site: Any, serve: Any, directory: Path) -> Iterator[World]:
    apache = ApacheServer(directory, free_port())
    group = grp.getgrgid(apache.group).gr_name
    secret_conf = directory / "secret.conf"
    secret_conf.touch(mode=0o600)
    secret_conf.write_text(f'RequestHeader set X-Hpcbridge-Secret "{SECRET}"\n')
    path = site.write(
        server={"unix_socket": str(directory / "api.sock")},
        auth=auth(site),
        frontend={"kind": "apache", "map_file": str(directory / "map"), "group": group},
    )
    service = serve("--end-sessions")
    assert service.url.startswith("unix:")
    command = [sys.executable, "-m", "hpcbridge", "frontend", "apache", str(path)]
    options = [f"--listen=127.0.0.1:{apache.port}", f"--secret-conf={secret_conf}"]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    apache.start(printed.stdout.replace("</VirtualHost>\n", LOGIN))
    portal = f"http://127.0.0.1:{apache.port}"
    page = type("Page", (ForeignPage,), {"target": f"{portal}/paraview"})
    foreign = ThreadingHTTPServer(("127.0.0.1", 0), page)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    try:
        yield World(site, portal, f"http://127.0.0.1:{foreign.server_port}")
    finally:
        foreign.shutdown()
        foreign.server_close()
        apache.stop()
        assert service.stop() == 0


@pytest.fixture
def client(world: World) -> Iterator[Page]:
    """A tab of somebody who is logged in at the portal."""
    with driver.chromium() as browser:
        yield _logged_in(browser, world)


def _logged_in(browser: Browser, world: World) -> Page:
    context = browser.new_context()
    context.add_cookies([{"name": "sso", "value": "alice", "url": world.portal}])
    return context.new_page()


def fetch(page: Page, url: str, **options: Any) -> str:
    """What a script of the page gets: a status, or that the browser refused."""
    said = page.evaluate(
        "async ([url, options]) => {"
        " try { return String((await fetch(url, options)).status) } catch { return 'failed' } }",
        [url, {"credentials": "include"} | options],
    )
    return str(said)


def test_the_portals_own_page_launches_and_tells_who_is_logged_in(
    world: World, client: Page
) -> None:
    """So the cookie, Apache and the service do what the other tests rely on."""
    client.goto(world.portal)
    expect(client.locator("#who")).to_contain_text("alice")
    body = '{"application": "cone"}'
    assert fetch(client, "/paraview", method="POST", body=body) == "200"
    (line,) = world.launches()
    assert (line["user"], line["how"]) == ("alice", "header")


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_a_script_of_another_site_launches_and_stops_nothing(
    world: World, client: Page, mode: str
) -> None:
    client.goto(world.portal)
    body = '{"application": "cone"}'
    assert fetch(client, "/paraview", method="POST", body=body) == "200"
    session_id = client.evaluate(
        "async () => (await (await fetch('/paraview')).json()).sessions[0].id"
    )
    client.goto(world.foreign)
    target = f"{world.portal}/paraview"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"Content-Type": kind}
        got = fetch(client, target, method="POST", mode=mode, headers=headers, body=body)
        assert got in ("failed", "0")
    assert client.evaluate("([url, body]) => navigator.sendBeacon(url, body)", [target, body])
    assert fetch(client, f"{target}/{session_id}", method="DELETE") == "failed"
    # Nor does it learn who its client is.
    assert fetch(client, target) == "failed"
    client.goto(world.portal)
    assert fetch(client, f"/paraview/{session_id}") == "200"
    deadline = time.monotonic() + 60
    while len(world.refusals()) < 4:
        assert time.monotonic() < deadline, "the beacon did not come"
        client.wait_for_timeout(50)
    assert len(world.launches()) == 1
    # All four came with the client's name, and were refused for where they came from.
    assert {(line["user"], line["what"]) for line in world.refusals()} == {("alice", "POST launch")}
    assert all("Pages of this site" in line["why"] for line in world.refusals())


@pytest.mark.parametrize("number", [0, 1])
def test_a_form_of_another_site_launches_nothing(world: World, client: Page, number: int) -> None:
    """As text/plain, whose body is JSON all the same, and as forms are by default."""
    client.goto(world.foreign)
    with client.expect_navigation() as navigation:
        client.evaluate("(number) => document.forms[number].submit()", number)
    reply = navigation.value
    assert reply is not None
    assert reply.status == 403
    assert reply.request.header_value("cookie") == "sso=alice"
    assert reply.request.header_value("origin") == world.foreign
    assert world.launches() == []
    assert [line["user"] for line in world.refusals()] == ["alice"]


def test_a_page_without_an_origin_launches_nothing(world: World, client: Page) -> None:
    """A sandboxed page; the browser sends the cookie of such a one nowhere, or Origin: null."""
    client.goto(f"{world.foreign}/sandboxed")
    with client.expect_navigation() as navigation:
        client.evaluate("document.forms[0].submit()")
    reply = navigation.value
    assert reply is not None
    assert reply.status in (401, 403)
    assert reply.request.header_value("origin") == "null"
    assert world.launches() == []


def test_a_websocket_of_another_site_reaches_no_session(world: World, client: Page) -> None:
    client.goto(world.portal)
    body = '{"application": "cone"}'
    fetch(client, "/paraview", method="POST", body=body)
    session_id = client.evaluate(
        "async () => (await (await fetch('/paraview')).json()).sessions[0].id"
    )
    client.goto(world.foreign)
    address = f"{world.portal.replace('http', 'ws')}/proxy?sessionId={session_id}&path=ws"
    outcome = client.evaluate(
        "(url) => new Promise((done) => { const socket = new WebSocket(url);"
        " socket.onopen = () => done('open'); socket.onerror = () => done('refused'); })",
        address,
    )
    assert outcome == "refused"
