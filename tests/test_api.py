"""The launcher API in this process, over sessions that really run."""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hpcbridge.clusters import queuestatus as outlooks
from hpcbridge.errors import StoreError
from hpcbridge.sessions.manager import Sessions
from tests.waiting import until

Launch = Callable[..., Any]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_api(shared_site: Any, start_launcher: Launch) -> AsyncIterator[Any]:
    """One for the tests that leave it as it was, or with a session more."""
    async with start_launcher(shared_site, clusters={"here": {"slots": 100}}) as api:
        yield api


async def ask(api: Any, content: str | bytes) -> httpx.Response:
    reply = await api.client.post("/paraview", content=content)
    assert isinstance(reply, httpx.Response)
    return reply


def refusal(reply: httpx.Response, status: int) -> str:
    """The error of a reply that has nothing else."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    assert "Traceback" not in body["error"]
    return str(body["error"])


# -- what is posted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"application": "cone"', "not JSON"),
        (b'{"application": "cone"} x', "not JSON"),
        (b"application=cone", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"application": "cone", "x": "\xff"}', "not JSON"),
        (b'{"application": "cone", "x": NaN}', "not JSON"),
        (b'{"application": "cone", "x": -Infinity}', "not JSON"),
        (b'{"application": "cone", "x": 1e999}', "not JSON"),
        (b'{"application": "cone", "x": "\\ud800"}', "not JSON"),
        (b'{"application": "cone", "\\udfff": 1}', "not JSON"),
        (b'{"application": "cone", "x": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'["application"]', "must be a JSON object"),
        (b'"application"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "not complete"),
        (b'{"application": null}', "not complete"),
        (b'{"application": 5}', "not complete"),
        (b'{"application": ["cone"]}', "not complete"),
        (b'{"application": {"cone": 1}}', "not complete"),
        (b'{"Application": "cone"}', "not complete"),
        (b'{"application": "cone", "application": 5}', "not complete"),
        (b'{"application": ""}', "no application ''. Applications: cone, "),
        (b'{"application": "Cone"}', "no application 'Cone'"),
        (b'{"application": "__class__"}', "no application"),
        (b'{"application": "cone\\u0000"}', "no application"),
        (b'{"application": "' + b"x" * 5000 + b'"}', f"no application '{'x' * 64}'."),
        (b'{"application": "tuned", "level": 10}', "'level' must be a whole number, at least 1"),
        (b'{"application": "tuned", "level": [1]}', "'level' must be"),
        (b'{"application": "tuned", "level": 1' + b"0" * 400 + b"}", "'level' must be"),
        (b'{"application": "tuned", "file": "a\\n#SBATCH --uid=0"}', "'file' must be a text"),
        (b'{"application": "tuned", "file": "a\\u0000"}', "'file' must be a text"),
    ],
)
async def test_a_wrong_request_is_refused_and_launches_nothing(
    shared_api: Any, content: bytes, said: str
) -> None:
    before = {session.row.id for session in shared_api.sessions.registry.sessions}
    assert said in refusal(await ask(shared_api, content), 400)
    assert {session.row.id for session in shared_api.sessions.registry.sessions} <= before


@pytest.mark.parametrize("depth", [65, 500, 950, 965, 980, 995, 1010, 10_000])
@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"a":', "}")])
async def test_nesting_that_could_not_be_sent_back_is_refused(
    shared_api: Any, opening: str, closing: str, depth: int
) -> None:
    before = {session.row.id for session in shared_api.sessions.registry.sessions}
    nested = opening * depth + "1" + closing * depth
    said = refusal(await ask(shared_api, f'{{"application":"cone","x":{nested}}}'), 400)
    assert "nested too deeply" in said
    assert {session.row.id for session in shared_api.sessions.registry.sessions} <= before


async def test_a_large_request_is_refused(launcher: Launch) -> None:
    async with launcher(server={"max_body": 1000}) as api:
        fits = json.dumps({"application": "nosuch", "x": "y" * 900})
        refusal(await ask(api, fits), 400)
        said = refusal(await ask(api, json.dumps({"application": "nosuch", "x": "y" * 990})), 413)
        assert "more than 1000 bytes" in said
        assert "1000" in refusal(await ask(api, "[" * 100_000), 413)


async def test_posted_keys_come_back_as_they_were(launcher: Launch) -> None:
    posted = {
        "application": "cone",
        "sessionManagerURL": "http://x/paraview/",
        "launcherRetry": [500, 1000],
        "deep": {"a": [1, 2.5, None, True, "größe 𝄞", {}]},
        "": "no name",
    }
    async with launcher() as api:
        reply = await api.post(posted)
        assert reply.status_code == 200
        body = reply.json()
        assert {key: body[key] for key in posted} == posted
        assert set(body) - set(posted) == {"id", "sessionURL", "secret", "viewer"}


async def test_keys_that_are_the_replys_own_cannot_be_posted(launcher: Launch) -> None:
    posted = {
        "application": "cone",
        "id": "mine",
        "secret": "mine",
        "sessionURL": "ws://evil.example.org/",
        "error": "an error makes clients give up",
        "viewer": "mine",
        "page": "http://evil.example.org/",
    }
    async with launcher() as api:
        body = (await api.post(posted)).json()
        assert set(body) == {"application", "id", "secret", "sessionURL", "viewer"}
        assert "mine" not in body.values()
        assert "evil" not in body["sessionURL"]
        begun = await api.post(posted, headers={"Prefer": "respond-async"})
        assert begun.status_code == 202
        assert "error" not in begun.json()
        assert "evil" not in begun.text


async def test_a_key_named_like_a_value_of_the_servers_changes_nothing(
    launcher: Launch, site: Any
) -> None:
    names = [
        *("pvpython", "program", "app.program", "properties", "template", "cluster", "walltime"),
        *("job.directory", "directory", "host", "port", "python", "script", "cmd", "session_root"),
        *("ready_line", "__proto__", "param", "options", "job_name", "application.template"),
    ]
    async with launcher() as api:
        reply = await api.post({"application": "cone"} | dict.fromkeys(names, "/bin/false"))
        assert reply.status_code == 200
        assert (await api.row(reply.json()["id"])).parameters == {}
        assert "/bin/false" not in site.logs()
        (directory,) = site.directories()
        assert "/bin/false" not in (directory / "job.sh").read_text()


@pytest.mark.parametrize(
    "value",
    [
        *("$(touch stolen)", "`touch stolen`", "; touch stolen", "'; touch stolen; '", '"', "a  b"),
        *("{{ job.name }}", "{% if x %}", "#SBATCH --uid=0", "\\", "$HOME", "*", "--port=1", "é☃"),
    ],
)
async def test_a_parameter_reaches_the_application_as_it_was_posted(
    shared_api: Any, shared_site: Any, value: str
) -> None:
    reply = await shared_api.post({"application": "tuned", "file": value, "level": "4"})
    assert reply.status_code == 200, reply.text
    assert repr([f"--file={value}", "--level=4"])[1:-1] in shared_site.logs()
    assert list(shared_site.root.rglob("stolen")) == []


# -- replies


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
        ("portal:8443", "portal:8443"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        *(
            (wrong, "127.0.0.1:4711")
            for wrong in (
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
            )
        ),
    ],
)
async def test_a_host_header_that_is_no_host_gets_nowhere(
    shared_api: Any, host: str, shown: str
) -> None:
    """``${request_host}`` is then the address that the service listens on."""
    app = _with_server(shared_api.client._transport.app, ("127.0.0.1", 4711))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        headers = {b"Host": host.encode("latin-1")}
        reply = await client.post("/paraview", json={"application": "cone"}, headers=headers)
    assert reply.status_code == 200
    assert reply.json()["sessionURL"].startswith(f"ws://{shown}/proxy?sessionId=")


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


# -- paths and methods


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/paraview/nosuch", 404),
        ("DELETE", "/paraview/nosuch", 404),
        ("DELETE", "/paraview//nosuch/", 404),
        ("GET", "/paraview/a/b", 404),
        ("GET", "/paraview/%00", 404),
        ("GET", "/paraview/%0A", 404),
        ("GET", "/paraview/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/paraviewx", 404),
        ("GET", "/portal/%00", 404),
        ("GET", "/portal/" + "x" * 5000, 404),
        ("GET", "/portal/..%2F..%2Fconfig.py", 404),
        ("GET", "/docs", 404),
        ("GET", "/paraview", 405),
        ("GET", "/paraview/", 405),
        ("PUT", "/paraview", 405),
        ("DELETE", "/paraview", 405),
        ("POST", "/paraview/nosuch", 405),
        ("PATCH", "/paraview/nosuch", 405),
        ("OPTIONS", "/paraview", 405),
        ("BREW", "/paraview", 405),
        ("POST", "/", 405),
    ],
)
async def test_what_is_not_there_is_told_in_json(
    shared_api: Any, method: str, path: str, status: int
) -> None:
    refusal(await shared_api.client.request(method, path), status)


async def test_methods_that_are_allowed_are_told(launcher: Launch) -> None:
    async with launcher() as api:
        assert (await api.client.get("/paraview")).headers["allow"] == "POST"


async def test_static_content_takes_the_portals_place(launcher: Launch, site: Any) -> None:
    content = site.root / "www"
    content.mkdir()
    (content / "index.html").write_text("<title>ours</title>")
    async with launcher(server={"content": "www"}) as api:
        assert "ours" in (await api.client.get("/")).text
        refusal(await api.client.get("/missing"), 404)
        refusal(await api.client.get("/../hpcbridge.toml"), 404)
        refusal(await api.client.get("/%2E%2E/hpcbridge.toml"), 404)
        refusal(await api.client.put("/paraview"), 405)
        assert "not JSON" in refusal(await ask(api, b"x"), 400)


async def test_another_endpoint_takes_the_place_of_the_usual_one(launcher: Launch) -> None:
    async with launcher(server={"endpoint": "/viz/launch"}) as api:
        assert "not JSON" in refusal(await api.client.post("/viz/launch//", content="x"), 400)
        refusal(await api.client.post("/paraview", content="x"), 404)


async def test_an_unexpected_exception_is_told_without_details(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("s3cret details")

    monkeypatch.setattr(Sessions, "get", broken)
    monkeypatch.setattr(Sessions, "launch", broken)
    async with launcher(server={"cors_origins": ["https://other.example.org"]}) as api:
        origin = {"Origin": "https://other.example.org"}
        for reply in (
            await api.client.get("/paraview/x", headers=origin),
            await api.post({"application": "cone"}, headers=origin),
        ):
            assert "s3cret" not in refusal(reply, 500)
            assert reply.headers["access-control-allow-origin"] == origin["Origin"]
    assert "s3cret details" in caplog.text


async def test_a_database_that_fails_is_told(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise StoreError("The database did not accept a change: disk is full.")

    async with launcher() as api:
        monkeypatch.setattr(api.sessions.store, "launch", broken)
        assert "disk is full" in refusal(await api.post({"application": "cone"}), 503)
        assert not api.sessions.registry.sessions
        monkeypatch.setattr(api.sessions.store, "get", broken)
        refusal(await api.client.get(f"/paraview/{'0' * 24}"), 503)
        refusal(await api.client.get("/paraview/x%0AERROR forged"), 404)
    assert "\nERROR forged" not in caplog.text


# -- capacity


async def test_more_sessions_than_the_limit_are_refused_until_one_has_ended(
    launcher: Launch,
) -> None:
    async with launcher(limits={"sessions": 2}) as api:
        ids = [(await api.post({"application": "cone"})).json()["id"] for _ in range(2)]
        assert "2 of 2 sessions" in refusal(await api.post({"application": "cone"}), 503)
        await api.client.delete(f"/paraview/{ids[0]}")
        assert (await api.post({"application": "cone"})).status_code == 200


async def test_requests_at_the_same_moment_do_not_pass_the_limit(launcher: Launch) -> None:
    async with launcher(limits={"sessions": 3}) as api:
        asynchronous = {"Prefer": "respond-async"}
        replies = await asyncio.gather(
            *(api.post({"application": "cone"}, headers=asynchronous) for _ in range(10))
        )
        assert sorted(each.status_code for each in replies) == [202] * 3 + [503] * 7


async def test_a_full_queue_is_told_and_leaves_nothing(launcher: Launch, site: Any) -> None:
    async with launcher(clusters={"here": {"slots": 1, "queue": 0}}) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        said = refusal(await api.post({"application": "cone"}), 503)
        assert "All slots (1) and places in the queue (0) are taken" in said
        await until(lambda: len(site.directories()) == 1, "the refused session's directory to go")


async def test_who_waits_is_told_its_place_and_the_estimate(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlooks, "PATIENCE", 0.0)
    walltime = {"walltime": 600}
    async with launcher(
        clusters={"here": {"slots": 1}}, applications={"cone": walltime, "late": walltime}
    ) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        headers = {"Prefer": "respond-async"}
        late = (await api.post({"application": "late"}, headers=headers)).json()["id"]
        path = f"/paraview/{late}"
        told: dict[str, Any] = {}

        async def look() -> dict[str, Any]:
            told.clear()
            told.update((await api.client.get(path)).json())
            return told

        async def placed() -> bool:
            return "position" in await look()

        async def ended() -> bool:
            return (await look())["state"] == "ended"

        await until(placed, "its place in the queue")
        assert (told["state"], told["position"], told["waits_for"]) == ("queued", 1, "a free slot")
        assert told["message"].startswith("Waiting for a free slot; it is the next;")
        assert 500 < told["estimated_start"] - time.time() < 601
        assert "queue" not in told  # the local runner has one, without a name
        await api.client.delete(path)
        await until(ended, "its end")
        assert "position" not in told


async def test_a_job_that_waits_too_long_is_told_and_leaves_the_queue(
    launcher: Launch, site: Any
) -> None:
    async with launcher(
        clusters={"here": {"slots": 1}}, applications={"late": {"wait": 0.3}}
    ) as api:
        assert (await api.post({"application": "cone"})).status_code == 200
        said = refusal(await api.post({"application": "late"}), 504)
        assert "still in the queue after 0.3 s" in said
        await until(lambda: len(site.directories()) == 1, "the session's directory to go")


# -- pages of other sites


@pytest.mark.parametrize(
    ("origin", "others", "allowed"),
    [
        (None, [], True),
        ("http://portal.example.org", [], True),
        ("https://portal.example.org", [], True),
        ("http://PORTAL.example.org", [], True),
        ("http://portal.example.org:80", [], True),
        ("http://portal.example.org:81", [], False),
        ("http://portal.example.org.evil.example", [], False),
        ("http://evil.example", [], False),
        ("http://user@portal.example.org", [], False),
        ("http://portal.example.org/path", [], False),
        ("portal.example.org", [], False),
        ("null", [], False),
        ("null", ["null"], True),
        ("", [], False),
        ("http://[", [], False),
        ("http://x:port", [], False),
        ("https://other.example.org", ["https://other.example.org"], True),
        ("http://other.example.org", ["https://other.example.org"], False),
        ("https://evil.example", ["https://other.example.org"], False),
        ("https://evil.example", ["*"], True),
        ("null", ["*"], True),
    ],
)
async def test_pages_of_other_sites_may_only_launch_where_they_are_listed(
    launcher: Launch, origin: str | None, others: list[str], allowed: bool
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    name = {"server_name": "portal.example.org"}
    async with launcher(server={"cors_origins": others}, frontend=name) as api:
        posted = await api.post({"application": "nosuch"}, headers=headers)
        deleted = await api.client.delete("/paraview/nosuch", headers=headers)
        refusal(posted, 400 if allowed else 403)
        refusal(deleted, 404 if allowed else 403)
        if allowed and others:
            shown = posted.headers["access-control-allow-origin"]
            assert shown == ("*" if others == ["*"] else origin)
        else:
            assert "access-control-allow-origin" not in posted.headers


async def test_two_origins_in_one_request_are_not_one(launcher: Launch) -> None:
    async with launcher() as api:
        headers = [("Origin", "http://portal.example.org"), ("Origin", "http://evil.example")]
        refusal(await api.client.post("/paraview", json={}, headers=headers), 403)


async def test_origins_are_not_looked_at_where_that_is_switched_off(launcher: Launch) -> None:
    async with launcher(server={"check_origin": False}) as api:
        headers = {"Origin": "http://evil.example"}
        refusal(await api.post({"application": "nosuch"}, headers=headers), 400)


async def test_a_preflight_is_answered_for_listed_origins(launcher: Launch) -> None:
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with launcher(server={"cors_origins": ["https://a.example.org"]}) as api:
        for path in ("/paraview", "/paraview/", "/paraview//x"):
            reply = await api.client.options(
                path, headers=wanted | {"Origin": "https://a.example.org"}
            )
            assert reply.status_code == 200
            assert reply.headers["access-control-allow-origin"] == "https://a.example.org"
            assert "DELETE" in reply.headers["access-control-allow-methods"]
            assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        other = await api.client.options("/paraview", headers=wanted | {"Origin": "https://b.org"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers


# -- the description


async def test_the_openapi_document_describes_what_there_is(launcher: Launch) -> None:
    async with launcher() as api:
        document = (await api.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/paraview": {"post"},
        "/paraview/applications": {"get"},
        "/paraview/{session_id}": {"get", "delete"},
        "/paraview/{session_id}/events": {"get"},
    }
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    for operation in operations:
        assert operation["summary"]
        assert operation["operationId"]
        assert "200" in operation["responses"]
        assert "422" not in operation["responses"]  # never sent
        for status, response in operation["responses"].items():
            if "text/event-stream" in response["content"]:
                continue
            schema = response["content"]["application/json"]["schema"]
            if status not in ("200", "202"):
                assert schema == {"$ref": "#/components/schemas/ErrorReply"}
    launch = document["paths"]["/paraview"]["post"]
    assert launch["requestBody"]["required"] is True
    assert {"200", "202", "400", "403", "413", "500", "502", "503", "504"} <= set(
        launch["responses"]
    )
    status = document["paths"]["/paraview/{session_id}"]["get"]
    assert [each["name"] for each in status["parameters"]] == ["session_id"]
    _check_references(document, document)


def _check_references(document: Any, node: Any) -> None:
    """Every ``$ref`` leads to something."""
    if isinstance(node, list):
        for each in node:
            _check_references(document, each)
    elif isinstance(node, dict):
        if "$ref" in node:
            found = document
            for key in node["$ref"].removeprefix("#/").split("/"):
                found = found[key]
        for each in node.values():
            _check_references(document, each)
