"""The launcher API in this process: its paths, methods, description, and faults of our own."""

from typing import Any

import pytest

from hpcbridge.errors import StoreError
from hpcbridge.sessions.launches import Launches
from hpcbridge.sessions.manager import Sessions
from tests.replies import ask, refusal
from tests.site import Launch

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
        assert (await api.client.post("/paraview/applications")).headers["allow"] == "GET"


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
    monkeypatch.setattr(Launches, "begin", broken)
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


async def test_the_openapi_document_describes_what_there_is(launcher: Launch) -> None:
    async with launcher() as api:
        document = (await api.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/paraview": {"get", "post"},
        "/paraview/applications": {"get"},
        "/paraview/announcements": {"get"},
        "/paraview/announcements/site": {"put", "delete"},
        "/paraview/announcements/{about}/{name}": {"put", "delete"},
        "/paraview/{session_id}": {"get", "delete"},
        "/paraview/{session_id}/events": {"get"},
        "/paraview/{session_id}/open": {"get"},
        "/paraview/{session_id}/log": {"get"},
    }
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    for operation in operations:
        assert operation["summary"]
        assert operation["operationId"]
        assert {"200", "303"} & operation["responses"].keys()
        launches = operation["operationId"].startswith("launch")
        assert ("422" in operation["responses"]) is launches  # never sent for what cannot be read
        for status, response in operation["responses"].items():
            if status == "303" or {"text/event-stream", "text/plain"} & response["content"].keys():
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
