"""Files that users send: whole or not at all, under safe names, in no place but their own."""

import asyncio
import os
import resource
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge.errors import ConfigError
from hpcbridge.files import uploads as files
from hpcbridge.sessions import uploads as receiving
from tests.replies import refusal
from tests.site import Launch, Service, Site
from tests.usersite import audited, auth, client, named
from tests.waiting import until

MIB = 2**20
BAD_NAMES = [
    *("..", ".", ".hidden", "..%2f..%2fetc%2fpasswd", "%2e%2e%2fx", "a/b", "%2fetc%2fx", "a/../b"),
    *("-rf", "--output=x", "a%0ab", "a%0a", "%0aa", "a%00b", "a%09b", "a%5cb", "%20a", "a%20"),
    *("x" * 129, "x" * 300, "gr%C3%B6%C3%9Fe", "%FF", "a%3Bb", "%24%28id%29", "a%22b", "a:b"),
    "%e2%80%8b",
]


@pytest.fixture
def folder(site: Site) -> Path:
    return site.root / "uploads"


@pytest.fixture
def on(folder: Path) -> dict[str, Any]:
    """The section, with limits that tests reach."""
    return {"directory": str(folder), "file_limit": 2, "total_limit": 5, "count_limit": 4}


async def put(http: httpx.AsyncClient, name: str, content: Any, **more: Any) -> httpx.Response:
    return await http.put(f"/paraview/uploads/{name}", content=content, **more)


