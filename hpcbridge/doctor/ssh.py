"""Whether an SSH host is reached, and which key it shows."""

import asyncssh

from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError
from hpcbridge.transports.connection import SSHHost


async def reached(what: str, host: SSHHost) -> Finding:
    """Log in to it."""
    try:
        connection = await host.connection()
    except BridgeError as error:
        said = str(error)
        if isinstance(error.__cause__, asyncssh.HostKeyNotVerifiable):
            said += await _shown(host)
        return bad(what, said)
    key = connection.get_server_host_key()
    shown = f" Its host key is {key.algorithm.decode()} {key.get_fingerprint()}." if key else ""
    return good(what, f"{host.name} is reached.{shown}")


async def _shown(host: SSHHost) -> str:
    """The key that the host shows now, for its admins to compare with."""
    key = await host.shown_key()
    if key is None:
        return ""
    return f" The key that it shows is {key.algorithm.decode()} {key.get_fingerprint()}."
