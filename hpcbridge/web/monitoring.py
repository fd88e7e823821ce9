"""What load balancers, monitoring and admins ask: is it alive, can it serve, how are the clusters.

``/livez`` and ``/readyz`` tell nothing private and are for everybody, under any name of the host: a
load balancer's probe comes by address, or under a name that only it knows. ``/status`` has error
messages with names of hosts, and is for operators and for this machine. Who may read ``/metrics``
is a setting.
"""

import asyncio
import ipaddress
import re
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder

import hpcbridge
from hpcbridge.auth.identity import How, Scope
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.config.settings import Settings
from hpcbridge.errors import NotForThisCaller, StoreError
from hpcbridge.sessions.manager import Sessions
from hpcbridge.web.access import Access
from hpcbridge.web.measures import Measures
from hpcbridge.web.middleware import error_reply

PROBES = frozenset({"/livez", "/readyz"})
"""What is answered under any name."""
PATIENCE = 2.0
"""Seconds that the database has to answer a probe."""
FRESH = 1.0
"""Seconds for which its answer counts for further probes."""
_NO_STORE = {"Cache-Control": "no-store"}
_FORWARDED = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
)
"""Headers of which web servers send one or more with what they pass on."""
_LOOPBACK = re.compile(
    r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE
)


class Monitoring:
    """Answers over running ``sessions``."""

    def __init__(self, settings: Settings, sessions: Sessions, access: Access) -> None:
        self._access_to_metrics = settings.metrics.access
        self._sessions = sessions
        self._access = access
        self._asking: asyncio.Task[str] | None = None
        self._asked = float("-inf")
        self._measures = Measures(sessions)

    @property
    def router(self) -> APIRouter:
        """Which method answers what."""
        router = APIRouter(tags=["monitoring"])
        both = ["GET", "HEAD"]
        hidden: dict[str, Any] = {"methods": both, "include_in_schema": False}
        router.add_api_route("/livez", self.livez, **hidden)
        router.add_api_route("/readyz", self.readyz, **hidden)
        router.add_api_route("/status", self.status, **hidden)
        if self._access_to_metrics != "off":
            router.add_api_route("/metrics", self.metrics, **hidden)
        return router

    async def livez(self) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    async def readyz(self) -> Response:
        """Whether launches may be sent here; 503 with the reason otherwise."""
        if self._sessions.leaving:
            return error_reply("The service is stopping.", 503, _NO_STORE)
        if wrong := await self._database():
            return error_reply(wrong, 503, _NO_STORE)
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    async def status(self, request: Request) -> Response:
        """How the service and its clusters are."""
        await self._only_operators(request)
        wrong = await self._database()
        counts: dict[str, int] = {}
        for kind, count in self._sessions.census.counts.items():
            counts[kind.state] = counts.get(kind.state, 0) + count
        clusters = self._sessions.registry.clusters.values()
        told = {
            "version": hpcbridge.__version__,
            "started_at": _when(self._sessions.started_at),
            "replica": self._sessions.store.token,
            "leader": None if wrong else await self._leader(),
            "leading": self._sessions.registry.leading,
            "database": {"healthy": not wrong, "message": wrong},
            "sessions": counts,
            "routes": len(self._sessions.routes),
            "clusters": [_cluster(each) for each in clusters],
        }
        return JSONResponse(told, headers=_NO_STORE)

    async def metrics(self, request: Request) -> Response:
        """The counts, as Prometheus reads them."""
        await self._only_readers(request)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._measures), headers={"Content-Type": kind, **_NO_STORE})

    # -- who may

    async def _only_operators(self, request: Request) -> None:
        if is_local(request):
            return
        if not self._access.on:
            raise NotForThisCaller("The status is for programs of this machine.")
        who = await self._access.who(request, Scope.READ)
        if not who.operates:
            raise NotForThisCaller("The status is for operators, and programs of this machine.")

    async def _only_readers(self, request: Request) -> None:
        allowed = self._access_to_metrics
        if allowed == "on" or is_local(request):
            return
        if allowed == "token":
            who = await self._access.who(request, Scope.READ)
            if who.how == How.TOKEN or who.operates:
                return
        raise NotForThisCaller("These metrics are not for you: see metrics.access.")

    # -- the database

    async def _database(self) -> str:
        """Why it cannot be used, in words for everybody, or ""; many who ask are one question."""
        asking, old = self._asking, time.monotonic() - self._asked > FRESH
        if asking is None or (old and asking.done()):
            self._asked = time.monotonic()
            self._asking = asking = asyncio.create_task(self._ask(), name="ask the database")
        return await asyncio.shield(asking)

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._leader()
        except (StoreError, TimeoutError):
            return "The database does not answer."
        return ""

    async def _leader(self) -> str | None:
        return await self._sessions.store.replicas.leader()


def is_local(request: Request) -> bool:
    """Whether a program of this machine asks, and no web server for somebody else.

    What comes by a unix socket comes from a front end. A page whose name was made to lead here
    (DNS rebinding) makes a browser of this machine ask under that name.
    """
    try:
        peer = ipaddress.ip_address(request.state.peer)
    except ValueError:
        return False
    mapped = getattr(peer, "ipv4_mapped", None) or peer
    if not mapped.is_loopback or any(name in request.headers for name in _FORWARDED):
        return False
    hosts = request.headers.getlist("host")
    return len(hosts) <= 1 and all(map(_LOOPBACK.fullmatch, hosts))


def _cluster(cluster: Cluster) -> dict[str, Any]:
    health = cluster.watcher.health
    asked = health.checked_at is not None
    return {
        "name": cluster.name,
        "service": cluster.settings.scheduler,
        "healthy": health.silent_since is None if asked else None,
        "last_check": _when(health.checked_at),
        "latency": health.latency,
        "silent_since": _when(health.silent_since),
        "message": health.message,
    }


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