async def listed(http: httpx.AsyncClient) -> dict[str, int]:
    reply = await http.get("/paraview/uploads")
    assert reply.status_code == 200, reply.text
    return {each["name"]: each["size"] for each in reply.json()["files"]}


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose length nobody is told."""
    for _ in range(size // 65536):
        yield b"x" * 65536


async def test_a_file_is_put_in_place_listed_and_deleted(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    async with launcher(uploads=on, server={"max_body": 1000}) as api:
        content = os.urandom(MIB + 77)
        reply = await put(api.client, "My data_1.vtu", content)
        assert reply.status_code == 201, reply.text
        assert reply.json()["size"] == len(content)
        assert abs(reply.json()["modified"] - time.time()) < 60
        assert reply.headers["cache-control"] == "no-store"
        (file,) = folder.iterdir()
        assert file.name == "My data_1.vtu"
        assert file.read_bytes() == content
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        whole = (await api.client.get("/paraview/uploads")).json()
        assert whole["file_limit"] == 2 * MIB
        assert await listed(api.client) == {"My data_1.vtu": len(content)}
        assert (await put(api.client, "empty", b"")).json()["size"] == 0
        assert (await api.client.delete("/paraview/uploads/My data_1.vtu")).status_code == 200
        assert await listed(api.client) == {"empty": 0}
        refusal(await api.client.delete("/paraview/uploads/My data_1.vtu"), 404)


async def test_a_file_is_replaced_only_where_that_is_asked_for(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    async with launcher(uploads=on) as api:
        await put(api.client, "a.vtu", b"old")
        said = refusal(await put(api.client, "a.vtu", b"new"), 409)
        assert "There is a file 'a.vtu' already" in said
        assert "?replace=true" in said
        assert (folder / "a.vtu").read_bytes() == b"old"
        reply = await put(api.client, "a.vtu", b"new", params={"replace": "true"})
        assert reply.status_code == 200
        assert (folder / "a.vtu").read_bytes() == b"new"
        assert len(list(folder.iterdir())) == 1


async def test_of_two_at_once_with_one_name_the_second_replaces_nothing(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"slow"
        begun.set()
        await go.wait()

    async with launcher(uploads=on) as api:
        first = asyncio.create_task(put(api.client, "a", slow()))
        await begun.wait()
        assert (await put(api.client, "a", b"quick")).status_code == 201
        go.set()
        refusal(await first, 409)
        assert [each.read_bytes() for each in folder.iterdir()] == [b"quick"]


@pytest.mark.parametrize("sized", [True, False])
async def test_a_file_over_its_limit_is_refused_and_leaves_nothing(
    launcher: Launch, on: dict[str, Any], folder: Path, sized: bool
) -> None:
    async with launcher(uploads=on) as api:
        content = b"x" * (2 * MIB + 1) if sized else pieces(3 * MIB)
        said = refusal(await put(api.client, "big", content), 413)
        assert said == "'big' is larger than 2 MiB."
        assert not list(folder.iterdir())
        assert (await put(api.client, "fits", b"x" * (2 * MIB))).status_code == 201


@pytest.mark.parametrize("sized", [True, False])
async def test_all_files_together_have_a_limit(
    launcher: Launch, on: dict[str, Any], sized: bool
) -> None:
    async with launcher(uploads=on) as api:
        for name in "ab":
            assert (await put(api.client, name, b"x" * (2 * MIB))).status_code == 201
        content = b"x" * (2 * MIB) if sized else pieces(2 * MIB)
        assert "Delete some files first" in refusal(await put(api.client, "c", content), 507)
        # What is replaced does not count.
        reply = await put(api.client, "a", b"y" * (2 * MIB), params={"replace": "true"})
        assert reply.status_code == 200
        assert (await put(api.client, "c", b"x" * MIB)).status_code == 201
        assert (await put(api.client, "d", b"")).status_code == 201
        assert "4 files already" in refusal(await put(api.client, "e", b""), 507)


async def test_a_disk_without_room_is_told_before_anything_is_read(
    launcher: Launch, on: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(handle: int) -> os.statvfs_result:
        asked.append(handle)
        return os.statvfs_result((4096, 4096, 1000, 5, 1, 0, 0, 0, 0, 255))

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with launcher(uploads=on) as api:
        monkeypatch.setattr(files.os, "statvfs", full)
        length = {"Content-Length": "4097"}
        said = refusal(await put(api.client, "a", unread(), headers=length), 507)
        assert "disk for uploads is full" in said
        assert asked
        assert not list(folder.iterdir())
        assert (await put(api.client, "a", b"x" * 4096)).status_code == 201


async def test_a_disk_that_becomes_full_in_the_middle_leaves_nothing(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    async with launcher(uploads=on) as api:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + 4096, hard))
        try:
            reply = await put(api.client, "a", pieces(2 * MIB))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "disk for uploads is full" in refusal(reply, 507)
        assert not list(folder.iterdir())
        assert await listed(api.client) == {}


async def test_who_sends_nothing_is_not_waited_for(
    launcher: Launch, on: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PAUSE", 0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with launcher(uploads=on) as api:
        assert "Nothing of 'a' came" in refusal(await put(api.client, "a", silent()), 400)
        assert not list(folder.iterdir())


async def test_there_are_only_so_many_uploads_at_once(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        await go.wait()

    async with launcher(uploads=on) as api:
        many = [asyncio.create_task(put(api.client, f"f{each}", slow())) for each in range(4)]
        await until(lambda: folder.exists() and len(list(folder.iterdir())) == 4)
        assert "4 uploads" in refusal(await put(api.client, "g", b""), 503)
        assert await listed(api.client) == {}
        go.set()
        assert [(await each).status_code for each in many] == [201] * 4
        assert set(await listed(api.client)) == {"f0", "f1", "f2", "f3"}


async def test_uploads_at_once_never_have_more_than_the_limit_on_the_disk(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    sent, go = [0] * 4, asyncio.Event()

    async def content(number: int) -> AsyncIterator[bytes]:
        async for piece in pieces(2 * MIB):
            yield piece
        sent[number] = 1
        await go.wait()

    async with launcher(uploads=on) as api:
        work = [asyncio.create_task(put(api.client, f"f{n}", content(n))) for n in range(4)]

        async def all_tried() -> bool:
            return all(there or task.done() for there, task in zip(sent, work, strict=True))

        await until(all_tried, "all that the four can send")
        assert sum(each.stat().st_size for each in folder.iterdir()) <= 5 * MIB
        go.set()
        statuses = sorted(reply.status_code for reply in await asyncio.gather(*work))
        assert statuses in ([201, 201, 507, 507], [201, 507, 507, 507])
        assert sum((await listed(api.client)).values()) <= 5 * MIB


async def test_what_a_killed_service_left_is_removed_and_nothing_younger(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    async with launcher(uploads=on) as api:
        for name, age in ((".upload-old", 2 * files.STALE), (".upload-new", 0), (".mine", 10**6)):
            (folder / name).write_bytes(b"x")
            os.utime(folder / name, (time.time() - age,) * 2)
        await put(api.client, "a", b"x")
        assert {each.name for each in folder.iterdir()} == {".upload-new", ".mine", "a"}


async def test_links_and_folders_are_no_uploaded_files(
    launcher: Launch, on: dict[str, Any], folder: Path, site: Site
) -> None:
    secret = site.root / "secret"
    secret.write_text("secret")
    async with launcher(uploads=on) as api:
        (folder / "link").symlink_to(secret)
        (folder / "folder").mkdir()
        os.mkfifo(folder / "pipe")
        assert await listed(api.client) == {}
        for name in ("link", "folder", "pipe"):
            reply = await put(api.client, name, b"mine", params={"replace": "true"})
            assert "taken by something" in refusal(reply, 409)
            refusal(await api.client.delete(f"/paraview/uploads/{name}"), 404)
        assert secret.read_text() == "secret"
        assert (folder / "link").is_symlink()


async def test_without_a_directory_nothing_is_received(launcher: Launch) -> None:
    async with launcher() as api:
        assert (await put(api.client, "a", b"x")).status_code in (404, 405)
        refusal(await api.client.get("/paraview/uploads"), 404)
        assert 'id="files"' not in (await api.client.get("/")).text


async def test_each_user_has_a_folder_of_their_own(launcher: Launch, site: Site) -> None:
    uploads = {"directory": str(site.root / "uploads/{user}/in")}
    async with launcher(auth=auth(site), uploads=uploads) as api:
        async with client(api, named("alice")) as alice, client(api, named("bob")) as bob:
            assert (await put(alice, "a.vtu", b"alice's")).status_code == 201
            assert (await put(bob, "a.vtu", b"bob's")).status_code == 201
            assert (await put(bob, "b.vtu", b"")).status_code == 201
            assert set(await listed(alice)) == {"a.vtu"}
            refusal(await alice.delete("/paraview/uploads/b.vtu"), 404)
        assert (site.root / "uploads/alice/in/a.vtu").read_bytes() == b"alice's"
        for each in ("alice", "alice/in", "bob"):
            assert stat.S_IMODE((site.root / "uploads" / each).stat().st_mode) == 0o700
        refusal(await put(api.client, "a", b""), 401)
    lines = [line for line in audited(site) if line["what"] == "upload"]
    assert [(each["user"], each["file"], each["size"]) for each in lines] == [
        ("alice", "a.vtu", 7),
        ("bob", "a.vtu", 5),
        ("bob", "b.vtu", 0),
    ]


async def test_a_users_folder_that_leads_elsewhere_is_not_used(
    launcher: Launch, site: Site
) -> None:
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    (site.root / "uploads").mkdir(mode=0o700)
    (site.root / "uploads/alice").symlink_to(elsewhere)
    (site.root / "uploads/bob").mkdir()
    (site.root / "uploads/bob").chmod(0o777)
    uploads = {"directory": str(site.root / "uploads/{user}")}
    async with launcher(auth=auth(site), uploads=uploads) as api:
        for user in ("alice", "bob"):
            async with client(api, named(user)) as http:
                said = refusal(await put(http, "a", b"x"), 500)
                assert "service's log says why" in said
    assert not list(elsewhere.iterdir())


async def test_a_page_of_another_site_uploads_nothing(
    launcher: Launch, on: dict[str, Any], folder: Path
) -> None:
    async with launcher(uploads=on) as api:
        foreign = {"Origin": "http://evil.example.org"}
        refusal(await put(api.client, "a", b"x", headers=foreign), 403)
        await put(api.client, "b", b"x")
        refusal(await api.client.delete("/paraview/uploads/b", headers=foreign), 403)
        assert [each.name for each in folder.iterdir()] == ["b"]


async def test_an_application_gets_the_path_of_an_uploaded_file(
    launcher: Launch, on: dict[str, Any], folder: Path, site: Site
) -> None:
    parameters = {"file": {"type": "str", "upload": True, "default": ""}}
    apps = {"tuned": {"parameters": parameters}}
    async with launcher(uploads=on, applications=apps) as api:
        await put(api.client, "My data.vtu", b"x")
        reply = await api.post({"application": "tuned", "file": "My data.vtu"})
        assert reply.status_code == 200, reply.text
        assert f"--file={folder}/My data.vtu" in site.logs()
        assert reply.json()["file"] == "My data.vtu"
        for name in ("other.vtu", "/etc/passwd", "../secret", "../uploads/My data.vtu"):
            said = refusal(await api.post({"application": "tuned", "file": name}), 400)
            assert "'file' must be the name of a file that you uploaded" in said
        page = (await api.client.get("/")).text
        assert "data-uploads" in page
        assert 'id="files"' in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uploads": {"directory": "/x/{user}"}}, "{user} needs users"),
        ({"uploads": {"directory": "/x/{name}"}}, "must stand once"),
        ({"uploads": {"directory": "/x/a{user}"}}, "must stand once"),
        ({"uploads": {"directory": "/x/{user}/{user}"}}, "must stand once"),
        ({"uploads": {"file_limit": 0}}, "uploads.file_limit"),
        ({"applications": {"tuned": {"parameters": {"file": {"upload": True}}}}}, "no default"),
        (
            {"applications": {"cone": {"parameters": {"f": {"type": "str", "upload": True}}}}},
            "applications.cone.parameters.f.upload: nothing receives files",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(
    site: Site, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said.replace("{", r"\{").replace(".", r"\.")):
        site.settings(**changes)


def test_with_users_their_files_are_kept_apart(site: Site) -> None:
    with pytest.raises(ConfigError, match="with users each needs a folder"):
        site.settings(auth=auth(site), uploads={"directory": str(site.root / "uploads")})


async def test_a_directory_that_others_may_write_to_stops_the_start(
    launcher: Launch, folder: Path, on: dict[str, Any]
) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match=r"uploads\.directory: others could replace"):
        async with launcher(uploads=on):
            pass
    folder.rmdir()
    folder.write_text("a file")
    with pytest.raises(ConfigError, match=r"uploads\.directory: .* cannot be used"):
        async with launcher(uploads=on):
            pass


@pytest.fixture
def service(site: Site, serve: Callable[..., Service], on: dict[str, Any]) -> Service:
    site.write(uploads=on)
    return serve("--end-sessions")


@pytest.fixture
def wire(service: Service) -> Iterator[socket.socket]:
    """A client that says what it likes."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as found:
        yield found


