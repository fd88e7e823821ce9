"""The processes of the tunnel benchmark: ``python -m benchmarks.tunnelends PART ARGUMENT...``.

``target`` is the application, ``hold`` has a tunnel of either back end open, and ``load`` is the
client. Each says in a line of JSON what the next one has to know.
"""

import asyncio
import json
import socket
import sys
import time

from hpcbridge.config.clusters import SSHSettings, TunnelSettings
from hpcbridge.network.addresses import TCPAddress
from hpcbridge.transports.connection import SSHHost
from hpcbridge.tunnels import Tunnels

BLOCK = bytes(65536)
MESSAGE = 1024


async def target() -> None:
    """Sends as many blocks as the first line asks for, or answers each message in two parts, as
    programs do that write a head and a body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        blocks = int(await reader.readline() or b"0")
        try:
            for _ in range(blocks):
                writer.write(BLOCK)
                await writer.drain()
            while not blocks:
                data = await reader.readexactly(MESSAGE)
                writer.write(data[:4])
                await asyncio.sleep(0)
                writer.write(data[4:])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    say(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def hold(backend: str, settings: str, port: str) -> None:
    """A tunnel to that port, until it is ended."""
    ssh = SSHSettings.model_validate_json(settings)
    tunnels = Tunnels(TunnelSettings(via="login", backend=backend), ssh, SSHHost(ssh))  # type: ignore[arg-type]
    tunnels._allowed = lambda _: True  # type: ignore[method-assign]  # loopback is the network here
    local = TCPAddress("127.0.0.1", 0)
    tunnel = await tunnels.open("127.0.0.1", int(port), local)
    assert isinstance(tunnel.address, TCPAddress)
    say(tunnel.address.port)
    await asyncio.Event().wait()


def load(port: str) -> None:
    """``bulk STREAMS BLOCKS`` and ``echo MESSAGES`` from standard input, one after the other."""
    for line in sys.stdin:
        what, *numbers = line.split()
        ask = {"bulk": bulk, "echo": echo}[what]
        say(asyncio.run(ask(int(port), *map(int, numbers))))


async def bulk(port: int, streams: int, blocks: int) -> list[float]:
    """The seconds that it takes to receive so many blocks over so many connections in all."""

    async def receive(share: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(b"%d\n" % share)
        received = 0
        while data := await reader.read(1 << 20):
            received += len(data)
        writer.close()
        return received

    began = time.perf_counter()
    received = sum(await asyncio.gather(*(receive(blocks // streams) for _ in range(streams))))
    assert received == blocks // streams * streams * len(BLOCK)
    return [time.perf_counter() - began]


async def echo(port: int, messages: int) -> list[float]:
    """The seconds that each message takes until it is back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(b"0\n")
    times = []
    for _ in range(messages):
        began = time.perf_counter()
        writer.write(bytes(MESSAGE))
        await reader.readexactly(MESSAGE)
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    writer.close()
    return times


def say(what: object) -> None:
    """A line for whoever started this."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    part, *arguments = sys.argv[1:]
    if part == "load":
        load(*arguments)
    else:
        asyncio.run({"target": target, "hold": hold}[part](*arguments))
