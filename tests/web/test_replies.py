"""What every reply has: the id of its request; errors as problem+json for whoever asks for it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpcbridge import requestid
from hpcbridge.web.replies import Problems, RequestIds
from tests.replies import refusal
from tests.site import Launch, Launcher, Service
from tests.usersite import audited, auth, client, named

PROBLEM = {"Accept": "application/problem+json"}
MADE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
async def api(launcher: Launch) -> AsyncIterator[Launcher]:
    async with launcher(applications={"mute": {"hold": 0.2, "wait": 60}}) as started:
        yield started


def problem(reply: Any, status: int) -> dict[str, Any]:
    """The members of a problem."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["vary"] == "Accept"
    assert int(reply.headers["content-length"]) == len(reply.content)
    said = reply.json()
    assert (said["type"], said["status"]) == ("about:blank", status)
    assert said["request_id"] == reply.headers["x-request-id"]
    assert "error" not in said
    return dict(said)


async def test_an_error_is_a_problem_for_who_asks_for_it(api: Launcher) -> None:
    for accept in ("application/problem+json", "text/html, application/Problem+JSON;q=0.5"):
        reply = await api.client.get("/paraview/x", headers={"Accept": accept})
        said = problem(reply, 404)
        assert said["title"] == "Not Found"
        assert said["detail"] == "There is no such session."
    for path, status in (("/paraview/x/y/z", 404), ("/nowhere", 404)):
        problem(await api.client.get(path, headers=PROBLEM), status)
    problem(await api.client.put("/paraview", headers=PROBLEM), 405)
    problem(await api.post({"application": "none"}, headers=PROBLEM), 400)
    large = await api.client.post("/paraview", content=b"x" * 10**6, headers=PROBLEM)
    problem(large, 413)
    problem(await api.client.get("/paraview/x", headers=PROBLEM | {"Host": "evil.test"}), 421)


async def test_what_else_an_error_tells_goes_with_it(api: Launcher) -> None:
    reply = await api.post({"application": "mute"}, headers=PROBLEM)
    said = problem(reply, 503)
    assert re.fullmatch("[0-9a-f]{40}", said["id"])
    assert {"state", "reason", "queue", "position"} <= set(said)
    assert "Send the same again" in said["detail"]
    assert reply.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/json", "application/problem+json;q=0", "", "x;y=,;;,"],
)
async def test_the_launcher_protocols_clients_read_what_they_always_read(
    api: Launcher, accept: str
) -> None:
    assert refusal(await api.client.get("/paraview/x", headers={"Accept": accept}), 404)


async def test_only_errors_are_rewritten(api: Launcher) -> None:
    posted = await api.post({"application": "cone", "error": "mine"}, headers=PROBLEM)
    assert posted.status_code == 200
    assert posted.headers["content-type"] == "application/json"
    await api.post({"application": "crash"})
    begun = await api.post({"application": "crash"}, headers={"Prefer": "respond-async"})
    path = f"/paraview/{begun.json()['id']}"
    events = await api.client.get(f"{path}/events", headers=PROBLEM)
    assert events.headers["content-type"].startswith("text/event-stream")
    ended = await api.client.get(path, headers=PROBLEM)
    assert (ended.status_code, ended.headers["content-type"]) == (200, "application/json")
    assert "mist" in ended.json()["error"]
    head = await api.client.head("/paraview/x", headers=PROBLEM)
    assert head.status_code == 405


async def test_who_is_not_known_is_told_how_to_log_in(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site)) as api, client(api, PROBLEM) as nobody:
        reply = await nobody.get("/paraview")
        problem(reply, 401)
        assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("status", [404, 499])