def head(name: str, *lines: str) -> bytes:
    said = [f"PUT /paraview/uploads/{name} HTTP/1.1", "Host: localhost", *lines]
    return "\r\n".join([*said, "", ""]).encode()


def test_a_name_that_could_mean_something_else_is_refused_with_the_rule(
    service: Service, folder: Path
) -> None:
    """Written as it is: HTTP libraries resolve dots themselves."""
    url = httpx.URL(service.url)

    def said(name: str, method: bytes) -> bytes:
        with socket.create_connection((url.host, url.port or 80), timeout=60) as wire:
            lines = head(name, "Content-Length: 1", "Connection: close")
            wire.sendall(lines.replace(b"PUT", method, 1) + b"x")
            return answer(wire)

    for name in BAD_NAMES:
        reply = said(name, b"PUT")
        assert reply.startswith(b"HTTP/1.1 400 "), name
        assert b"1 to 128 of the letters" in reply, name
        assert b"cache-control: no-store" in reply, name
        assert said(name, b"DELETE").startswith(b"HTTP/1.1 404 "), name
    assert not list(folder.iterdir())
    assert said("x" * 128, b"PUT").startswith(b"HTTP/1.1 201 ")


def answer(wire: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data or not data.rstrip().endswith(b"}"):
        more = wire.recv(65536)
        if not more:
            break
        data += more
    return data


def test_ten_gigabytes_are_refused_by_their_length(wire: socket.socket, folder: Path) -> None:
    wire.sendall(head("big", f"Content-Length: {10 * 2**30}"))
    said = answer(wire)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 2 MiB" in said
    assert not list(folder.iterdir())


def test_who_asks_first_is_not_told_to_go_on_with_too_much(wire: socket.socket) -> None:
    """As curl does, which then sends nothing."""
    wire.sendall(head("big", f"Content-Length: {10 * 2**30}", "Expect: 100-continue"))
    assert answer(wire).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_over_the_limit_is_cut_off(wire: socket.socket, folder: Path) -> None:
    wire.sendall(head("big", "Transfer-Encoding: chunked"))
    for _ in range(3):
        wire.sendall(b"%x\r\n%s\r\n" % (MIB, b"x" * MIB))
    assert answer(wire).startswith(b"HTTP/1.1 413 ")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("how", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_an_upload_that_is_cut_in_the_middle_leaves_nothing(
    service: Service, wire: socket.socket, folder: Path, how: str
) -> None:
    body = b"x" * 400_000
    wire.sendall(head("cut", how) + (body if "Length" in how else b"61a80\r\n" + body + b"\r\n"))
    await until(lambda: len(list(folder.iterdir())) == 1, "it has begun")
    wire.close()
    await until(lambda: not list(folder.iterdir()), "nothing is left")
    async with service.client() as http:
        assert await listed(http) == {}
        assert (await put(http, "cut", b"whole")).status_code == 201


async def test_a_service_that_stops_leaves_no_half_a_file(
    service: Service, wire: socket.socket, folder: Path
) -> None:
    wire.sendall(head("cut", "Content-Length: 1000000") + b"x" * 1000)
    await until(lambda: len(list(folder.iterdir())) == 1, "it has begun")
    assert await asyncio.to_thread(service.stop) == 0
    assert not list(folder.iterdir())
