"""Applications that can be kept ready: one that takes a new secret, one that does not."""

import asyncio
import hashlib
from typing import Any

import pytest

from hpcbridge.warm import pools
from tests.programs import PYTHON

# Greets whoever connects with the digest of its secret, and takes a new one where it may.
PROGRAM = f"""#!{PYTHON} -SE
import hashlib, os, selectors, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((options["--host"], int(options["--port"])))
server.settimeout(0.01)
secret = open("secret").read()
os.write(1, b"wslink: Starting factory")
def digest():
    return hashlib.sha256(secret.encode()).hexdigest()
while True:
    if TAKES and os.path.exists("secret.new"):
        line = open("secret.new").read()
        if line.endswith("\\n") and not line.startswith("taken "):
            secret = line.strip()
            open("secret.new", "w").write("taken " + digest() + "\\n")
    try:
        connection, _ = server.accept()
    except TimeoutError:
        continue
    connection.sendall(digest().encode())
    connection.close()
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "INTERVAL", 0.05)


@pytest.fixture
def warm_site(site: Any) -> Any:
    """The site with an application ``warm``, of which one session is kept ready."""
    site.config["applications"]["warm"] = {
        "cluster": "here",
        "template": "command.sh",
        "wait": 60,
        "walltime": 3600,
        "properties": {"program": site.program("takes", PROGRAM.replace("TAKES", "True"))},
        "parameters": {"level": {"type": "int", "default": 3}},
        "warm": {"count": 1},
    }
    site.config["clusters"]["here"]["slots"] = 8
    site.config["server"]["session_url"] = "tcp://${host}:${port}/?id=${id}"
    site.program("refuses", PROGRAM.replace("TAKES", "False"))
    return site


async def knows(session: dict[str, Any]) -> bool:
    """Whether the application of a session wants to hear the secret that its user was told."""
    host, _, port = session["sessionURL"].split("/")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    told = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return told.decode() == hashlib.sha256(session["secret"].encode()).hexdigest()
