"""Where clients come in: one session's tunnel and the route that leads to it."""

import errno
import logging
import time

from hpcbridge.clusters.cluster import Cluster
from hpcbridge.errors import BridgeError, RouteError
from hpcbridge.frontends.base import Route
from hpcbridge.network.addresses import Address, TCPAddress, UnixAddress, parse_address
from hpcbridge.network.splice import Traffic
from hpcbridge.sessions.context import SessionContext
from hpcbridge.store import SessionRow
from hpcbridge.tunnels import Figures, Probe, Tunnel

log = logging.getLogger(__name__)


class Endpoint:
    """Opened when the application is ready, and again after a restart of the service.

    ``address`` is the local end that it had before, if it had one.
    """

    def __init__(
        self, row: SessionRow, context: SessionContext, cluster: Cluster, address: str | None = None
    ) -> None:
        self._row = row
        self._context = context
        self._cluster = cluster
        self._tunnel: Tunnel | None = None
        # Node and port that the tunnel leads to.
        self._leads_to: tuple[str, int] | None = None
        #: The local end, as ``host:port`` or ``unix:/path``.
        self.address = address
        self._reported: tuple[bool, float] | None = None

    @property
    def state(self) -> str | None:
        """``open`` or ``reconnecting`` while there is a tunnel."""
        return self._tunnel.state if self._tunnel else None

    @property
    def traffic(self) -> Traffic | None:
        """What went through the tunnel since it was opened, while there is one."""
        return self._tunnel.traffic if self._tunnel else None

    @property
    def figures(self) -> Figures | None:
        """The same with what its SSH connection is like."""
        return self._tunnel.figures if self._tunnel else None

    async def open(self, host: str, port: int, probe: Probe) -> Address:
        """Open the tunnel, see the application accept a connection, publish the route.

        Returns the tunnel's local end. Raises what :meth:`hpcbridge.tunnels.Tunnels.open` and
        :meth:`hpcbridge.frontends.table.RouteTable.add` raise.
        """
        return await self._open(host, port, self._fresh(), probe)

    async def reopen(self, host: str, port: int) -> None:
        """The same on the local end that it had, or a fresh port if another has that one now.

        The application is not probed: it was ready, and if its job is gone the scheduler says so.
        """
        if self._tunnel is not None and self._leads_to == (host, port):
            return  # open since another replica drove the session, or drives it
        if self._tunnel is not None and not await self.close():  # its job went on elsewhere
            raise RouteError("The route to where the session was cannot be withdrawn yet.")
        local = parse_address(self.address) if self.address else self._fresh()
        try:
            await self._open(host, port, local, None)
        except RouteError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
            log.warning("session %s: %s", self._row.job_name, error)
            await self._open(host, port, TCPAddress("127.0.0.1", 0), None)

    def _fresh(self) -> Address:
        if self._context.socket_dir is not None:
            return UnixAddress(self._context.socket_dir / f"{self._row.id}.sock")
        return TCPAddress("127.0.0.1", 0)

    async def _open(self, host: str, port: int, local: Address, probe: Probe | None) -> Address:
        await self.release()  # of an attempt that the store did not take
        serve = self._context.serve(self._row)
        tunnel = await self._cluster.tunnels.open(
            host, port, local, group=self._context.group, probe=probe, serve=serve
        )
        try:
            if str(tunnel.address) != self.address:
                await self._context.store.endpoints.put(self._row.id, str(tunnel.address))
            await self._context.routes.add(Route(self._row.id, tunnel.address))
        except BaseException:
            await self._withdraw()  # published all the same, it would lead to whoever gets the port
            await tunnel.close()  # a second attempt may want the same local end
            raise
        self._tunnel, self._leads_to = tunnel, (host, port)
        self.address = str(tunnel.address)
        return tunnel.address

    def cut(self) -> None:
        """Drop whoever is connected through the tunnel."""
        if self._tunnel is not None:
            self._tunnel.cut()

    async def report(self) -> None:
        """Tell the leader who is connected here, if that has changed."""
        if (traffic := self.traffic) is None:
            return
        used = bool(traffic.connections)
        seen = (used, 0.0 if used else traffic.last_activity)
        if seen != self._reported:
            unused = time.monotonic() - traffic.last_activity
            await self._context.store.endpoints.report(self._row.id, traffic.connections, unused)
            self._reported = seen

    async def close(self) -> bool:
        """Withdraw the route, then close the tunnel; whether no front end has the route now."""
        withdrawn = await self._withdraw()
        await self.release()
        return withdrawn

    async def _withdraw(self) -> bool:
        try:
            await self._context.routes.remove(self._row.id)
        except BridgeError as error:
            log.warning("session %s: %s", self._row.job_name, error)
            return False
        return True

    async def release(self) -> None:
        """Close the tunnel only: the service stops, and the next one opens it again."""
        if self._tunnel is not None:
            await self._tunnel.close()
            self._tunnel = None
