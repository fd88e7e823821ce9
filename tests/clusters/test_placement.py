"""Which of several clusters a launch gets: by forecasts, by what was launched since, by silence."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from hpcbridge.clusters import forecasts as forecasts_module
from hpcbridge.clusters import placement as placement_module
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.forecasts import KnownForecast
from hpcbridge.clusters.placement import Placement
from hpcbridge.errors import (
    AccountRefused,
    BadParameter,
    ClusterUnreachable,
    JobRejected,
    UnexpectedReply,
    UnknownApplication,
)
from hpcbridge.schedulers.base import Forecast, JobRequest
from tests.fakes import FakeScheduler, fake_cluster
from tests.waiting import until

NOW = Forecast(wait=0.0)
SOON, LATE = Forecast(wait=60.0), Forecast(wait=600.0)
DOWN = ClusterUnreachable("The login host does not answer.")


class Forecasting(FakeScheduler):
    """Answers what the test says; ``hangs`` keeps it from answering at all."""

    def __init__(self) -> None:
        super().__init__()
        self.says: Forecast | Exception = NOW
        self.hangs = False
        self.asked: list[JobRequest] = []

    async def forecast(self, request: JobRequest) -> Forecast:
        self.asked.append(request)
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Accounts:
    """Lets nobody in but ``known``."""

    def __init__(self, *known: str) -> None:
        self.known = known

    async def account(self, user: str | None) -> str:
        if user not in self.known:
            raise AccountRefused(f"{user} has no account here.")
        return f"x{user}"


@dataclass
class World:
    """Clusters 'a', 'b' and 'c' in this order, and a choice between them for 'cone'."""

    placement: Placement
    clusters: dict[str, Cluster]
    waits: dict[str, list[float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.clusters[name].scheduler

    async def go(self, cluster: str | None = None, user: str | None = None) -> str:
        place = await self.placement.place("cone", cluster, user)
        return f"shut: {place.shut}" if place.shut else place.cluster

    def outlook(self, name: str) -> Any:
        return next(each for each in self.placement.outlooks("cone") if each.name == name)

    async def known(self) -> None:
        """Every cluster was asked."""
        await until(lambda: all(self[name].asked for name in self.clusters))
        await asyncio.sleep(0)


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def world(site: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes worlds whose clusters are asked every 20 ms, unless the test says otherwise."""
    for name in ("INTERVAL", "INTERVAL_SILENT", "SOON"):
        monkeypatch.setattr(forecasts_module, name, 0.02)
    monkeypatch.setattr(forecasts_module, "SHARE", 0)
    monkeypatch.setattr(placement_module, "PATIENCE", 5.0)
    made: list[World] = []

    async def make(*, clusters: dict[str, Any] | None = None, **says: Any) -> World:
        sections = {name: {"scheduler": "local"} for name in "abc"}
        for name, more in (clusters or {}).items():
            sections[name] |= more
        cone = {"cluster": list("abc"), "cluster_by_request": True}
        more = says.pop("cone", {})
        settings = site.settings(
            clusters=sections | {"here": None}, applications=_all(site, "a") | {"cone": cone | more}
        )
        built = {}
        for name in "abc":
            cluster = built[name] = fake_cluster()
            cluster.name, cluster.scheduler = name, Forecasting()
            cluster.scheduler.says = says.get(name, NOW)
        waits: dict[str, list[float]] = {}

        async def waited(application: str, cluster: str) -> list[float]:
            assert application == "cone"
            return waits.get(cluster, [])

        made.append(World(Placement(settings, built, waited), built, waits))
        return made[-1]

    yield make
    for each in made:
        await each.placement.close()


def _all(site: Any, cluster: str) -> dict[str, Any]:
    return {name: {"cluster": cluster} for name in site.config["applications"]}


