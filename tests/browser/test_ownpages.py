"""Applications' own pages in a real Chromium, at their sessions' own addresses."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import driver
from tests.usersite import auth, named

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent


@pytest.fixture
def page() -> Iterator[Page]:
    with driver.chromium() as browser:
        yield browser.new_page()


def trame(site: Any) -> dict[str, Any]:
    """The configuration of trame's application."""
    return {
        "cluster": "here",
        "template": "python.sh",
        "wait": 60,
        "ready_line": "App running at",
        "viewer": "page",
        "properties": {"script": str(HERE / "trame_cone.py")},
        "inject": {"launched": True},
    }


@pytest.mark.parametrize("address", ["host", "path"])
def test_trames_own_page_draws_and_its_controls_work(
    site: Any, serve: Callable[..., Any], page: Page, address: str
) -> None:
    site.write(applications={"trame": trame(site)}, frontend={"session_address": address})
    service = serve("--end-sessions")
    reply = service.post({"application": "trame"}).json()
    assert reply["viewer"] == "page"
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("framenavigated", lambda frame: addresses.append(frame.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    page.goto(reply["page"])
    for sides in (6, 46):
        expect(page.locator("#said")).to_have_text(f"The cone has {sides} sides")
        page.click("#more")
        expect(page.locator("#said")).to_have_text(f"The cone has {sides + 40} sides")
        page.wait_for_function("document.querySelector('img')?.naturalWidth > 100")
        assert reply["secret"] not in page.evaluate("location.href")
        page.reload()
    assert any(url.startswith("ws:") for url in addresses)
    assert not [url for url in addresses if reply["secret"] in url]
    listed = service.http.get("/paraview/applications").json()["applications"]
    assert listed[-1]["viewer"] == "page"
    assert len(site.directories()) == 1  # no second session
    assert service.stop() == 0


TEMPLATES = Path(__file__).parents[2] / "examples/jupyter/templates"

# What follows runs in JupyterLab's own page, so it is what its scripts may do.
KERNEL = """
async () => {
    const kernel = await (await fetch('/api/kernels', {method: 'POST'})).json();
    const socket = new WebSocket(`ws://${location.host}/api/kernels/${kernel.id}/channels`);
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const said = new Promise((resolve) => {
        socket.onmessage = (event) => {
            const message = JSON.parse(event.data);
            if (message.msg_type === 'stream') resolve(message.content.text);
        };
    });
    socket.send(JSON.stringify({
        header: {msg_id: 'one', username: '', session: 's', msg_type: 'execute_request',
                 version: '5.3', date: new Date().toISOString()},
        parent_header: {}, metadata: {}, channel: 'shell', buffers: [],
        content: {code: 'print(6 * 7)', silent: false, store_history: false,
                  user_expressions: {}, allow_stdin: false},
    }));
    return said;
}
"""
TERMINAL = """
async () => {
    const {name} = await (await fetch('/api/terminals', {method: 'POST'})).json();
    const socket = new WebSocket(`ws://${location.host}/terminals/websocket/${name}`);
    let all = '';
    return new Promise((resolve, reject) => {
        socket.onerror = reject;
        socket.onmessage = (event) => {
            const [kind, text] = JSON.parse(event.data);
            if (kind === 'setup') socket.send(JSON.stringify(['stdin', 'echo $((6*7))x\\r']));
            if (kind === 'stdout') all += text;
            if (all.includes('42x')) resolve('42x');
        };
    });
}
"""
FILES = """
async (megabytes) => {
    const line = 'abcdefghijklmnopqrstuvwxyz012345'.repeat(32768);
    const content = line.repeat(megabytes);
    const body = JSON.stringify({type: 'file', format: 'text', content});
    const put = await fetch('/api/contents/large.txt', {method: 'PUT', body});
    const got = await (await fetch('/files/large.txt')).text();
    const deleted = await fetch('/api/contents/large.txt', {method: 'DELETE'});
    return [put.status, got === content, got.length, deleted.status];
}
"""


def test_jupyterlab_answers_with_a_kernel_a_terminal_and_large_files(
    site: Any, serve: Callable[..., Any], page: Page
) -> None:
    work = site.root / "work"
    work.mkdir()
    lab = {
        "cluster": "here",
        "template": "jupyterlab.sh",
        "wait": 100,
        "ready_line": "is running at",
        "viewer": "page",
        "page_path": "/lab",
        "properties": {"python": sys.executable, "directory": str(work)},
        "inject": {"headers": {"Authorization": "token ${secret}"}},
    }
    site.write(applications={"lab": lab}, template_dirs=[str(TEMPLATES)])
    service = serve("--end-sessions")
    reply = service.post({"application": "lab"}).json()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.set_default_timeout(60_000)
    page.goto(reply["page"])
    expect(page.locator(".jp-LauncherCard").first).to_be_visible()
    assert page.evaluate(KERNEL) == "42\n"
    assert page.evaluate(TERMINAL) == "42x"
    assert page.evaluate(FILES, 48) == [201, True, 48 << 20, 204]
    assert not [url for url in addresses if reply["secret"] in url]
    assert reply["secret"] not in site.logs()
    assert service.stop() == 0


EVIL = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))

