"""Progress as server-sent events, over a real connection."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hpcbridge.web.events import STREAMS
from tests.waiting import wait_until

pytestmark = pytest.mark.servers


def told(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.fixture
def client(site: Any, serve: Any) -> Iterator[httpx.Client]:
    site.write()
    service = serve("--end-sessions")
    with httpx.Client(base_url=service.url, timeout=90) as client:
        yield client
    service.stop()


def begun(client: httpx.Client, application: str) -> str:
    reply = client.post(
        "/paraview", json={"application": application}, headers={"Prefer": "respond-async"}
    )
    return str(reply.json()["id"])


def test_each_state_is_told_once_and_the_end_ends_the_stream(client: httpx.Client) -> None:
    where = f"/paraview/{begun(client, 'cone')}"
    states: list[str] = []
    with client.stream("GET", f"{where}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in told(response):
            states.append(event["state"])
            if event["state"] == "ready" and "sessionURL" in event and states.count("ready") == 1:
                assert client.delete(where).status_code == 200
    unique = list(dict.fromkeys(states))
    order = ["submitting", "queued", "starting", "ready", "ended"]
    assert unique == [state for state in order if state in unique]
    assert unique[-2:] == ["ready", "ended"]


def test_a_session_that_fails_is_told_with_its_reason(client: httpx.Client) -> None:
    with client.stream("GET", f"/paraview/{begun(client, 'crash')}/events") as response:
        last = list(told(response))[-1]
    assert (last["state"], last["reason"]) == ("ended", "failed")
    assert "cannot open display" in last["error"]


def test_the_events_of_an_ended_session_are_its_end(client: httpx.Client) -> None:
    session = begun(client, "crash")
    for _ in range(2):
        with client.stream("GET", f"/paraview/{session}/events") as response:
            events = list(told(response))
    assert [event["state"] for event in events] == ["ended"]


def test_events_hold_no_secret_and_an_unknown_session_has_none(client: httpx.Client) -> None:
    reply = client.post("/paraview", json={"application": "cone"}).json()
    with client.stream("GET", f"/paraview//{reply['id']}/events") as response:
        first = next(told(response))
    assert reply["secret"] not in json.dumps(first)
    unknown = client.get("/paraview/nosuch/events")
    assert unknown.status_code == 404
    assert set(unknown.json()) == {"error"}


def test_who_opens_stream_after_stream_is_refused_until_one_is_closed(
    site: Any, serve: Any
) -> None:
    site.write()
    service = serve("--end-sessions")
    limits = httpx.Limits(max_connections=STREAMS + 2)
    with (
        httpx.Client(base_url=service.url, timeout=90, limits=limits) as client,
        ExitStack() as listening,
    ):

        def listens(events: str) -> httpx.Response:
            return listening.enter_context(client.stream("GET", events))

        events = [f"/paraview/{begun(client, 'cone')}/events" for _ in range(2)]
        opened = [listens(events[0]) for _ in range(STREAMS)]
        assert {each.status_code for each in opened} == {200}
        refused = client.get(events[0])
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert f"{STREAMS} clients listen" in refused.json()["error"]
        assert listens(events[1]).status_code == 200
        opened[0].close()
        wait_until(lambda: listens(events[0]).status_code == 200, "room for another")


async def test_of_many_streams_at_once_no_more_are_let_in_than_one_after_the_other(
    site: Any, serve: Any
) -> None:
    site.write()
    service = serve("--end-sessions")
    events = f"/paraview/{begun(service.http, 'cone')}/events"
    limits = httpx.Limits(max_connections=200)
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=90, limits=limits) as client,
        AsyncExitStack() as listening,
    ):

        async def listens() -> int:
            return (await listening.enter_async_context(client.stream("GET", events))).status_code

        statuses = Counter(await asyncio.gather(*(listens() for _ in range(150))))
    assert statuses == {200: STREAMS, 503: 150 - STREAMS}


def test_who_leaves_before_the_first_event_leaves_room(site: Any, serve: Any) -> None:
    site.write()
    service = serve("--end-sessions")
    place, events = urlsplit(service.url), f"/paraview/{begun(service.http, 'cone')}/events"
    for _ in range(2 * STREAMS):
        with socket.create_connection((place.hostname, place.port)) as wire:
            wire.sendall(f"GET {events} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())

    def room() -> bool:
        with service.http.stream("GET", events) as response:
            return response.status_code == 200

    wait_until(room, "room for one more")


def test_an_open_stream_does_not_hold_the_service_back(site: Any, serve: Any) -> None:
    site.write()
    service = serve()
    with httpx.Client(base_url=service.url, timeout=90) as client:
        session = client.post("/paraview", json={"application": "cone"}).json()["id"]
        with client.stream("GET", f"/paraview/{session}/events") as response:
            next(told(response))
            assert service.stop() == 0
    assert "Traceback" not in service.log
