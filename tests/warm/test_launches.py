"""Launches that a pool serves, on the embedded batch runner: at once, once, and replaced."""

import asyncio
from typing import Any

import pytest

from hpcbridge import service
from hpcbridge.database.tables import About
from hpcbridge.errors import ConfigError
from hpcbridge.sessions.manager import Sessions
from hpcbridge.store import Selection, SessionRow
from hpcbridge.warm.store import Asked, WarmStore
from tests.replies import refusal
from tests.waiting import until
from tests.warm.conftest import knows
from tests.wslinkclient import WslinkClient

pytestmark = pytest.mark.servers

WARM = {"application": "warm"}


@pytest.fixture
def launcher(launcher: Any, warm_site: Any) -> Any:
    """Launches on the site with a warm application."""
    return launcher


async def ready(
    sessions: Sessions, count: int = 1, *, but: tuple[str, ...] = ()
) -> list[SessionRow]:
    """Wait for so many warm sessions, others than these."""

    async def there() -> list[SessionRow]:
        living = await sessions.store.page(Selection(), 100)
        found = [row for row in living if row.warm and row.state == "ready" and row.id not in but]
        return found if len(found) == count else []

    return list(await until(there, f"{count} warm sessions"))


async def launched(api: Any, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    reply = await api.post(body or WARM, **more)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def new_secret(**more: Any) -> dict[str, Any]:
    return {"applications": {"warm": {"warm": {"new_secret": True, **more}}}}


async def test_a_launch_gets_the_session_that_is_ready_and_another_takes_its_place(
    launcher: Any,
) -> None:
    async with launcher() as api:
        (waiting,) = await ready(api.sessions)
        session = await launched(api)
        assert session["id"] == waiting.id
        assert await knows(session)
        told = (await api.client.get(f"/paraview/{session['id']}")).json()
        assert told["warm"] is True
        assert told["handed_over_at"] > told["times"]["ready"]
        (other,) = await ready(api.sessions)
        assert other.id != session["id"]
        assert len(await api.sessions.store.page(Selection(), 100)) == 2


async def test_one_that_is_ready_is_not_handed_out_while_its_application_is_drained(
    launcher: Any,
) -> None:
    async with launcher() as api:
        (waiting,) = await ready(api.sessions)
        announcements = api.sessions.store.announcements
        drained = {"text": "new disks", "drain": True, "by": "olga"}
        await announcements.put(About.APPLICATION, "warm", **drained)
        assert "new disks" in refusal(await api.post(WARM), 503)
        applications = (await api.client.get("/paraview/applications")).json()["applications"]
        assert [each["warm"] for each in applications if each["name"] == "warm"] == [False]
        await announcements.remove(About.APPLICATION, "warm")
        assert (await launched(api))["id"] == waiting.id


async def test_the_user_gets_a_secret_that_is_new_and_not_left_on_disk(
    launcher: Any, warm_site: Any
) -> None:
    async with launcher(**new_secret()) as api:
        (waiting,) = await ready(api.sessions)
        session = await launched(api)
        assert session["id"] == waiting.id
        assert session["secret"] != waiting.secret
        assert await knows(session)
        files = [path for path in warm_site.session_root.rglob("*") if path.is_file()]
        assert any(path.name == "secret.new" and path.stat().st_size > 60 for path in files)
        assert not any(session["secret"] in path.read_text(errors="replace") for path in files)


TRAME = """\
from trame.app import get_server
from trame.ui.html import DivLayout
from trame.widgets import html

server = get_server(client_type="vue3")
with DivLayout(server):
    html.Div("Hello")
server.start()
"""


@pytest.mark.timeout(400)
async def test_a_trame_application_takes_a_new_secret_as_it_is(
    launcher: Any, warm_site: Any
) -> None:
    changed = new_secret()
    changed["applications"]["warm"] |= {
        "template": "trame.sh",
        "properties": {"program": None, "script": warm_site.program("hello.py", TRAME)},
        "parameters": None,
        "wait": 200,
    }
    async with launcher(**changed) as api:
        (waiting,) = await ready(api.sessions)
        old = waiting.secret
        session = await launched(api)
        assert (session["id"], session["secret"] == old) == (waiting.id, False)
        url = f"ws://{session['sessionURL'].split('/')[2]}/ws"
        async with WslinkClient.connect(url, session["secret"]):
            pass
        with pytest.raises(PermissionError):
            async with WslinkClient.connect(url, old):
                pass


async def test_one_that_takes_no_new_secret_is_ended_and_the_launch_begins_as_ever(
    launcher: Any, warm_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcbridge.warm.secret.LIMIT", 0.3)
    program = {"program": str(warm_site.root / "refuses")}
    changed = new_secret()
    changed["applications"]["warm"]["properties"] = program
    async with launcher(**changed) as api:
        (waiting,) = await ready(api.sessions)
        session = await launched(api)
        assert session["id"] != waiting.id
        assert await knows(session)
        gone = await api.row(waiting.id)
        await until(lambda: gone.state == "ended", "its end")
        assert gone.user is None


async def test_the_page_is_told_whether_one_is_ready(launcher: Any) -> None:
    async def told(api: Any) -> dict[str, bool]:
        reply = (await api.client.get("/paraview/applications")).json()
        return {each["name"]: each["warm"] for each in reply["applications"]}

    async with launcher(limits={"sessions": 1}) as api:
        await ready(api.sessions)
        assert (await told(api))["warm"] is True
        assert (await told(api))["cone"] is False
        await launched(api)
        assert (await told(api))["warm"] is False


async def test_other_parameters_begin_a_session_as_ever(launcher: Any) -> None:
    async with launcher() as api:
        (waiting,) = await ready(api.sessions)
        session = await launched(api, WARM | {"level": 4})
        assert session["id"] != waiting.id
        assert (await launched(api, WARM | {"level": "3"}))["id"] == waiting.id


async def test_a_launch_that_is_repeated_with_its_key_has_one_session(launcher: Any) -> None:
    async with launcher(**new_secret(count=2)) as api:
        await ready(api.sessions, 2)
        key = {"headers": {"Idempotency-Key": "0123456789abcdef"}}
        first = await launched(api, **key)
        assert await launched(api, **key) == first
        assert await knows(first)
        other = await api.post(WARM | {"level": 4}, **key)
        assert other.status_code == 422


async def test_launches_side_by_side_never_share_a_session(launcher: Any) -> None:
    async with launcher(**new_secret(count=2)) as api:
        await ready(api.sessions, 2)
        found = await asyncio.gather(*(launched(api) for _ in range(4)))
        assert len({each["id"] for each in found}) == 4
        assert all([await knows(each) for each in found])


async def looks(api: Any, count: int) -> None:
    """Let the pools be looked at some times."""
    wake = api.sessions.pools._wake
    for _ in range(count):
        wake.set()
        await until(lambda: not wake.is_set(), "a look")


async def test_a_warm_session_is_one_session_before_and_after(
    launcher: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with launcher(limits={"sessions": 2}) as api:
        await ready(api.sessions)
        first = await launched(api)  # two: this one, and the one that takes its place
        await ready(api.sessions, but=(first["id"],))
        second = await launched(api)  # none can take its place now
        await looks(api, 4)
        assert caplog.text.count("warm sessions of 'warm': 2 of 2 sessions") == 1
        assert (await api.post(WARM)).status_code == 503
        assert {row.id for row in await api.sessions.store.page(Selection(), 100)} == {
            first["id"],
            second["id"],
        }


async def test_nobody_asks_for_a_warm_session_and_it_stays_and_its_time_begins_with_its_user(
    launcher: Any,
) -> None:
    limits = {"keep": 0.2, "idle": 1, "longest": 600}
    async with launcher(applications={"warm": limits}) as api:
        (waiting,) = await ready(api.sessions)
        session = api.sessions.session(waiting.id)
        assert [limit.ours for limit in session.expiries] == [False]
        await until(lambda: session.keepalive.until is None, "the pool's interest")
        reply = await launched(api)
        told = (await api.client.get(f"/paraview/{reply['id']}")).json()
        ends = {limit.reason: limit.at for limit in session.expiries}
        assert ends["timed_out"] <= told["handed_over_at"] + 3600.001
        assert ends["idle"] >= told["handed_over_at"] + 0.999
        assert max(session.expiries, key=lambda each: each.ours).ours
        await until(lambda: session.row.state == "ended", "its end")
        assert session.row.reason == "idle"


async def test_a_pool_whose_sessions_fail_tries_once_and_then_waits(
    launcher: Any, warm_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    changed = {"properties": {"program": str(warm_site.root / "crash")}}
    async with launcher(applications={"warm": changed}) as api:
        await until(lambda: "failed before anybody had them" in caplog.text, "a word of it")
        await looks(api, 5)
        assert len(await api.sessions.pools._warm_store.rows("warm", 0.0)) == 1
        assert caplog.text.count("failed before anybody had them") == 1


async def test_when_the_service_stops_its_warm_sessions_end_and_the_users_go_on(
    warm_site: Any,
) -> None:
    settings = warm_site.settings()
    async with service.running(settings) as (sessions, _):
        (waiting,) = await ready(sessions)
        session = await sessions.launches.begin("warm", WARM)
        assert session.row.id == waiting.id
        await ready(sessions)
    assert len(warm_site.directories()) == 1
    async with service.running(settings, end_sessions=True) as (sessions, _):
        there = {row.id: row.state for row in await sessions.store.page(Selection(), 100)}
        assert there[session.row.id] == "ready"


async def test_one_that_was_put_aside_when_the_service_was_lost_is_nobodys_and_ends(
    warm_site: Any,
) -> None:
    settings = warm_site.settings(applications={"warm": {"keep": 0.1}})
    wish = Asked("request", "key", "alice", None)
    async with service.running(settings) as (sessions, _):
        (waiting,) = await ready(sessions)
        warm_store = WarmStore(sessions.store)
        aside = await warm_store.assign(
            waiting.pool or "", wish, 0.0, {"here": None}, among=[waiting.id], wholly=False
        )
        assert aside is not None
        assert aside.id == waiting.id
    async with service.running(settings, end_sessions=True) as (sessions, _):
        session = sessions.session(waiting.id)
        assert session is not None
        await until(lambda: session.row.state == "ended", "its end")
        assert session.row.reason == "idle"
        again = await sessions.launches.begin("warm", WARM, key="key")
        assert again.row.id != waiting.id


async def test_parameters_that_cannot_be_keep_the_service_from_starting(launcher: Any) -> None:
    wrong = {"applications": {"warm": {"warm": {"parameters": {"level": "many"}}}}}
    with pytest.raises(ConfigError, match=r"applications\.warm\.warm\.parameters: .*level"):
        async with launcher(**wrong):
            pass


async def test_nodes_that_cannot_be_counted_keep_the_service_from_starting(launcher: Any) -> None:
    wrong = {"applications": {"warm": {"options": {"nodes": "2-4"}}}}
    with pytest.raises(ConfigError, match=r"applications\.warm\.warm\.nodes: .*2-4"):
        async with launcher(**wrong):
            pass
    wrong["applications"]["warm"]["warm"] = {"nodes": 4}
    async with launcher(**wrong) as api:
        await ready(api.sessions)


async def test_one_that_is_begun_while_the_service_stops_is_ended_with_the_others(
    launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, written = WarmStore.add, asyncio.Event()

    async def slowly(*arguments: Any) -> bool:
        made = await add(*arguments)
        written.set()
        await asyncio.sleep(0.5)  # the service stops meanwhile
        return made

    monkeypatch.setattr(WarmStore, "add", slowly)
    async with launcher():  # which ends its sessions, or tells of those that it cannot end
        await written.wait()