async def test_an_error_in_pieces_or_of_another_kind(status: int) -> None:
    """As an application below might send it."""

    async def ask(pieces: list[bytes], kind: bytes) -> tuple[dict[str, str], bytes]:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-type", kind)]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            for number, piece in enumerate(pieces):
                more = number < len(pieces) - 1
                await send({"type": "http.response.body", "body": piece, "more_body": more})

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"accept", b"application/problem+json")]
        scope = {"type": "http", "headers": headers, "state": {}}
        await RequestIds(Problems(app))(scope, None, send)  # type: ignore[arg-type]
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return told, b"".join(each["body"] for each in sent[1:])

    headers, body = await ask([b'{"err', b'or": "No."}'], b"application/json; charset=utf-8")
    assert json.loads(body)["detail"] == "No."
    for pieces, kind in (
        ([b"<p>", b"</p>"], b"text/html"),
        ([b"{", b"x"], b"application/json"),
        ([b"[1]"], b"application/json"),
        ([b'{"error": 1}'], b"application/json"),
        ([b""], b"application/json"),
        ([b"x" * 2**19] * 4, b"application/json"),
    ):
        headers, body = await ask(pieces, kind)
        assert headers["content-type"] == kind.decode()
        assert body == b"".join(pieces)


# -- the id of a request


async def test_a_reply_has_the_id_of_its_request_or_a_new_one(api: Launcher) -> None:
    path = "/paraview/applications"
    for given in ("8f0c", "b6a1c9d2-7f7a-4f55-9f57-0d5f5ee1c2ab", "A.b:c+/=@-1", "x" * 128):
        reply = await api.client.get(path, headers={"X-Request-ID": given})
        assert reply.headers.get_list("x-request-id") == [given]
    seen = set()
    for headers in (
        [],
        *([("X-Request-ID", odd)] for odd in ("", " ", "a b", "a\tb", "-x", "\u00e9", "x" * 129)),
        [("X-Request-ID", "one"), ("X-Request-ID", "two")],
        [("X-Request-ID", 'a"} {"forged": "b')],
    ):
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        reply = await api.client.get(path, headers=encoded)
        (made,) = reply.headers.get_list("x-request-id")
        assert MADE.fullmatch(made)
        seen.add(made)
    assert len(seen) == 10
    assert MADE.fullmatch((await api.client.get("/nowhere")).headers["x-request-id"])


async def test_the_audit_log_has_it(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site)) as api:
        headers = named("alice") | {"X-Request-ID": "req-1", "Prefer": "respond-async"}
        async with client(api, headers) as alice:
            await alice.post("/paraview", json={"application": "cone"})
    assert [each["request"] for each in audited(site)] == ["req-1"]


@pytest.mark.servers
@pytest.mark.parametrize("form", ["json", "text"])
def test_the_services_log_has_it(site: Any, serve: Any, form: str) -> None:
    """Of what is done for the request, and of nothing that is done later."""
    site.write(server={"log_format": form})
    service: Service = serve("--end-sessions")
    headers = {"X-Request-ID": "req-1", "Prefer": "respond-async"}
    begun = service.post({"application": "crash"}, headers=headers).json()
    with service.http.stream("GET", f"/paraview/{begun['id']}/events") as events:
        assert '"state": "ended"' in "".join(events.iter_text())
    service.post({"application": "crash"}, headers={"X-Request-ID": "req-2"})
    service.stop()
    if form == "json":
        told = [json.loads(line) for line in service.log.splitlines()]
        ids = [(each.get("request"), each.get("message", "")) for each in told]
    else:
        found = re.finditer(r": (?:\[(req-\d)\] )?(.*)", service.log)
        ids = [(each[1], each[2]) for each in found]
    assert [said for request, said in ids if request == "req-2" and "mist" in said]
    assert all("ended" not in said for request, said in ids if request == "req-1")


async def test_what_goes_on_after_the_answer_is_no_part_of_the_request() -> None:
    go, seen = asyncio.Event(), []

    async def work() -> None:
        seen.append(requestid.current())
        await go.wait()
        seen.append(requestid.current())

    with requestid.answering("one"):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        with requestid.answering("two"):
            assert requestid.current() == "two"
        assert requestid.current() == "one"
    assert requestid.current() is None
    go.set()
    await task
    assert seen == ["one", None]
