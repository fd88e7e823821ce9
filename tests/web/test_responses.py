"""What clients are told of sessions, and what never."""

import asyncio
import logging
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.replies import refusal
from tests.site import Launch
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ws://${host}:${port}/ws", r"ws://127\.0\.0\.1:[0-9]+/ws"),
        ("${ws_scheme}://${request_host}/p?i=${id}", r"ws://portal.example.org:81/p\?i={id}"),
        ("ws://${request_hostname}:9/", "ws://portal.example.org:9/"),
        ("ws://USE_HOST/${id}", "ws://USE_HOST/{id}"),
        ("ws://USE_HOSTNAME:${port}/", r"ws://USE_HOSTNAME:[0-9]+/"),
        ("ws://${unknown}/$id/$$/$", r"ws://\$\{unknown\}/{id}/\$/\$"),
    ],
)
async def test_the_session_url_is_filled_in(launcher: Launch, given: str, expected: str) -> None:
    async with launcher(server={"session_url": given}) as api:
        reply = await api.post({"application": "cone"}, headers={"Host": "portal.example.org:81"})
        body = reply.json()
        assert re.fullmatch(expected.replace("{id}", body["id"]), body["sessionURL"])


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("portal.example.org", "portal.example.org"),
        ("localhost:8443", "localhost:8443"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
    ],
)
async def test_a_client_is_told_the_name_that_it_came_by(
    shared_api: Any, host: str, shown: str
) -> None:
    assert (await _came_by(shared_api, host)).json()["sessionURL"].startswith(f"ws://{shown}/proxy")


@pytest.mark.parametrize(
    "host",
    [
        'evil"><script>',
        "user:password@evil",
        "evil/path",
        "evil evil",
        "evil?x=1",
        "evil#",
        "evil:port",
        "[",
        "[evil]:80",
        "",
        "\xe9vil",
        "$" + "{id}",
    ],
)
async def test_a_host_header_that_is_no_host_gets_nowhere(shared_api: Any, host: str) -> None:
    assert (await _came_by(shared_api, host)).status_code == 421


async def _came_by(api: Any, host: str) -> httpx.Response:
    app = _with_server(api.client._transport.app, ("127.0.0.1", 4711))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        headers = {b"Host": host.encode("latin-1")}
        return await client.post("/paraview", json={"application": "cone"}, headers=headers)


def _with_server(app: Any, server: tuple[str, int]) -> Any:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": server}, receive, send)

    return wrapped


async def test_configured_fields_are_added(launcher: Launch) -> None:
    fields = ["cluster", "host", "port", "job_id", "state"]
    async with launcher(server={"fields": fields}) as api:
        body = (await api.post({"application": "cone", "host": "evil", "port": 1})).json()
        assert (body["cluster"], body["host"], body["state"]) == ("here", "localhost", "ready")
        assert body["port"] > 1024
        assert body["job_id"] == "1"


async def test_a_launch_that_need_not_wait_is_answered_at_once(launcher: Launch) -> None:
    async with launcher() as api:
        reply = await api.post(
            {"application": "cone"}, headers={"Prefer": "wait=10, Respond-Async"}
        )
        assert reply.status_code == 202
        body = reply.json()
        assert body["application"] == "cone"
        assert body["state"] in ("submitting", "queued", "starting")
        assert "sessionURL" not in body
        path = f"/paraview/{body['id']}"

        async def ready() -> Any:
            now = (await api.client.get(path)).json()
            return now if now["state"] == "ready" else None

        now = await until(ready, "the session")
        assert body["id"] in now["sessionURL"]
        assert list(now["times"]) == ["submitting", "queued", "starting", "ready"]
        assert sorted(now["times"].values()) == list(now["times"].values())
        assert now["job_id"] == "1"


async def test_sessions_are_known_after_they_ended(launcher: Launch) -> None:
    async with launcher() as api:
        session_id = (await api.post({"application": "cone"})).json()["id"]
        path = f"/paraview/{session_id}"
        assert (await api.client.get(path)).json()["state"] == "ready"
        assert (await api.client.delete(path)).status_code == 200
        assert "has ended" in refusal(await api.client.delete(path), 404)

        async def ended() -> Any:
            now = (await api.client.get(path)).json()
            return now if now["state"] == "ended" else None

        now = await until(ended, "the session's end")
        assert now["reason"] == "stopped"
        assert "error" not in now
        assert "sessionURL" not in now
        await until(lambda: api.sessions.session(session_id) is None, "the session's clean-up")
        assert (await api.client.get(path)).json()["reason"] == "stopped"
        refusal(await api.client.delete(path), 404)


