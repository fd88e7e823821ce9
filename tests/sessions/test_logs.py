"""What applications print: read while they run, kept when they have ended, for their owner only."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcbridge.config.logs import LogSettings
from hpcbridge.errors import ClusterUnreachable, ConfigError
from hpcbridge.sessions.logs import CHUNK, LogPart, Logs
from hpcbridge.store import SessionRow
from hpcbridge.transports.local import LocalTransport
from tests.waiting import until

CHATTY = """#!/usr/bin/env python3
import json, os, pathlib, socket, sys
secret = pathlib.Path(os.environ["HPCBRIDGE_DIRECTORY"], "secret").read_text()
print("my secret is", secret, flush=True)
listener = socket.create_server(("127.0.0.1", int(os.environ["HPCBRIDGE_PORT"])))
print("Starting factory", flush=True)
while True:
    listener.accept()[0].close()
    print("somebody was here \\x1b[31m", flush=True)
"""


@pytest.fixture
def chatty(site: Any) -> dict[str, Any]:
    return {
        "chatty": {
            "cluster": "here",
            "template": "command.sh",
            "properties": {"program": site.program("chatty", CHATTY)},
        }
    }


async def read(api: Any, session_id: str, offset: int = 0, **more: Any) -> tuple[bytes, int, bool]:
    reply = await api.client.get(f"/paraview/{session_id}/log", params={"offset": offset, **more})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    next_offset = int(reply.headers["x-log-next"])
    assert next_offset == offset + len(reply.content)
    return reply.content, next_offset, reply.headers["x-log-ended"] == "true"


async def test_output_can_be_followed_and_stays_when_the_session_has_ended(
    launcher: Callable[..., Any], chatty: dict[str, Any]
) -> None:
    async with launcher(applications=chatty) as api:
        launched = (await api.post({"application": "chatty"})).json()
        seen, where, ended = await read(api, launched["id"])
        assert b"Starting factory" in seen
        assert not ended
        assert launched["secret"].encode() not in seen
        assert b"*" * len(launched["secret"]) in seen

        host, _, port = api.sessions.session(launched["id"]).endpoint.address.rpartition(":")
        socket.create_connection((host, int(port))).close()

        async def more() -> bytes:
            return (await read(api, launched["id"], where))[0]

        await until(more, "what it printed when somebody came")
        assert (await api.client.delete(f"/paraview/{launched['id']}")).status_code == 200
        session = api.sessions.session(launched["id"])
        await until(lambda: session.row.job_ended)
        kept, _, ended = await read(api, launched["id"])
        assert ended
        assert kept.startswith(seen)
        assert launched["secret"].encode() not in kept
        (file,) = api.settings.log_dir.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_a_part_never_cuts_the_secret_in_two(
    launcher: Callable[..., Any], chatty: dict[str, Any]
) -> None:
    async with launcher(applications=chatty) as api:
        launched = (await api.post({"application": "chatty"})).json()
        whole, offset = b"", 0
        for _ in range(80):
            data, offset, _ = await read(api, launched["id"], offset, limit=7)
            whole += data
        assert launched["secret"].encode() not in whole
        assert b"my secret is ***" in whole


async def test_of_a_session_that_was_never_there_there_is_no_output(
    launcher: Callable[..., Any],
) -> None:
    async with launcher() as api:
        for name in ("0" * 40, "..", "%2e%2e%2fdatabase"):
            reply = await api.client.get(f"/paraview/{name}/log")
            assert reply.status_code == 404
        reply = await api.client.get(f"/paraview/{'0' * 40}/log", params={"offset": -1})
        assert reply.status_code == 400


async def test_nothing_is_kept_where_the_site_wants_nothing_kept(
    launcher: Callable[..., Any], chatty: dict[str, Any]
) -> None:
    async with launcher(applications=chatty, logs={"keep": 0}) as api:
        launched = (await api.post({"application": "chatty"})).json()
        assert b"Starting" in (await read(api, launched["id"]))[0]
        session = api.sessions.session(launched["id"])
        await api.client.delete(f"/paraview/{launched['id']}")
        await until(lambda: session.row.job_ended)
        await until(lambda: api.sessions.session(launched["id"]) is None)
        assert (await api.client.get(f"/paraview/{launched['id']}/log")).status_code == 404
        assert not api.settings.log_dir.exists()


NAME = f"hpcb-01234567-{'a' * 24}"


def a_row(directory: Path) -> SessionRow:
    return SessionRow(
        id="a" * 40, application="a", cluster="c", job_name=NAME, directory=str(directory)
    )


class HereCluster:
    transport = LocalTransport()


async def test_of_a_long_output_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    with (session / "output.log").open("wb") as file:
        file.write(b"the beginning\n")
        file.truncate(3 * 2**30)  # takes no room: a hole
        file.seek(0, 2)
        file.write(b"\nthe end")
    logs = Logs(tmp_path / "logs", LogSettings(session_limit=1))
    logs.prepare()
    await logs.keep(HereCluster(), a_row(session), None)  # type: ignore[arg-type]
    kept = (tmp_path / f"logs/{NAME}.log").read_bytes()
    assert kept.startswith(b"the beginning\n")
    assert kept.endswith(b"\nthe end")
    assert b"bytes are left out here" in kept
    assert len(kept) < 1.1 * 2**20


async def test_where_nobody_knows_the_secret_all_that_could_be_one_is_blotted_out(
    tmp_path: Path,
) -> None:
    """The service that ended the session was killed before it copied the output."""
    session = tmp_path / "session"
    session.mkdir()
    secret, checksum, other = "0123456789ab" * 4, "ab" * 32, "c0ffee" * 7 + "c0f"
    parts = ["x" * (CHUNK - 20), secret, f"\n{checksum} {other} ", "y" * (CHUNK - 99), secret]
    (session / "output.log").write_text("".join(parts))
    logs = Logs(tmp_path / "logs", LogSettings())
    logs.prepare()
    await logs.keep(HereCluster(), a_row(session), None)  # type: ignore[arg-type]
    kept = (tmp_path / f"logs/{NAME}.log").read_text()
    expected = "".join(parts).replace(secret, "*" * 48).replace(checksum, "*" * 64)
    assert kept == expected
    assert other in kept


@pytest.mark.parametrize("over", [-1, 0, 1, 1000])
async def test_what_is_kept_has_no_byte_more_or_less_than_the_limit_says(
    tmp_path: Path, over: int
) -> None:
    session, whole = tmp_path / "session", 2**20
    session.mkdir()
    printed = (bytes(range(251)) * 4200)[: whole + over]
    (session / "output.log").write_bytes(printed)
    logs = Logs(tmp_path / "logs", LogSettings(session_limit=1))
    logs.prepare()
    await logs.keep(HereCluster(), a_row(session), None)  # type: ignore[arg-type]
    kept = (tmp_path / f"logs/{NAME}.log").read_bytes()
    if over <= 0:
        assert kept == printed
    else:
        half, cut = whole // 2, b"\n[... %d bytes are left out here ...]\n" % over
        assert kept == printed[:half] + cut + printed[-half:]


async def test_a_link_in_the_place_of_the_output_is_not_followed(tmp_path: Path) -> None:
    session, other = tmp_path / "session", tmp_path / "database"
    session.mkdir()
    other.write_text("all secrets")
    (session / "output.log").symlink_to(other)
    logs = Logs(tmp_path / "logs", LogSettings())
    logs.prepare()
    await logs.keep(HereCluster(), a_row(session), None)  # type: ignore[arg-type]
    assert not list((tmp_path / "logs").iterdir())


async def test_kept_output_is_read_in_parts_until_its_end(tmp_path: Path) -> None:
    row, logs = a_row(tmp_path), Logs(tmp_path, LogSettings())
    assert await logs.kept(row, 0, 10) is None
    (tmp_path / f"{NAME}.log").write_bytes(b"0123456789")
    parts = [await logs.kept(row, offset, 4) for offset in (0, 4, 6, 8, 10, 99)]
    assert [part and (part.data, part.next, part.more, part.ended) for part in parts] == [
        (b"0123", 4, True, True),
        (b"4567", 8, True, True),
        (b"6789", 10, False, True),
        (b"89", 10, False, True),
        (b"", 10, False, True),
        (b"", 99, False, True),
    ]


async def test_living_output_says_whether_there_may_be_more(tmp_path: Path) -> None:
    row, logs = a_row(tmp_path), Logs(tmp_path, LogSettings())
    row.secret = "34"
    (tmp_path / "output.log").write_bytes(b"0123456789")
    cluster: Any = HereCluster()
    parts = [await logs.live(cluster, row, offset, 4) for offset in (0, 4, 8, 10)]
    assert [(part.data, part.more, part.ended) for part in parts] == [
        (b"012*", True, False),
        (b"*567", True, False),
        (b"89", False, False),
        (b"", False, False),
    ]
    row.directory = ""
    assert await logs.live(cluster, row, 0, 4) == LogPart(b"", 0, more=False, ended=False)


async def test_of_output_that_became_shorter_while_it_was_copied_the_rest_is_kept(
    tmp_path: Path,
) -> None:
    class Shrinking(LocalTransport):
        async def read(self, wanted: Any) -> Any:
            (tmp_path / "output.log").write_bytes(b"01234")
            if wanted[0].limit > 1:
                return await super().read(wanted)
            return [b"x" if wanted[0].offset < 10 else b""]  # so long it was

    cluster = SimpleNamespace(transport=Shrinking())
    logs = Logs(tmp_path / "logs", LogSettings())
    logs.prepare()
    await logs.keep(cluster, a_row(tmp_path), None)  # type: ignore[arg-type]
    assert (tmp_path / f"logs/{NAME}.log").read_bytes() == b"01234"


def test_a_directory_of_logs_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    logs = Logs(tmp_path / "file/logs", LogSettings())
    with pytest.raises(ConfigError, match=r"logs\.directory: .*/logs cannot be prepared"):
        logs.prepare()


async def test_nothing_is_kept_of_a_session_that_printed_nothing_or_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(LocalTransport):
        async def read(self, wanted: Any) -> Any:
            raise ClusterUnreachable("The login host does not answer.")

    cluster: Any = SimpleNamespace(transport=LocalTransport())
    logs = Logs(tmp_path / "logs", LogSettings())
    logs.prepare()
    await logs.keep(cluster, a_row(tmp_path), None)
    (tmp_path / "output.log").touch()
    await logs.keep(cluster, a_row(tmp_path), None)
    assert caplog.records == []
    cluster.transport = Silent()
    await logs.keep(cluster, a_row(tmp_path), None)
    assert "its output is not kept: The login host does not answer." in caplog.text
    assert list((tmp_path / "logs").iterdir()) == []


async def test_what_is_old_or_too_much_is_removed(tmp_path: Path) -> None:
    logs = Logs(tmp_path, LogSettings(total_limit=1, keep=1000))
    for number, (age, size) in enumerate([(5000, 10), (300, 700_000), (200, 600_000), (100, 10)]):
        path = tmp_path / f"hpcb-01234567-{number:024x}.log"
        path.write_bytes(b"x" * size)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    await logs.prune()
    other = tmp_path / "nginx-access.log"
    other.write_text("somebody else's")
    os.utime(other, (0, 0))
    await logs.prune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"hpcb-01234567-{number:024x}.log" for number in (2, 3)),
        other.name,
    ]
    await Logs(tmp_path, LogSettings(keep=0)).prune()
    assert len(list(tmp_path.iterdir())) == 3