@pytest.mark.parametrize(
    ("says", "goes"),
    [
        ({"a": LATE, "b": NOW, "c": SOON}, "b"),
        ({"a": LATE, "b": SOON, "c": LATE}, "b"),
        ({"a": NOW, "b": NOW, "c": NOW}, "a"),
        ({"a": Forecast(wait=4.0), "b": NOW, "c": LATE}, "a"),  # both start at once
        ({"a": Forecast(), "b": LATE, "c": Forecast()}, "b"),  # of one it is known when
        ({"a": Forecast(), "b": Forecast(), "c": Forecast()}, "a"),
        ({"a": JobRejected("no"), "b": Forecast(), "c": LATE}, "c"),
        ({"a": JobRejected("no"), "b": JobRejected("no"), "c": Forecast()}, "c"),
        ({"a": JobRejected("no"), "b": JobRejected("no"), "c": JobRejected("no")}, "a"),
        ({"a": UnexpectedReply("?"), "b": Forecast(), "c": LATE}, "c"),
        ({"a": Forecast(closed="its partition is down"), "b": LATE, "c": LATE}, "b"),
        ({"a": DOWN, "b": LATE, "c": SOON}, "c"),
        ({"a": RuntimeError("a bug"), "b": LATE, "c": SOON}, "c"),
    ],
)
async def test_a_launch_goes_where_it_starts_soonest(
    world: MakeWorld, says: dict[str, Any], goes: str
) -> None:
    here = await world(**says)
    here.placement.start()
    await here.known()
    assert await here.go() == goes


async def test_the_first_launch_waits_for_the_first_answers(world: MakeWorld) -> None:
    here = await world(a=LATE, b=NOW, c=LATE)
    here.placement.start()
    assert await here.go() == "b"


async def test_a_cluster_that_hangs_delays_no_launch_beyond_its_patience(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_module, "PATIENCE", 0.2)
    here = await world(a=NOW, b=NOW, c=LATE)
    here["a"].hangs = True
    here.placement.start()
    await here.known()
    began = time.monotonic()
    assert await here.go() == "b"
    assert 0.2 <= time.monotonic() - began < 10


async def test_where_all_hang_the_first_is_tried_after_twice_the_patience(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_module, "PATIENCE", 0.2)
    here = await world()
    for name in "abc":
        here[name].hangs = True
    here.placement.start()
    began = time.monotonic()
    assert await here.go() == "a"
    assert 0.4 <= time.monotonic() - began < 10


async def test_a_cluster_that_hangs_for_too_long_counts_as_silent(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts_module, "LIMIT", 2)
    here = await world(a=NOW, b=LATE, c=LATE)
    here["a"].hangs = True
    here.placement.start()
    await until(lambda: here.outlook("a").silent_since)
    assert await here.go() == "b"
    here["a"].hangs = False
    await until(lambda: not here.outlook("a").silent_since)
    assert await here.go() == "a"


