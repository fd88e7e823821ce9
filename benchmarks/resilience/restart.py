"""The service starts with a thousand ready sessions in its database."""

import asyncio
import contextlib
import functools
import hashlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Unavailable
from benchmarks.resilience import crowd
from benchmarks.resilience.outcome import Outcome, Part, below, none_of, told
from benchmarks.resilience.plan import Plan
from benchmarks.resilience.victim import Victim
from hpcbridge.schedulers.base import JobState
from hpcbridge.schedulers.local import processes
from hpcbridge.store import SessionRow, State, Store

NAME = "restart"
HOW = (
    "the database and the built-in batch runner's job files are written beforehand: ready "
    "sessions on this machine, whose jobs are all one sleeping process, and whose applications "
    "are listeners of the benchmark, each on a port of its own, that answer with their job's "
    "name. From the start of the process until the session map has a line for every session "
    "(published), and until each route has been answered by its own application (verified; a "
    "hundred requests at a time). Then `kill -9`, and again."
)
AIM = 5.0
LIMIT = 120.0


def measure(plan: Plan, folder: Path) -> Part:
    """Prepare, and start again and again."""
    keeper = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL)
    try:
        return asyncio.run(_measure(plan, folder, keeper.pid))
    finally:
        keeper.kill()
        keeper.wait()


async def _measure(plan: Plan, folder: Path, keeper: int) -> Part:
    victim = Victim(folder, _config(folder, plan.restart_sessions))
    local_ends = _free_ports(plan.restart_sessions)
    async with _applications(plan.restart_sessions) as ports:
        await _write(victim, ports, local_ends, keeper)
        found = []
        try:
            for _ in range(plan.rounds):
                found.append(await _start(victim, folder / "map", sorted(ports)))
                victim.kill()
            victim.start()
            await crowd.until_answering(victim, sorted(ports), time.monotonic())
            states = await crowd.states(victim, sorted(ports))
        finally:
            victim.kill()
    published, verified = (sorted(each) for each in zip(*found, strict=True))
    middle = len(found) // 2
    outcomes = [
        Outcome("ready sessions; starts", f"{len(ports)}; {plan.rounds}"),
        told("all published, median", published[middle]),
        told("all published, worst", published[-1]),
        below("all verified, median", verified[middle], AIM),
        below("all verified, worst", verified[-1], AIM),
        none_of("sessions not ready afterwards", len(ports) - states.get("ready", 0)),
    ]
    return Part(NAME, HOW, outcomes)


async def _start(victim: Victim, session_map: Path, sessions: list[str]) -> tuple[float, float]:
    session_map.unlink(missing_ok=True)
    began = time.monotonic()
    victim.spawn()
    while not session_map.exists() or session_map.read_bytes().count(b"\n") < len(sessions):
        if time.monotonic() - began > LIMIT or victim.ended():
            raise Unavailable(f"not all routes are published: {victim.said(500)}")
        await asyncio.sleep(0.02)
    published = time.monotonic() - began
    return published, max(await crowd.until_answering(victim, sessions, began))


@contextlib.asynccontextmanager
async def _applications(count: int) -> AsyncIterator[dict[str, int]]:
    """Listeners that answer with a job's name; session id -> port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        with contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}".encode())
            await writer.drain()
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        for _ in range(count):
            session_id = secrets.token_hex(20)
            name = _job_name(session_id)
            server = await asyncio.start_server(
                functools.partial(answer, name=name), "127.0.0.1", 0
            )
            stack.callback(server.close)
            ports[session_id] = server.sockets[0].getsockname()[1]
        yield ports


def _job_name(session_id: str) -> str:
    return f"hpcb-{hashlib.sha256(session_id.encode()).hexdigest()[:24]}"


async def _write(victim: Victim, ports: dict[str, int], ends: list[int], keeper: int) -> None:
    """The sessions and their jobs, as a service would have left them."""
    directory = victim.folder / "state/local/here"
    directory.mkdir(parents=True)
    directory.parent.parent.chmod(0o700)
    store = await Store.open(f"sqlite+aiosqlite:///{victim.database}")
    now = time.time()
    job = {"state": JobState.RUNNING, "boot": processes.boot_id(), "pid": keeper}
    job |= {"ticks": processes.start_ticks(keeper), "started": now, "walltime": None}
    try:
        for number, (session_id, port) in enumerate(ports.items(), 1):
            name = _job_name(session_id)
            paths = {"directory": str(directory / name), "script": str(directory / "none")}
            (directory / f"{number}.json").write_text(
                json.dumps(job | paths | {"job_id": number, "name": name})
            )
            times: dict[str, Any] = {
                f"{each}_at": now for each in ("submitting", "queued", "starting", "ready")
            }
            row = SessionRow(
                id=session_id,
                secret=secrets.token_hex(24),
                application="named",
                cluster="here",
                state=State.READY,
                message="Ready.",
                job_name=name,
                job_id=str(number),
                claimed=True,
                directory=paths["directory"],
                host="localhost",
                port=port,
                **times,
            )
            await store.add(row)
            await store.endpoints.put(session_id, f"127.0.0.1:{ends[number - 1]}")
    finally:
        await store.close()


def _free_ports(count: int) -> list[int]:
    """Ports that nothing uses now, for the local ends of the tunnels."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _config(folder: Path, slots: int) -> dict[str, Any]:
    application = {"cluster": "here", "template": "command.sh", "properties": {"program": "true"}}
    return {
        "clusters": {"here": {"scheduler": "local", "slots": slots}},
        "applications": {"named": application},
        "frontend": {"map_file": str(folder / "map")},
        "limits": {"sessions": slots},
    }
