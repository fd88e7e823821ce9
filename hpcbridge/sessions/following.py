"""A session that another replica drives: this one has its tunnel and its route, too."""

import asyncio
import logging

from hpcbridge.errors import BridgeError
from hpcbridge.sessions.session import Session
from hpcbridge.states import State

log = logging.getLogger(__name__)


async def follow(session: Session) -> None:
    """Have a tunnel and a route here while another replica drives the session to its end."""
    row, timing = session.row, session.context.timing
    pause, shut, loop = timing.reopen, True, asyncio.get_running_loop()
    while row.state != State.ENDED:
        if row.state != State.READY and (session.endpoint.state is not None or not shut):
            session.settled.clear()  # its job went back to the queue
            shut = await session.endpoint.close()
            if not shut:
                loop.call_later(pause, session.moved.set)
        if row.state == State.READY and row.host and row.port:
            try:
                await session.endpoint.reopen(row.host, row.port)
            except Exception as error:
                fault = None if isinstance(error, BridgeError) else error
                log.warning("session %s: %s", row.job_name, error, exc_info=fault)
                loop.call_later(pause, session.moved.set)
                pause = min(pause * 2, timing.reopen_limit)
            else:
                pause = timing.reopen
                session.settled.set()
        elif row.state == State.STARTING and row.host:
            session.cluster.tunnels.warm(row.host)
        await session.moved.wait()
        session.moved.clear()
    await session.over()
    while not await session.endpoint.close():
        await asyncio.sleep(pause)
        pause = min(pause * 2, timing.reopen_limit)