async def test_the_only_free_slot_is_not_given_twice(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await world(a=Forecast(wait=0.0, room=1), b=LATE, c=SOON)
    here.placement.start()
    await here.known()
    monkeypatch.setattr(forecasts_module, "SOON", 60.0)
    assert await asyncio.gather(here.go(), here.go(), here.go()) == ["a", "c", "c"]


async def test_what_starts_at_once_is_shared_between_launches_that_come_together(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await world(a=NOW, b=NOW, c=LATE)
    here.placement.start()
    await here.known()
    monkeypatch.setattr(forecasts_module, "SOON", 60.0)
    assert [await here.go() for _ in range(4)] == ["a", "b", "a", "b"]


async def test_after_a_launch_the_cluster_is_asked_again_before_its_time(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts_module, "INTERVAL", 60.0)
    here = await world(a=Forecast(wait=0.0, room=1), b=LATE, c=LATE)
    here.placement.start()
    await here.known()
    assert await here.go() == "a"
    here["a"].says = Forecast(wait=900.0)
    await until(lambda: here.outlook("a").wait not in (None, 0.0))
    assert await here.go() == "b"
    assert len(here["c"].asked) == 1


async def test_past_waits_count_where_the_scheduler_tells_nothing(world: MakeWorld) -> None:
    here = await world(a=Forecast(), b=SOON, c=Forecast())
    here.waits |= {"a": [100.0, 90.0, 5000.0], "c": [10.0, 20.0]}
    here.placement.start()
    await here.known()
    assert await here.go() == "c"
    assert (here.outlook("a").wait, here.outlook("c").wait) == (100.0, 15.0)


async def test_past_waits_count_where_the_adapter_can_foresee_nothing(world: MakeWorld) -> None:
    here = await world(b=LATE, c=LATE)
    here.clusters["a"].scheduler = FakeScheduler()
    here.waits |= {"a": [10.0]}
    here.placement.start()
    assert await here.go() == "a"
    assert here.outlook("a").wait == 10.0


async def test_past_waits_count_where_the_services_account_may_not_ask(world: MakeWorld) -> None:
    no = JobRejected("Slurm would refuse the job: Invalid account.")
    here = await world(a=no, b=no, c=no)
    here.waits |= {"a": [100.0], "b": [20.0]}
    here.placement.start()
    await here.known()
    assert await here.go() == "b"


async def test_the_first_that_answers_is_taken_where_that_is_wanted(world: MakeWorld) -> None:
    here = await world(a=DOWN, b=LATE, c=NOW, cone={"choose": "first"})
    here.placement.start()
    await here.known()
    assert await here.go() == "b"


async def test_a_drained_cluster_gets_nothing_and_is_not_asked(world: MakeWorld) -> None:
    here = await world(clusters={"a": {"drain": "new disks until Monday.", "title": "Alpha"}})
    here.placement.start()
    await until(lambda: here["b"].asked and here["c"].asked)
    assert await here.go() == "b"
    assert here["a"].asked == []
    said = "Alpha takes no new sessions: new disks until Monday. Those that run there go on."
    assert here.outlook("a").notice == said
    assert await here.go("a") == f"shut: {said} Try again later."


async def test_where_none_is_left_all_are_named(world: MakeWorld) -> None:
    shut = Forecast(closed="its partition viz is down")
    here = await world(a=DOWN, b=shut, clusters={"c": {"drain": "maintenance"}})
    here.placement.start()
    await until(lambda: here.outlook("a").notice and here.outlook("b").notice)
    said = await here.go()
    assert said.startswith("shut: a has not answered since ")
    assert "b starts no sessions now: its partition viz is down." in said
    assert said.endswith(
        "c takes no new sessions: maintenance. Those that run there go on. Try again later."
    )


async def test_a_silent_cluster_that_is_asked_for_by_name_is_tried(world: MakeWorld) -> None:
    here = await world(a=DOWN)
    here.placement.start()
    await until(lambda: here.outlook("a").silent_since)
    assert await here.go("a") == "a"


async def test_a_silent_cluster_is_tried_where_the_application_has_no_other(
    world: MakeWorld,
) -> None:
    here = await world(a=DOWN, cone={"cluster": ["a"]})
    here.clusters["a"].watcher.health.failed()
    assert here.outlook("a").notice.startswith("a has not answered since ")
    assert await here.go() == "a"
    two = await world(a=DOWN, b=DOWN, cone={"cluster": ["a", "b"]})
    for name in "ab":
        two.clusters[name].watcher.health.failed()
    assert (await two.go()).startswith("shut: a has not answered since ")
    drained = await world(clusters={"a": {"drain": "new disks"}})
    drained.clusters["a"].watcher.health.failed()
    assert (await drained.go("a")).startswith("shut: a takes no new sessions: new disks.")


async def test_silence_that_the_watcher_met_counts_until_it_hears_again(world: MakeWorld) -> None:
    here = await world(a=NOW, b=LATE, c=LATE)
    here.placement.start()
    await here.known()
    health = here.clusters["a"].watcher.health
    asked = len(here["a"].asked)
    here["a"].hangs = True
    await until(lambda: len(here["a"].asked) > asked)  # of this question nothing will be heard
    health.failed()
    assert await here.go() == "b"
    health.answered()
    assert await here.go() == "a"


async def test_a_user_without_an_account_on_the_best_cluster_gets_the_next(
    world: MakeWorld,
) -> None:
    here = await world()
    here.clusters["a"].names = Accounts()  # type: ignore[assignment]
    here.clusters["b"].names = Accounts("ann")  # type: ignore[assignment]
    here.clusters["c"].names = Accounts()  # type: ignore[assignment]
    here.placement.start()
    await here.known()
    place = await here.placement.place("cone", None, "ann")
    assert (place.cluster, place.account) == ("b", "xann")
    with pytest.raises(AccountRefused, match="bob has no account here"):
        await here.go(user="bob")


async def test_nobody_is_asked_while_nobody_wants_to_know(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts_module, "INTEREST", 1.0)
    monkeypatch.setattr(forecasts_module, "STALE", 3.0)
    here = await world(a=LATE, b=LATE, c=NOW)
    here.placement.start()
    await here.known()
    seen, since = 0, time.monotonic()

    def quiet() -> bool:
        """Nobody was asked for so long that nothing is known any more."""
        nonlocal seen, since
        asked = sum(len(here[name].asked) for name in "abc")
        if asked != seen:
            seen, since = asked, time.monotonic()
        return time.monotonic() - since > forecasts_module.STALE

    await until(quiet)
    here["b"].says = NOW
    assert await here.go() == "b"  # asked anew for this launch


async def test_a_question_that_took_long_is_asked_more_seldom(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(forecasts_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(forecasts_module, "SHARE", 20)
    here = await world()
    poller, forecast = here.placement._forecasts["a"], here["a"].forecast

    async def slow(request: JobRequest) -> Forecast:
        clock[0] += 5.0
        return await forecast(request)

    monkeypatch.setattr(here["a"], "forecast", slow)
    poller.start()
    await until(lambda: poller._soonest)
    assert poller._soonest == 1005.0 + 20 * 5.0
    await here.placement.close()
    assert poller._task is not None
    assert poller._task.done()


async def test_where_nothing_is_asked_launches_are_not_counted(world: MakeWorld) -> None:
    here = await world(clusters={"a": {"drain": "new disks"}})
    known = KnownForecast(time.monotonic())
    for name, count in (("a", 0), ("b", 1)):
        assert here.outlook(name).wait is None  # somebody wants to know
        poller = here.placement._forecasts[name]
        poller.launched()
        assert poller.launched_since(known) == count
    later = KnownForecast(time.monotonic() + 2 * forecasts_module.SOON + 1)
    assert here.placement._forecasts["b"].launched_since(later) == 0


async def test_what_was_answered_long_ago_is_not_relied_upon(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    here = await world()
    poller, health = here.placement._forecasts["a"], here.clusters["a"].watcher.health
    poller._known["cone"] = known = KnownForecast(clock[0], SOON)
    health.failed()
    assert (poller.of("cone"), poller.of("other")) == (known, None)
    assert poller.silent_since is not None
    assert here.outlook("a").wait == 60.0
    clock[0] += 20
    assert here.outlook("a").wait == 40.0
    clock[0] += 100
    assert here.outlook("a").wait == 0.0, "it should have started by now"
    clock[0] += forecasts_module.STALE - 121
    assert poller.of("cone") is known
    clock[0] += 1
    assert (poller.of("cone"), poller.silent_since) == (None, None)
    monkeypatch.undo()


async def test_a_refusal_is_told_once_in_the_log(
    world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    here = await world(a=JobRejected("No such partition."))
    poller = here.placement._forecasts["a"]
    request = poller._requests["cone"]
    for _ in range(3):
        poller._known["cone"] = await poller._ask("cone", request)
    assert caplog.text.count("cone on a: No such partition.") == 1
    here["a"].says = JobRejected("Invalid account.")
    assert (await poller._ask("cone", request)).refused == "Invalid account."
    assert caplog.text.count("cone on a: Invalid account.") == 1
    assert here.clusters["a"].watcher.health.tried > 0, "it has answered"


def test_a_time_of_another_day_is_told_with_the_day() -> None:
    now = time.time()
    today, day = time.localtime(now), time.localtime(now - 86400)
    assert placement_module._clock(now) == time.strftime("%H:%M %Z", today)
    assert placement_module._clock(now - 86400) == time.strftime("%A %H:%M %Z", day)


@pytest.mark.parametrize("wrong", ["d", "", "-p", 5, ["a"], {"a": 1}, True])
async def test_a_cluster_that_is_not_the_applications_is_refused(
    world: MakeWorld, wrong: object
) -> None:
    here = await world()
    with pytest.raises(BadParameter, match="'cluster' must be one of: a, b, c"):
        here.placement.asked_for("cone", {"cluster": wrong})


async def test_a_posted_cluster_means_nothing_where_it_is_not_allowed(world: MakeWorld) -> None:
    here = await world(cone={"cluster_by_request": False})
    assert here.placement.asked_for("cone", {"cluster": "b"}) is None


# -- through the API


def two(**more: Any) -> dict[str, Any]:
    """A second cluster, and an application for both."""
    cone = {"cluster": ["here", "there"], "cluster_by_request": True}
    return {
        "clusters": {"here": {"slots": 1, "title": "Here"}, "there": {"scheduler": "local"}},
        "applications": {"cone": cone},
    } | more


async def launched(api: Any, **posted: Any) -> Any:
    body = {"application": "cone"} | posted
    return await api.post(body, headers={"Prefer": "respond-async"})


def drain(api: Any, name: str, why: str) -> None:
    clusters = api.settings.clusters
    clusters[name] = clusters[name].model_copy(update={"drain": why})


async def test_each_launch_gets_the_cluster_that_has_room_for_it(launcher: Any) -> None:
    async with launcher(**two()) as api:
        both = [(await launched(api)).json() for _ in range(2)]
        assert [each["cluster"] for each in both] == ["here", "there"]
        row = await api.row(both[1]["id"])
        assert row.cluster == "there"
        assert row.message != "Submitting the job to here."


async def test_the_applications_say_what_keeps_sessions_away(launcher: Any) -> None:
    async with launcher(**two()) as api:
        drain(api, "here", "new disks")
        reply = await api.client.get("/paraview/applications")
        cone, *others = reply.json()["applications"]
        assert (cone["name"], cone["choosable"]) == ("cone", True)
        here, there = cone["clusters"]
        notice = "Here takes no new sessions: new disks. Those that run there go on."
        assert (here["name"], here["title"], here["notice"]) == ("here", "Here", notice)
        assert (there["name"], there["notice"]) == ("there", "")
        assert others[0]["clusters"][0]["notice"] == notice


async def test_a_drained_cluster_is_a_503_that_says_why_and_when_to_ask_again(
    launcher: Any,
) -> None:
    async with launcher() as api:
        drain(api, "here", "new disks")
        reply = await launched(api)
        assert reply.status_code == 503
        assert reply.headers["Retry-After"] == "30"
        assert reply.json()["error"].startswith("here takes no new sessions: new disks.")


async def test_what_was_begun_before_a_drain_can_still_be_joined_and_goes_on(
    launcher: Any,
) -> None:
    async with launcher(applications={"cone": {"hold": 0.001}}) as api:
        begun = await api.post({"application": "cone"})
        assert begun.status_code == 503
        drain(api, "here", "new disks")
        body = {"application": "cone"}
        while (joined := await api.post(body)).status_code == 503:
            assert joined.json().get("id") == begun.json()["id"], joined.text
        assert (joined.status_code, joined.json()["id"]) == (200, begun.json()["id"])


async def test_a_posted_cluster_is_taken_and_is_part_of_what_was_asked_for(launcher: Any) -> None:
    async with launcher(**two()) as api:
        key = {"Idempotency-Key": "0123456789abcdef", "Prefer": "respond-async"}
        body = {"application": "cone", "cluster": "there"}
        first = await api.post(body, headers=key)
        assert first.json()["cluster"] == "there"
        assert (await api.post(body, headers=key)).json()["id"] == first.json()["id"]
        other = await api.post(body | {"cluster": "here"}, headers=key)
        assert other.status_code == 422
        wrong = await launched(api, cluster="nowhere")
        assert wrong.status_code == 400
        assert wrong.json()["error"].startswith("'cluster' must be one of: here, there.")


async def test_how_long_sessions_waited_is_kept(launcher: Any) -> None:
    async with launcher() as api:
        assert await api.sessions.store.waits("cone", "here") == []
        done = await api.post({"application": "cone"})
        assert done.status_code == 200
        (wait,) = await api.sessions.store.waits("cone", "here")
        row = await api.row(done.json()["id"])
        assert wait == pytest.approx(row.starting_at - row.queued_at)
        assert await api.sessions.store.waits("cone", "there") == []


async def test_an_application_that_has_gone_is_asked_for_no_more_and_goes_nowhere(
    world: MakeWorld,
) -> None:
    here = await world()
    here.placement.start()
    await here.known()
    poller, settings = here.placement._forecasts["a"], here.placement._settings
    assert list(poller._requests) == ["cone"]
    await until(lambda: poller.of("cone"), "an answer")
    request = poller._requests["cone"]
    cone = settings.applications.pop("cone")
    here.placement.reconfigure()
    assert (dict(poller._requests), poller.of("cone")) == ({}, None)
    assert request().name, "what is asked in another thread is as it was"
    with pytest.raises(UnknownApplication, match="no application 'cone' any more"):
        await here.go()
    settings.applications["cone"] = cone
    here.placement.reconfigure()
    assert await here.go() in ("a", "b", "c")
