"""The Python client, against the service as it runs for people."""

import asyncio
import contextlib
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcbridge import client as module
from hpcbridge.auth.identity import Scope
from hpcbridge.client import (
    AsyncClient,
    Client,
    ClientError,
    Forbidden,
    LaunchFailed,
    NotFound,
    NotLoggedIn,
    Refused,
    ServiceUnreachable,
    Session,
    State,
    patience,
    replies,
)
from hpcbridge.web import catalogue, responses
from tests.client.conftest import Bridge, unconnected
from tests.site import Service, Site
from tests.waiting import wait_until

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/client/launch.py"


def test_the_example_runs_as_it_stands_in_the_documentation(bridge: Bridge, tmp_path: Path) -> None:
    """And has ten lines."""
    text = EXAMPLE.read_text()
    assert f"```python\n{text}```" in (ROOT / "docs/client.md").read_text()
    assert len([line for line in text.splitlines() if line]) <= 10
    arguments = [bridge.url, str(bridge.token_file(tmp_path)), "cone"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ready .*\n[0-9a-f]{40} runs on \S+ and is at ws://", done.stdout, re.M)


def test_a_launch_tells_each_step_and_returns_what_opens_the_session(client: Client) -> None:
    told: list[Session] = []
    session = client.launch("tuned", {"level": 7}, progress=told.append)
    try:
        states = [each.state for each in told]
        assert states == sorted(states, key=list(State).index)
        assert (session.state, states[-1]) == (State.READY, State.READY)
        assert session.parameters == {"file": "a.vtu", "level": 7}
        assert session.owner == "alice"
        assert session.secret
        assert session.session_url
        assert session.times[State.READY] >= session.times[State.SUBMITTING]
        again = client.session(session.id)
        assert again.secret == session.secret
        assert again.traffic is not None
        assert session.secret not in repr(session)
        assert session.session_url not in repr(session)
    finally:
        client.stop(session.id)


def test_what_is_launched_is_listed_printed_followed_and_stopped(client: Client) -> None:
    begun = client.launch("cone", wait=False)
    assert begun.secret
    assert begun.id in [each.id for each in client.sessions().sessions]
    for now in client.progress(begun.id):
        if now.state == State.READY:
            break
    wait_until(lambda: b"Starting factory" in client.log(begun.id).data, "what it prints")
    part = client.log(begun.id)
    assert client.log(begun.id, offset=part.next - 7).data == b"factory"
    following = client.log_parts(begun.id, follow=True)
    assert next(following).data.startswith(b"arguments")
    assert [each.next for each in client.log_parts(begun.id)] == [part.next]
    assert client.stop(begun.id).state == State.READY
    assert [each.data for each in following] == []
    assert [each.state for each in client.progress(begun.id)][-1] == State.ENDED
    assert client.session(begun.id).reason == "stopped"
    ended = client.sessions("ended", application="cone", cluster="here", limit=1)
    assert ended.sessions[0].id == begun.id
    assert ended.user == "alice"
    with pytest.raises(NotFound, match="has ended"):
        client.stop(begun.id)


def test_pages_are_turned_by_the_cursor(client: Client) -> None:
    begun = [client.launch("cone", wait=False).id for _ in range(3)]
    try:
        first = client.sessions(limit=2)
        assert first.next
        second = client.sessions(limit=2, before=first.next)
        assert [each.id for each in first.sessions + second.sessions] == begun[::-1]
    finally:
        for each in begun:
            client.stop(each)


def test_all_ones_sessions_are_told_of_in_one_stream(bridge: Bridge, client: Client) -> None:
    """Each to who may see it, its steps in order, and nothing twice."""
    there = client.launch("cone")
    with bridge.client("bob") as bob, bridge.client("olga", *Scope) as olga:
        foreign = bob.launch("cone")
        streams = {"alice": client.changes(), "olga": olga.changes()}
        seen: dict[str, list[tuple[str, str, str]]] = {name: [] for name in streams}

        def listen(name: str, until: str) -> None:
            for now in streams[name]:
                seen[name].append((now.id, now.state, now.message))
                if now.state == until:
                    return

        for name in streams:
            while not {each for each, *_ in seen[name]} >= {there.id}:
                listen(name, "ready")
        begun = client.launch("crash", wait=False)
        for name in streams:
            listen(name, "ended")
        bob.stop(foreign.id)
        client.stop(there.id)
        listen("alice", "ended")
        listen("olga", "ended")
        listen("olga", "ended")
        for each in streams.values():
            each.close()
    assert {each for each, *_ in seen["alice"]} == {there.id, begun.id}
    assert {each for each, *_ in seen["olga"]} == {there.id, begun.id, foreign.id}
    for told in seen.values():
        assert len(told) == len(set(told))
        states = [state for each, state, _ in told if each == begun.id]
        assert states == sorted(states, key=list(State).index)
        assert states[-1] == "ended"
        assert [state for each, state, _ in told if each == there.id][-1] == "ended"


def test_a_listener_whose_token_has_ended_is_told_nothing_more(
    bridge: Bridge, client: Client
) -> None:
    token_id, token = bridge.new_token("alice")
    with Client(bridge.url, token=token) as listener:
        changes = listener.changes()
        begun = client.launch("cone")
        assert next(changes).id == begun.id
        bridge.revoke(token_id)
        client.stop(begun.id)
        with pytest.raises(NotLoggedIn):
            for _ in changes:
                pass


def test_applications_are_told_with_their_clusters(client: Client) -> None:
    found = {each.name: each for each in client.applications()}
    assert {"cone", "tuned"} <= set(found)
    assert [each.name for each in found["cone"].clusters] == ["here"]


def test_a_launch_that_fails_tells_what_ended_it(client: Client) -> None:
    with pytest.raises(LaunchFailed, match="cannot open display: mist") as caught:
        client.launch("crash")
    assert (caught.value.session.reason, caught.value.session.exit_status) == ("failed", 7)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda client: client.session("0" * 40), NotFound, "no such session"),
        (lambda client: client.session("../applications"), NotFound, "no session's id"),
        (lambda client: next(client.progress("0" * 40)), NotFound, "no such session"),
        (lambda client: next(client.log_parts("0" * 40)), NotFound, "no such session"),
        (lambda client: client.launch("cones"), Refused, "no application 'cones'"),
        (lambda client: client.launch("tuned", {"level": 70}), Refused, "'level' must be"),
        (lambda client: client.launch("tuned", {"level": {1}}), ClientError, "as JSON"),
        (lambda client: client.launch("tuned", {"level": float("nan")}), ClientError, "as JSON"),
        (lambda client: client.sessions(owner="bob"), Forbidden, "only operators"),
        (lambda client: client.sessions(limit=0), Refused, "limit"),
        (lambda client: client.sessions(before="nothing"), Refused, "not a cursor"),
    ],
)
def test_what_cannot_be_is_told_in_the_services_words(
    client: Client, call: Any, kind: type[ClientError], said: str
) -> None:
    with pytest.raises(ClientError, match=said) as caught:
        call(client)
    assert type(caught.value) is kind


