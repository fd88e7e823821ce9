"""What load balancers, Prometheus and admins ask: who is answered, and what."""

import asyncio
import contextlib
import socket
import sqlite3
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import Tokens
from hpcbridge.config import file as configfile
from hpcbridge.errors import ConfigError, StoreError
from hpcbridge.web import monitoring
from tests.replies import refusal
from tests.site import Launch, Launcher
from tests.usersite import auth, bearer, client, named
from tests.waiting import until

CONE = {"application": "cone"}
HERE = "http://localhost"
"""As a program of this machine names the service."""


async def scraped(api: Launcher) -> dict[str, float]:
    """Each sample of /metrics by its name and labels, as ``name{label=value}``."""
    reply = await api.client.get(f"{HERE}/metrics")
    assert reply.status_code == 200, reply.text
    found = {}
    for family in text_string_to_metric_families(reply.text):
        for each in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(each.labels.items()))
            found[f"{each.name}{{{labels}}}"] = each.value
    return found


# -- alive, and ready


def say(service: Any, request: str) -> str:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(request.encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    return received.decode()


@pytest.mark.parametrize(
    ("version", "host"),
    [
        ("1.0", None),  # HAProxy's option httpchk without more
        ("1.1", "127.0.0.1:8080"),
        ("1.1", "192.0.2.7"),
        ("1.1", "[2001:db8::7]:8080"),
        ("1.1", "node17.internal"),  # a name that only the load balancer knows
        ("1.1", "haproxy"),
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_probe_is_answered_under_whatever_name_it_comes(
    shared_service: Any, version: str, host: str | None, path: str, method: str
) -> None:
    named = "" if host is None else f"Host: {host}\r\n"
    asked = f"{method} {path} HTTP/{version}\r\n{named}Connection: close\r\n\r\n"
    reply = say(shared_service, asked)
    known = host is None or host[0].isdigit() or host[0] == "["
    if method == "OPTIONS":  # no probe: nothing that a page could find out more with
        assert reply.split()[1] == ("405" if known else "421")
        return
    assert reply.split()[1] == "200"
    assert reply.endswith("\r\n\r\nok\n" if method == "GET" else "\r\n\r\n")
    assert "cache-control: no-store" in reply


@pytest.mark.parametrize("path", ["/status", "/metrics", "/livez/", "/livez/../status", "//livez"])
def test_only_the_probes_are_answered_under_a_strange_name(shared_service: Any, path: str) -> None:
    asked = f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert say(shared_service, asked).split()[1] == "421"


async def test_a_service_that_stops_is_alive_and_not_ready(launcher: Launch) -> None:
    async with launcher() as api:
        assert (await api.client.get("/readyz")).text == "ok\n"
        api.sessions.leave()
        assert (await api.client.get("/livez")).text == "ok\n"
        assert refusal(await api.client.get("/readyz"), 503) == "The service is stopping."


def rename(site: Any, before: str, after: str) -> None:
    """Let a table of the service's database have another name."""
    with contextlib.closing(sqlite3.connect(site.state_dir / "hpcbridge.sqlite")) as database:
        database.execute(f"ALTER TABLE {before} RENAME TO {after}")


async def test_without_its_database_it_is_alive_and_not_ready(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "FRESH", 0.0)
    async with launcher() as api:
        assert (await api.client.get("/readyz")).status_code == 200
        await asyncio.to_thread(rename, site, "installation", "elsewhere")
        reply = await api.client.get("/readyz")
        # Everybody may read this: no path, no address, no table.
        assert refusal(reply, 503) == "The database does not answer."
        assert (await api.client.get("/livez")).status_code == 200
        told = (await api.client.get(f"{HERE}/status")).json()
        assert told["database"] == {"healthy": False, "message": "The database does not answer."}
        assert told["leader"] is None
        await asyncio.to_thread(rename, site, "elsewhere", "installation")
        assert (await api.client.get("/readyz")).status_code == 200


async def test_a_database_that_hangs_is_waited_for_once_by_all_probes_and_not_for_ever(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def hangs() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(monitoring, "PATIENCE", 0.2)
    async with launcher() as api:
        monkeypatch.setattr(api.sessions.store.replicas, "leader", hangs)
        replies = await asyncio.gather(*(api.client.get("/readyz") for _ in range(20)))
        assert {each.status_code for each in replies} == {503}
        assert asked == 1


async def test_a_probe_that_hangs_up_spoils_no_other_ones_answer(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        asked.set()
        await go_on.wait()
        return "me"

    async with launcher() as api:
        monkeypatch.setattr(api.sessions.store.replicas, "leader", slow)
        first = asyncio.create_task(api.client.get("/readyz"))
        await asked.wait()
        second = asyncio.create_task(api.client.get("/readyz"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        go_on.set()
        assert (await second).status_code == 200


# -- the status


async def test_the_status_tells_of_the_service_and_of_each_cluster(launcher: Launch) -> None:
    async with launcher() as api:

        async def told() -> Any:
            status = (await api.client.get(f"{HERE}/status")).json()
            return status if status["clusters"][0]["healthy"] is not None else None

        status = await until(told)
        assert status["version"]
        assert status["leading"] is True
        assert status["leader"] == status["replica"]
        assert status["database"] == {"healthy": True, "message": ""}
        (cluster,) = status["clusters"]
        assert (cluster["name"], cluster["service"]) == ("here", "local")
        assert cluster["healthy"] is True
        assert 0 <= cluster["latency"] < 60
        assert cluster["last_check"].endswith("Z")
        assert (cluster["silent_since"], cluster["message"]) == (None, "")
        api.sessions.registry.clusters["here"].watcher.health.failed("squeue: no route to host")
        (cluster,) = (await api.client.get(f"{HERE}/status")).json()["clusters"]
        assert cluster["healthy"] is False
        assert cluster["message"] == "squeue: no route to host"
        assert cluster["silent_since"].endswith("Z")
        assert (await api.post(CONE)).status_code == 200
        status = (await api.client.get(f"{HERE}/status")).json()
        assert status["sessions"]["ready"] == status["routes"] == 1


FOREIGN: list[tuple[str, dict[str, str], str | None]] = [
    ("http://portal.example.org", {}, "127.0.0.1"),  # DNS rebinding, or a front end
    (HERE, {"X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),
    (HERE, {"Forwarded": "for=203.0.113.9"}, "127.0.0.1"),
    (HERE, {"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1"),  # what a client claims
    (HERE, {"X-Real-IP": "203.0.113.9"}, "::1"),
    (HERE, {"Via": "1.1 portal"}, "127.0.0.1"),
    ("http://192.0.2.7", {}, "127.0.0.1"),
    ("http://127.0.0.1.", {}, "127.0.0.1"),
    (HERE, {}, "192.0.2.9"),
    (HERE, {}, "::ffff:192.0.2.9"),
    (HERE, {}, None),  # the unix socket, which front ends connect to
]


async def test_without_users_only_programs_of_this_machine_see_more_than_the_probes(
    launcher: Launch,
) -> None:
    async with launcher() as api:
        for base, headers, peer in FOREIGN:
            async with client(api, headers, peer) as somebody:
                said = refusal(await somebody.get(f"{base}/status"), 403)
                assert said == "The status is for programs of this machine."
                said = refusal(await somebody.get(f"{base}/metrics"), 403)
                assert said == "These metrics are not for you: see metrics.access."
                assert (await somebody.get(f"{base}/readyz")).status_code == 200


async def test_programs_of_this_machine_see_both(launcher: Launch) -> None:
    async with launcher() as api:
        for peer in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            for base in (HERE, "http://127.0.0.1:8080", "http://[::1]:8080"):
                async with client(api, {}, peer) as somebody:
                    assert (await somebody.get(f"{base}/status")).status_code == 200
                    assert (await somebody.get(f"{base}/metrics")).status_code == 200


async def test_the_status_is_for_operators_and_for_no_other_user(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site)) as api:
        async with client(api, named("olga")) as operator:
            assert (await operator.get("/status")).json()["version"]
        async with client(api, named("alice")) as user:
            refusal(await user.get("/status"), 403)
            refusal(await user.get("/metrics"), 403)
        async with client(api) as nobody:
            refusal(await nobody.get("/status"), 401)


# -- the metrics


async def test_metrics_can_be_for_tokens_that_read(site: Any, launcher: Launch) -> None:
    metrics = {"access": "token"}
    async with launcher(auth=auth(site, "header", "token"), metrics=metrics) as api:
        tokens = Tokens(api.sessions.store)
        async with client(api, bearer(await _token(tokens, Scope.READ)), "192.0.2.9") as scraper:
            assert (await scraper.get("/metrics")).status_code == 200
            refusal(await scraper.get("/status"), 403)
        async with client(api, bearer(await _token(tokens, Scope.LAUNCH)), "192.0.2.9") as other:
            refusal(await other.get("/metrics"), 403)
        async with client(api, bearer("hpcb_" + "0" * 77), "192.0.2.9") as guess:
            refusal(await guess.get("/metrics"), 401)
        async with client(api, named("alice")) as user:  # at the portal: no token
            refusal(await user.get("/metrics"), 403)
        async with client(api, named("olga")) as operator:
            assert (await operator.get("/metrics")).status_code == 200
        async with client(api) as nobody:
            refusal(await nobody.get("/metrics"), 401)
        assert await scraped(api)


async def _token(tokens: Tokens, *scopes: Scope) -> str:
    _, token = await tokens.create("scraper", scopes, lasts=3600)
    return token


async def test_metrics_can_be_for_all_or_for_nobody(launcher: Launch) -> None:
    async with launcher(metrics={"access": "on"}) as api, client(api, {}, "192.0.2.9") as somebody:
        assert (await somebody.get("/metrics")).status_code == 200
        refusal(await somebody.get("/status"), 403)
    async with launcher(metrics={"access": "off"}) as api:
        refusal(await api.client.get(f"{HERE}/metrics"), 404)
        assert (await api.client.get(f"{HERE}/status")).status_code == 200


def test_settings_that_contradict_the_paths_are_refused(site: Any) -> None:
    def said(**sections: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            configfile.load(site.write(**sections))
        return str(caught.value)

    assert "needs 'token' in auth.accept" in said(metrics={"access": "token"})
    assert "for monitoring" in said(server={"endpoint": "/metrics/x"})
    assert "for monitoring" in said(server={"content": {"/livez": str(site.root)}})
    assert "'off', 'loopback', 'token' or 'on'" in said(metrics={"access": "yes"})


async def test_a_session_is_counted_on_its_way_and_nobody_is_named(
    site: Any, launcher: Launch
) -> None:
    def here(state: str) -> str:
        return f"hpcbridge_sessions{{application=cone,cluster=here,state={state}}}"

    async with launcher(auth=auth(site)) as api:
        async with client(api, named("alice")) as alice:
            session = (await alice.post("/paraview", json=CONE)).json()
            refusal(await alice.post("/paraview", json={"application": "nosuch"}), 400)
            refusal(await alice.post("/paraview", json={"application": "crash"}), 502)
            found = await scraped(api)
            assert found[here("ready")] == 1
            assert found["hpcbridge_launches_total{application=cone,result=begun}"] == 1
            assert found["hpcbridge_launches_total{application=,result=invalid}"] == 1
            crashed = "hpcbridge_session_ends_total{application=crash,cluster=here,reason=failed}"
            assert found[crashed] == 1
            for step in ("queued", "starting", "ready"):
                steps = f"hpcbridge_session_step_seconds_count{{cluster=here,step={step}}}"
                assert found[steps] == (1 if step == "ready" else 2)
            assert found["hpcbridge_launch_seconds_count{application=cone}"] == 1
            assert "hpcbridge_launch_seconds_count{application=crash}" not in found
            submitted = "{cluster=here,operation=submit,result=ok}"
            assert found[f"hpcbridge_scheduler_requests_total{submitted}"] == 2
            assert found["hpcbridge_leader{}"] == found["hpcbridge_routes{}"] == 1
            assert found["hpcbridge_cluster_up{cluster=here}"] == 1
            assert found["hpcbridge_tunnels{cluster=here}"] == 1
            assert found["hpcbridge_route_publish_seconds_count{}"] >= 1
            assert (await alice.delete(f"/paraview/{session['id']}")).status_code == 200
        await until(lambda: not api.sessions.registry.sessions, "all is cleaned up")
        found = await scraped(api)
        assert not any(value for key, value in found.items() if "hpcbridge_sessions{" in key)
        stopped = "hpcbridge_session_ends_total{application=cone,cluster=here,reason=stopped}"
        assert found[stopped] == 1
        assert found["hpcbridge_tunnels{cluster=here}"] == found["hpcbridge_routes{}"] == 0
        text = (await api.client.get(f"{HERE}/metrics")).text
        for secret in ("alice", session["id"], session["secret"], "hpcb-"):
            assert secret not in text


async def test_a_prometheus_that_asks_for_openmetrics_gets_that(launcher: Launch) -> None:
    headers = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with launcher() as api:
        reply = await api.client.get(f"{HERE}/metrics", headers=headers)
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.text.endswith("# EOF\n")


async def test_a_launch_that_cannot_be_written_down_is_counted_so(
    launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with launcher(limits={"sessions": 1}) as api:

        async def away(*_: object) -> None:
            raise StoreError("The database is away.")

        with monkeypatch.context() as patch:
            patch.setattr(api.sessions.store, "launch", away)
            refusal(await api.post(CONE), 503)
        assert (await api.post(CONE)).status_code == 200
        refusal(await api.post(CONE), 503)
        found = await scraped(api)
    for result in ("unavailable", "begun", "no_capacity"):
        assert found[f"hpcbridge_launches_total{{application=cone,result={result}}}"] == 1