async def test_a_failed_session_says_why_and_nothing_more(launcher: Launch) -> None:
    async with launcher() as api:
        begun = await api.post({"application": "crash"}, headers={"Prefer": "respond-async"})
        session_id = begun.json()["id"]
        await api.sessions.session(session_id).settled.wait()
        reply = await api.client.get(f"/paraview/{session_id}")
        assert reply.status_code == 200
        body = reply.json()
        assert (body["state"], body["reason"], body["exit_status"]) == ("ended", "failed", 7)
        assert "cannot open display: mist" in body["error"]
        assert begun.json()["secret"] not in reply.text


async def test_no_secret_is_told_twice(launcher: Launch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hpcbridge")
    async with launcher() as api:
        body = (await api.post({"application": "cone"})).json()
        path = f"/paraview/{body['id']}"
        later = [await api.client.get(path), await api.client.delete(path)]
    assert len(body["secret"]) >= 32
    assert not any(body["secret"] in each.text for each in later)
    assert body["secret"] not in caplog.text


async def test_ids_and_secrets_differ_and_fit_everywhere(launcher: Launch) -> None:
    async with launcher(clusters={"here": {"slots": 1}}) as api:
        launches = [
            (await api.post({"application": "cone"}, headers={"Prefer": "respond-async"})).json()
            for _ in range(6)
        ]
    assert len({each["id"] for each in launches} | {each["secret"] for each in launches}) == 12
    assert all(re.fullmatch("[A-Za-z0-9_-]{32,64}", each["id"]) for each in launches)


@pytest.mark.parametrize("prefer", ["", "respond-async"])
async def test_what_only_the_service_can_know_never_comes_from_the_client(
    shared_api: Any, prefer: str
) -> None:
    """Neither in 200 nor in 202: what is not known yet is left out."""
    document = (await shared_api.client.get("/openapi.json")).json()["components"]["schemas"]
    models = ("LaunchReply", "SessionReply", "ErrorReply")
    ours = {key for model in models for key in document[model]["properties"]} - {"application"}
    assert {"id", "secret", "sessionURL", "error", "cluster", "host", "state", "job_id"} <= ours
    posted = {"application": "cone", **dict.fromkeys(ours | {"port"}, "mine"), "other": "theirs"}
    reply = await shared_api.post(posted, headers={"Prefer": prefer})
    assert reply.status_code == (202 if prefer else 200)
    body = reply.json()
    assert "mine" not in body.values()
    assert (body["application"], body["other"]) == ("cone", "theirs")


async def test_a_parameter_may_have_the_name_of_a_key_of_the_reply(launcher: Launch) -> None:
    parameters = {key: {"type": "str"} for key in ("host", "port", "queue")}
    posted = dict.fromkeys(parameters, "mine")
    async with launcher(applications={"cone": {"parameters": parameters}}) as api:
        reply = await api.post({"application": "cone"} | posted)
        assert reply.status_code == 200, reply.text
        assert "mine" not in reply.json().values()
        assert (await api.row(reply.json()["id"])).parameters == posted


async def test_what_passes_through_the_tunnel_is_told(launcher: Launch) -> None:
    ends = {"session_url": "ws://${host}:${port}/ws"}
    async with launcher(server=ends) as api:
        session = (await api.post({"application": "cone"})).json()
        before = (await api.client.get(f"/paraview/{session['id']}")).json()["traffic"]
        assert before["connections"] == before["bytes_in"] == before["reconnects"] == 0
        assert "round_trip" not in before  # its job runs on this machine
        local = urlsplit(session["sessionURL"])
        _, writer = await asyncio.open_connection(local.hostname, local.port)
        writer.write(b"x" * 1000)

        async def counted() -> bool:
            told = (await api.client.get(f"/paraview/{session['id']}")).json()["traffic"]
            return bool(told["bytes_in"] == 1000)

        await until(counted)
        writer.close()