def test_who_asks_and_what_the_token_is_for_matter(bridge: Bridge) -> None:
    with Client(bridge.url) as nobody, pytest.raises(NotLoggedIn, match="Log in"):
        nobody.sessions()
    token = "hpcb_" + "0" * 60
    with (
        Client(bridge.url, token=token) as stranger,
        pytest.raises(NotLoggedIn, match="not valid") as caught,
    ):
        stranger.sessions()
    assert token not in str(caught.value)
    with bridge.client("alice", Scope.READ) as reader:
        assert reader.sessions().user == "alice"
        with pytest.raises(Forbidden, match="not for 'launch'"):
            reader.launch("cone")


async def test_the_same_by_asyncio(bridge: Bridge) -> None:
    token = await asyncio.to_thread(bridge.token)
    async with AsyncClient(bridge.url, token=token) as client:
        assert "cone" in [each.name for each in await client.applications()]
        told: list[State] = []
        session = await client.launch("cone", progress=lambda now: told.append(now.state))
        assert (told[-1], session.state) == (State.READY, State.READY)
        assert session.secret
        found = await client.sessions()
        assert session.id in [each.id for each in found.sessions]
        printed = b""
        async with contextlib.aclosing(client.log_parts(session.id, follow=True)) as log:
            async for part in log:
                printed += part.data
                if b"Starting factory" in printed:
                    break
        assert (await client.log(session.id, offset=2)).data == printed[2:]
        assert (await client.stop(session.id)).id == session.id
        states = [each.state async for each in client.progress(session.id)]
        assert states[-1] == State.ENDED
        assert b"".join([part.data async for part in client.log_parts(session.id)]) == printed
        with pytest.raises(LaunchFailed, match="mist"):
            await client.launch("crash")
        begun = await client.launch("cone", wait=False)
        assert begun.secret
        await client.stop(begun.id)
        with pytest.raises(NotFound):
            await client.session("0" * 40)


@unconnected
def test_a_service_that_is_killed_and_started_again_loses_no_launch(
    site: Site, directory: Path
) -> None:
    """Over a unix socket, where there is nobody to be; the session goes on, and so does its log."""
    socket = directory / "api.sock"
    site.config["server"]["unix_socket"] = str(socket)
    site.write()
    with Service(site) as first, Client(socket=socket) as client:
        begun = client.launch("cone", wait=False)
        changes = client.progress(begun.id)
        while next(changes).state != State.READY:
            pass
        first.stop(9)
        with pytest.raises(ServiceUnreachable, match=r"api\.sock cannot be reached"):
            client.session(begun.id)
        with Service(site, "--end-sessions"):
            while next(changes).state != State.READY:
                pass
            assert b"Starting factory" in client.log(begun.id).data
            assert client.sessions("all").sessions == []  # that is for browsers
            client.stop(begun.id)
            assert [each.state for each in changes][-1] == State.ENDED


