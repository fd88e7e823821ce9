"""What a web server before the built-in front end costs, beside one that goes to the session."""

import asyncio
import contextlib
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp

from benchmarks.figures import Run, interleave, spread
from benchmarks.table import Row, Section
from benchmarks.tunnel import family, processor
from tests.ca import CA
from tests.frontends.apache_server import free_port
from tests.frontends.webservers import SERVERS, Nginx, WebServer
from tests.serviceprocess import ServiceProcess
from tests.site import Service, make_site

NAME = "front-ends"
HOW = (
    "a WebSocket of one session on loopback, in turn: through the built-in front end alone (no "
    "TLS), through each web server (TLS) that hands it on to that, and through nginx (TLS) that "
    "connects to the application itself, which is the peer. 'a GB' is the time for 1 GB in "
    "pictures of 100 kB (50 MB sent); 'processor' is the processor time of the web server and the "
    "service for it. 'echo' is a message of 1 kB, there and back, the median of 300."
)
PEER = "nginx to the application"
ALONE = "built-in alone"
PICTURE, PICTURES, MESSAGES = 100_000, 500, 300

PROGRAM = f"""
import sys
from aiohttp import WSMsgType, web
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))

async def answer(request):
    ws = web.WebSocketResponse(max_msg_size=0, compress=False)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        else:
            for _ in range(int(message.data)):
                await ws.send_bytes(bytes({PICTURE}))
    return ws

async def ready(app):
    print("wslink: Starting factory", flush=True)

app = web.Application()
app.router.add_get("/ws", answer)
app.on_startup.append(ready)
web.run_app(app, host=options["--host"], port=int(options["--port"]), print=None)
"""


class Way:
    """An address of the session, and the processes that its bytes pass."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, pids: Callable[[], list[int]]) -> None:
        self._url = url
        self._tls = tls
        self._pids = pids

    def pictures(self) -> Run:
        """Seconds for 1 GB; the part is processor time."""
        size = PICTURES * PICTURE / 1e9
        before = sum(map(processor, self._pids()))
        seconds = asyncio.run(self._receive())
        used = sum(map(processor, self._pids())) - before
        return Run(seconds / size, {"processor": used / size})

    def echo(self) -> Run:
        """The median of one run."""
        return Run(asyncio.run(self._echo()))

    @contextlib.asynccontextmanager
    async def _connected(self):  # type: ignore[no-untyped-def]
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(self._url, ssl=self._tls or True, max_msg_size=0) as ws,
        ):
            yield ws

    async def _receive(self) -> float:
        async with self._connected() as ws:
            began = time.perf_counter()
            await ws.send_str(str(PICTURES))
            for _ in range(PICTURES):
                assert len(await ws.receive_bytes()) == PICTURE
            return time.perf_counter() - began

    async def _echo(self) -> float:
        times = []
        async with self._connected() as ws:
            for _ in range(MESSAGES):
                began = time.perf_counter()
                await ws.send_bytes(bytes(1024))
                await ws.receive_bytes()
                times.append(time.perf_counter() - began)
        return statistics.median(times)


class _Straight(Nginx):
    """nginx that connects to the application."""

    application = 0
    """Its port."""

    def configure(self, config: Path, secret: str | None, *, parts: bool = False) -> list[str]:
        """As much as a WebSocket needs."""
        command = super().configure(config, secret)
        lines = [
            "server {",
            f"listen 127.0.0.1:{self.port} ssl;",
            f"ssl_certificate {self.certificate};",
            f"ssl_certificate_key {self.key};",
            "location = /proxy {",
            f"proxy_pass http://127.0.0.1:{self.application}/ws;",
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection upgrade;",
            "}",
            "}",
        ]
        (self.directory / "hpcbridge.conf").write_text("\n".join(lines))
        return command


def measure(runs: int, folder: Path) -> Section:
    """All ways, side by side."""
    folder.chmod(0o711)
    with _ways(folder) as ways:
        rows = []
        bulk = interleave(runs, {name: way.pictures for name, way in ways.items()})
        for name, measured in bulk.items():
            pairs = list(zip(measured, bulk[PEER], strict=True))
            ours = name != PEER
            cost = spread([a.parts["processor"] / b.parts["processor"] for a, b in pairs])
            rows.append(Row(f"{name}: a GB", spread([each.total for each in measured])))
            used = spread([each.parts["processor"] for each in measured])
            rows.append(Row("processor", used, cost if ours else None, indent=True))
        echoes = interleave(runs, {name: way.echo for name, way in ways.items()})
        for name, measured in echoes.items():
            rows.append(Row(f"{name}: echo", spread([each.total for each in measured])))
    return Section(NAME, HOW, runs, rows)


@contextlib.contextmanager
def _ways(folder: Path) -> Iterator[dict[str, Way]]:
    ca = CA(folder)
    pair = ca.issue("localhost")
    tls = ssl.create_default_context(cafile=str(ca.file))
    site = make_site(folder)
    program = site.program("pictures", f"#!{sys.executable}\n{PROGRAM}")
    port = free_port()
    cone = {"cone": {"properties": {"program": program}}}
    server = {"port": port, "fields": ["port"]}
    site.write(server=server, frontend={"kind": "nginx"}, applications=cone)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(site, "--end-sessions"))
        stack.callback(site.end_processes)
        session = service.post({"application": "cone"}).json()
        path = f"/proxy?sessionId={session['id']}&path=ws"
        ways = {ALONE: Way(f"ws://127.0.0.1:{port}{path}", None, lambda: [service.process.pid])}
        kinds: dict[str, type[WebServer]] = SERVERS | {PEER: _Straight}
        for name, kind in kinds.items():
            directory = folder / name.replace(" ", "-")
            directory.mkdir(mode=0o711)
            web = kind(directory, *pair)
            if isinstance(web, _Straight):
                web.application = session["port"]
            site.write(frontend={"kind": kind.kind}, server=server, applications=cone)
            web.start(site.path)
            stack.callback(web.stop)
            ways[name] = Way(f"wss://localhost:{web.port}{path}", tls, _pids(web, service))
        yield ways


def _pids(web: WebServer, service: ServiceProcess) -> Callable[[], list[int]]:
    def pids() -> list[int]:
        straight = isinstance(web, _Straight)
        return [*family(web.pid), *([] if straight else [service.process.pid])]

    return pids