class Evil(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        body = b"<!doctype html><link rel=stylesheet href=a.css><h1>evil</h1>"
        kind = "text/html"
        if self.path.startswith("/a.css"):
            body, kind = b"h1 { color: rgb(1, 2, 3) }", "text/css"
        if self.path.startswith("/worker.js"):
            body, kind = b"addEventListener('fetch', () => {})", "text/javascript"
        self.send_header("Set-Cookie", "hpcbridge=stolen; Domain=localhost; Path=/")
        self.send_header("Set-Cookie", "sso=mallory; Domain=localhost; Path=/")
        self.send_header("Clear-Site-Data", '"cookies", "storage"')
        self.send_header("Service-Worker-Allowed", "/")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = HTTPServer((options["--host"], int(options["--port"])), Evil)
print("wslink: Starting factory", flush=True)
server.serve_forever()
"""
ATTACKS = """
async (portal) => {
    const tried = async (work) => {
        try { return String(await work()); } catch { return 'failed'; }
    };
    document.cookie = 'sso=mallory; Domain=localhost; Path=/';
    document.cookie = 'sso=mallory; Path=/';
    const all = {credentials: 'include'};
    const frame = document.createElement('iframe');
    frame.src = portal;
    document.body.append(frame);
    await new Promise((resolve) => { frame.onload = resolve; });
    return {
        launch: await tried(async () => (await fetch(`${portal}/paraview`, {
            ...all, method: 'POST', body: '{"application": "evil"}'})).status),
        quiet: await tried(async () => (await fetch(`${portal}/paraview`, {
            ...all, mode: 'no-cors', method: 'POST', body: '{"application": "evil"}'})).type),
        read: await tried(async () => (await fetch(`${portal}/paraview/applications`, all)).status),
        frame: await tried(() => frame.contentWindow.document.cookie),
        storage: await tried(() => localStorage.getItem('portal')),
        worker: await tried(
            async () => (await navigator.serviceWorker.register('/worker.js')).scope),
    };
}
"""


def test_a_sessions_page_cannot_act_as_the_portal(
    site: Any, serve: Callable[..., Any], page: Page
) -> None:
    """Whatever it answers, and whatever its scripts try, in a browser that is at both."""
    program = site.program("evil", f"#!{sys.executable} -SE\n{EVIL}")
    evil = {"properties": {"program": program}, "viewer": "page"}
    site.write(applications={"evil": {"cluster": "here", "template": "command.sh"} | evil})
    service = serve("--end-sessions")
    portal = service.url.replace("127.0.0.1", "localhost").rstrip("/")
    reply = service.post({"application": "evil"}).json()
    context = page.context
    context.add_cookies([{"name": "sso", "value": "alice", "url": portal}])
    page.goto(portal)
    page.evaluate("localStorage.setItem('portal', 'kept')")
    page.goto(reply["page"])
    colour = "getComputedStyle(document.querySelector('h1')).color"
    assert page.evaluate(colour) == "rgb(1, 2, 3)"  # so its own files are found
    done = page.evaluate(ATTACKS, portal)
    own = reply["page"]
    assert done == {
        "launch": "failed",
        "quiet": "opaque",  # which tells nothing; see below
        "read": "failed",
        "frame": "failed",
        "storage": "null",
        "worker": own,
    }
    assert len(site.directories()) == 1  # nothing was launched
    (kept,) = [each for each in context.cookies(portal) if each["name"] == "sso"]
    assert kept["value"] == "alice"
    assert "hpcbridge" not in [each["name"] for each in context.cookies(own)]
    page.goto(portal)
    assert page.evaluate("localStorage.getItem('portal')") == "kept"
    assert service.stop() == 0


def test_a_users_page_has_neither_ticket_nor_secret_in_its_address(
    site: Any, serve: Callable[..., Any], page: Page
) -> None:
    program = site.program("evil", f"#!{sys.executable} -SE\n{EVIL}")
    plain = {"cluster": "here", "template": "command.sh", "properties": {"program": program}}
    site.write(applications={"plain": plain | {"viewer": "page"}}, auth=auth(site))
    service = serve("--end-sessions")
    reply = service.post({"application": "plain"}, headers=named("alice")).json()
    own = reply["page"].partition("?")[0]
    refused = page.goto(own)
    assert refused is not None
    assert refused.status == 404
    referers: list[str | None] = []
    page.on("request", lambda request: referers.append(request.headers.get("referer")))
    opened = page.goto(reply["page"])
    assert opened is not None
    assert opened.status == 200
    assert (page.url, page.evaluate("location.href")) == (own, own)
    assert "hpcbridge" not in page.evaluate("document.cookie")
    (cookie,) = [each for each in page.context.cookies(own) if each["name"] == "hpcbridge"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["domain"]) == (
        True,
        "Lax",
        own.split("/")[2].partition(":")[0],
    )
    page.reload()
    assert page.locator("h1").text_content() == "evil"
    page.go_back()
    assert "ticket" not in page.url
    assert not [each for each in referers if each and "ticket" in each]
    # Another browser, or this one without its cookie, gets in with none of it.
    page.context.clear_cookies()
    again = page.goto(reply["page"])
    assert again is not None
    assert again.status == 404
    assert service.stop() == 0
