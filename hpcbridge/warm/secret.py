"""A new secret for an application that runs, handed over in a file of its session directory.

The file is there from the start, empty: NFS clients may take half a minute to see a new file, and
see what is new in a known one as soon as they open it. The application opens it often.
A line with the secret is its sign to take it, and to write ``taken`` and the SHA-256 digest of the
secret in its place, so that the secret does not stay on disk.
"""

import asyncio
import hashlib

from hpcbridge.errors import ClusterError
from hpcbridge.jobscripts.stage import NEW_SECRET
from hpcbridge.transports.base import Slice, Transport

LIMIT = 2.0
"""Seconds that an application may take."""
LOOK = 0.005
"""Seconds between two looks at what it answers."""
_SCRIPT = 'test -f "$1" && exec cat >"$1"'


async def replace_secret(transport: Transport, directory: str, secret: str) -> bool:
    """Whether the application has taken the new secret, and takes no other any more.

    Raises :class:`~hpcbridge.errors.ClusterError`.
    """
    path = f"{directory}/{NEW_SECRET}"
    argv = ["/bin/sh", "-c", _SCRIPT, "hpcbridge-secret", path]
    wanted = f"taken {hashlib.sha256(secret.encode()).hexdigest()}\n".encode()
    try:
        async with asyncio.timeout(LIMIT):
            done = await transport.run(argv, stdin=f"{secret}\n".encode(), timeout=LIMIT)
            if done.exit_status != 0:
                raise ClusterError(f"{path} cannot be written.")
            while True:
                (answer,) = await transport.read([Slice(path, 0, 256)])
                if answer == wanted:
                    return True
                await asyncio.sleep(LOOK)
    except TimeoutError:
        return False
