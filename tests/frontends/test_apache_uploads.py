"""Files cross Apache, with the virtual host that is printed."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.frontends.apache_server import ApacheServer, free_port

pytestmark = pytest.mark.servers


@pytest.fixture
def front(site: Any, serve: Callable[..., Any], directory: Path) -> Iterator[int]:
    """Apache's port."""
    apache = ApacheServer(directory, free_port())
    path = site.write(
        server={"port": free_port()},
        frontend={"kind": "apache", "map_file": str(directory / "map")},
        uploads={"directory": str(site.root / "uploads")},
    )
    serve("--end-sessions")
    command = [sys.executable, "-m", "hpcbridge", "frontend", "apache", str(path)]
    options = [f"--listen=127.0.0.1:{apache.port}"]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    apache.start(printed.stdout)
    yield apache.port
    apache.stop()


def test_a_file_is_sent_listed_and_deleted(front: int, site: Any) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=60) as http:
        content = bytes(range(256)) * 16384
        reply = http.put("/paraview/uploads/My data.vtu", content=content)
        assert reply.status_code == 201, reply.text
        assert (site.root / "uploads/My data.vtu").read_bytes() == content
        (file,) = http.get("/paraview/uploads").json()["files"]
        assert file["size"] == len(content)
        assert http.delete("/paraview/uploads/My data.vtu").status_code == 200
        assert http.put("/paraview/uploads/..%2fx", content=b"x").status_code in (400, 404)


def test_what_is_too_large_is_told_by_the_service(front: int) -> None:
    with socket.create_connection(("127.0.0.1", front), timeout=60) as wire:
        wire.sendall(head(10 * 2**30, "Expect: 100-continue"))
        said = b""
        while b"MiB" not in said and (more := wire.recv(65536)):
            said += more
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"'big' is larger than 1024 MiB." in said


def head(length: int, *lines: str) -> bytes:
    first = ["PUT /paraview/uploads/big HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()
