"""A client of the launcher API, for programs; the command ``hpcbridge`` uses it, too.

::

    from hpcbridge.client import Client

    with Client("https://viz.example.org", token_file="~/.hpcbridge-token") as bridge:
        session = bridge.launch("visualizer", {"cores": 4}, progress=lambda now: print(now.message))
        print(session.session_url, session.secret)
        bridge.stop(session.id)

:class:`AsyncClient` has the same methods for asyncio. See ``docs/client.md``.
"""

from hpcbridge.client.asynchronous import AsyncClient
from hpcbridge.client.errors import (
    ClientError,
    Forbidden,
    LaunchFailed,
    NotFound,
    NotHpcbridge,
    NotLoggedIn,
    Refused,
    ServiceBusy,
    ServiceUnreachable,
)
from hpcbridge.client.replies import Application, Cluster, Log, Session, SessionPage
from hpcbridge.client.synchronous import Client
from hpcbridge.states import EndReason, State

__all__ = [
    "Application",
    "AsyncClient",
    "Client",
    "ClientError",
    "Cluster",
    "EndReason",
    "Forbidden",
    "LaunchFailed",
    "Log",
    "NotFound",
    "NotHpcbridge",
    "NotLoggedIn",
    "Refused",
    "ServiceBusy",
    "ServiceUnreachable",
    "Session",
    "SessionPage",
    "State",
]
