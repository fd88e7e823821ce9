"""The peer of an application's launch: the same program, started from here, and a port for it."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.figures import Unavailable


def free_port() -> int:
    """A port of this machine that nothing used a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(
    command: Sequence[str], ready: bytes, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """The program once it has written ``ready``; it is ended afterwards."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
    ) as program:
        try:
            assert program.stdout is not None
            said = b""
            while ready not in said:
                more = os.read(program.stdout.fileno(), 65536)
                if not more:
                    raise Unavailable(f"{command[0]} did not start: {said[-300:]!r}")
                said += more
            yield
        finally:
            program.terminate()
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()