@unconnected
def test_a_service_that_is_not_there_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    with Client(socket=directory / "none.sock") as client:
        with pytest.raises(ServiceUnreachable, match="cannot be reached"):
            client.launch("cone")
        with pytest.raises(ServiceUnreachable, match="cannot be reached"):
            next(client.progress("0" * 40))


# -- what the client makes of what it is given


def told_by(handler: Any) -> Client:
    """A client of a server that answers so."""
    client = Client("https://viz.example.org")
    client._http = httpx.Client(
        transport=httpx.MockTransport(handler), base_url="https://viz.example.org/paraview"
    )
    return client


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (httpx.Response(302, headers={"Location": "https://sso.example.org/?t=1"}), "sso.*login"),
        (httpx.Response(307, headers={"Location": "/login?t=1"}), "on to /login:"),
        (httpx.Response(200, html="<p>Log in"), "not what hpcbridge"),
        (httpx.Response(200, json=[1]), "not what hpcbridge"),
        (httpx.Response(200, content=b"[" * 100_000), "not what hpcbridge"),
        (httpx.Response(404, html="<p>Not here"), "answers 404"),
        (httpx.Response(500, json={"error": 5}), "answers 500"),
        (httpx.Response(500, content=b"\xff"), "answers 500"),
    ],
)
def test_another_servers_answer_is_not_taken_for_the_services(
    reply: httpx.Response, said: str
) -> None:
    with told_by(lambda request: reply) as client:
        with pytest.raises(module.NotHpcbridge, match=said) as caught:
            client.sessions()
        assert "t=1" not in str(caught.value)


def test_what_is_no_event_and_no_log_is_told() -> None:
    stream = {"Content-Type": "text/event-stream"}
    wrong = httpx.Response(200, headers=stream, content=b"data: {}\n\n")
    with told_by(lambda request: wrong) as client:
        with pytest.raises(module.NotHpcbridge, match="is none"):
            next(client.progress("0" * 40))
        with pytest.raises(module.NotHpcbridge, match="no part of a log"):
            client.log("0" * 40)
    plain = httpx.Response(200, text="hello")
    with (
        told_by(lambda request: plain) as client,
        pytest.raises(module.NotHpcbridge, match="no events"),
    ):
        next(client.progress("0" * 40))


def test_who_has_to_wait_is_told_for_how_long() -> None:
    busy = httpx.Response(503, json={"error": "Full."}, headers={"Retry-After": "30"})
    with (
        told_by(lambda request: busy) as client,
        pytest.raises(module.ServiceBusy, match=r"Full\.") as caught,
    ):
        client.launch("cone")
    assert caught.value.retry_after == 30


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("viz.example.org", {}, "no address such as"),
        ("ftp://viz.example.org", {}, "no address such as"),
        ("https://", {}, "no address such as"),
        ("https://a:b@viz.example.org", {}, "no user, password"),
        ("https://viz.example.org/?a=b", {}, "no user, password"),
        ("https://viz.example.org:port", {}, "no address"),
        ("http://viz.example.org", {"token": "hpcb_secret"}, "not encrypted"),
        ("https://viz.example.org", {"token": "two words"}, "no token"),
        ("https://viz.example.org", {"token": "a\r\nb"}, "no token"),
        ("https://viz.example.org", {"token": ""}, "no token"),
        ("https://viz.example.org", {"ca": "/no/such"}, "cannot be read"),
        ("https://viz.example.org", {"token_file": "/no/such"}, "cannot be read"),
    ],
)
def test_addresses_and_tokens_that_cannot_be_are_refused(
    url: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClientError, match=said) as caught:
        Client(url, **more)
    assert "secret" not in str(caught.value)
    assert "a:b" not in str(caught.value)


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hpcb_secret")
    path.chmod(0o640)
    with pytest.raises(ClientError, match="0640"):
        Client("https://viz.example.org", token_file=path)
    path.chmod(0o600)
    Client("https://viz.example.org", token_file=path).close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://a.localhost"]
)
def test_this_machine_needs_no_encryption(url: str) -> None:
    Client(url, token="hpcb_secret").close()


def test_no_proxy_gets_what_is_for_this_machine(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Client(bridge.url, token=bridge.token()) as client:
        assert client.sessions().user == "alice"


def test_the_token_is_in_no_log(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    token = bridge.token()
    with caplog.at_level(logging.DEBUG), Client(bridge.url, token=token) as client:
        client.sessions()
        assert token not in repr(client.__dict__.values())
    assert token not in caplog.text
    assert token not in bridge.service.log


def test_the_values_have_what_the_service_says_that_it_tells() -> None:
    for ours, theirs in (
        (replies.Session, responses.SessionReply),
        (replies.SessionPage, responses.ListReply),
        (replies.Traffic, responses.TrafficReply),
        (replies.End, responses.EndReply),
        (replies.Application, catalogue.ApplicationReply),
        (replies.Cluster, catalogue.ClusterReply),
        (replies.Announcement, catalogue.AnnouncementReply),
    ):
        names = {each.alias or name for name, each in ours.model_fields.items()}
        assert names == set(theirs.model_fields), ours
