"""On which of an application's clusters a launch goes: where it starts soonest, or on the first.

A launch relies on what is known already (:mod:`hpcbridge.clusters.forecasts`); where nothing is,
it waits for an answer, but never for long. Clusters that are drained or do not answer are left out.
"""

import asyncio
import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcbridge.clusters.announcements import Announcements
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.clusters.forecasts import ForecastPoller, Waits
from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.settings import Settings
from hpcbridge.errors import AccountRefused, BadParameter, UnknownApplication
from hpcbridge.jobscripts.samples import sample_request
from hpcbridge.schedulers.base import JobRequest

PATIENCE = 0.5
"""Seconds that a launch waits for what is not known yet; twice that while nothing is known."""
SAME = 5.0
"""Seconds that make no difference: clocks are not equal, and neither are launches."""


@dataclass(frozen=True)
class Place:
    """Where a launch goes, and as which account; ``shut`` says why it can go nowhere, if so."""

    cluster: str
    account: str | None = None
    shut: str = ""


@dataclass(frozen=True)
class ClusterStatus:
    """One of an application's clusters: ``notice`` says why new sessions may not get there now, if
    so; ``wait`` is in seconds, None where it is not known."""

    name: str
    title: str
    notice: str = ""
    silent_since: float | None = None
    wait: float | None = None


class Placement:
    """Chooses clusters, and says of each what keeps sessions away from it.

    ``waits(application, cluster)`` tells how long its last sessions there waited, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        clusters: Mapping[str, Cluster],
        waits: Waits,
        announcements: Announcements | None = None,
    ) -> None:
        self._settings = settings
        #: What operators announce, and what they drain.
        self.announcements = announcements or Announcements(settings)
        self._clusters = clusters
        self._forecasts = {
            name: ForecastPoller(cluster, self._requests(name), waits)
            for name, cluster in clusters.items()
        }

    def reconfigure(self) -> None:
        """The settings have other applications, or other clusters are drained."""
        for name, poller in self._forecasts.items():
            poller.reconfigure(self._requests(name))

    def _requests(self, cluster: str) -> dict[str, functools.partial[JobRequest]]:
        if self._settings.clusters[cluster].drain:
            return {}
        # As they are now: another thread reads them.
        applications = dict(self._settings.applications)
        settings = self._settings.model_copy(update={"applications": applications})
        return {
            name: functools.partial(sample_request, settings, name, cluster)
            for name, wanted in applications.items()
            if cluster in wanted.cluster and len(wanted.cluster) > 1
        }

    def start(self) -> None:
        """Begin to ask the clusters."""
        for each in self._forecasts.values():
            each.start()

    async def close(self) -> None:
        """Ask no more."""
        await asyncio.gather(*(each.close() for each in self._forecasts.values()))

    def asked_for(self, application: str, posted: Mapping[str, object]) -> str | None:
        """The cluster that the client wants; None where it may not say or does not.

        Raises :class:`~hpcbridge.errors.BadParameter` for one that is not the application's.
        """
        wanted = self._settings.applications[application]
        cluster = posted.get("cluster")
        if not wanted.cluster_by_request or cluster is None:
            return None
        if not isinstance(cluster, str) or cluster not in wanted.cluster:
            names = ", ".join(wanted.cluster)
            raise BadParameter(f"'cluster' must be one of: {names}. Without it, one is chosen.")
        return cluster

    async def place(self, application: str, cluster: str | None, user: str | None) -> Place:
        """Where ``user``'s launch goes: to ``cluster``, or to the best one, by what was announced
        when that was last looked at.

        Raises :class:`~hpcbridge.errors.AccountRefused` where none lets this user in,
        :class:`~hpcbridge.errors.AccountsUnknown`, and
        :class:`~hpcbridge.errors.UnknownApplication` for one that has just gone.
        """
        wanted = self._settings.applications.get(application)
        if wanted is None:
            raise UnknownApplication(f"There is no application '{application}' any more.")
        candidates = [cluster] if cluster else wanted.cluster
        if shut := self.announcements.shut(application):
            return Place(candidates[0], shut=shut)
        if len(wanted.cluster) > 1:
            await self._refresh(application, candidates)
        notifications = {
            name: self._keeps_away(application, name, candidates) for name in candidates
        }
        open_ = [name for name in candidates if not notifications[name]]
        if not open_:
            return Place(candidates[0], shut=f"{' '.join(notifications.values())} Try again later.")
        refused: AccountRefused | None = None
        for name in self._ranked(application, wanted, open_):
            try:
                account = await self._clusters[name].account_of(user)
            except AccountRefused as error:
                refused = refused or error
                continue
            self._forecasts[name].launched()
            return Place(name, account)
        assert refused is not None
        raise refused

    def outlooks(self, application: str) -> list[ClusterStatus]:
        """What a launch may expect now of each of the application's clusters."""
        found = []
        for cluster in self._settings.applications[application].cluster:
            self._forecasts[cluster].want()
            found.append(
                ClusterStatus(
                    cluster,
                    self._title(cluster),
                    self._notice(application, cluster),
                    self._forecasts[cluster].silent_since,
                    self._wait(application, cluster),
                )
            )
        return found

    def _title(self, cluster: str) -> str:
        return self._settings.clusters[cluster].title or cluster

    def _notice(self, application: str, cluster: str) -> str:
        name, forecasts = self._title(cluster), self._forecasts[cluster]
        if drained := self.announcements.drained(cluster):
            return drained
        if forecasts.silent_since is not None:
            since = _clock(forecasts.silent_since)
            return f"{name} has not answered since {since}. Sessions that run there go on."
        known = forecasts.of(application)
        if known is not None and known.forecast.closed:
            return f"{name} starts no sessions now: {known.forecast.closed}."
        return ""

    def _wait(self, application: str, cluster: str) -> float | None:
        """Seconds that the next session would wait there, as far as is known."""
        known = self._forecasts[cluster].of(application)
        if known is None or known.forecast.wait is None:
            return known.past if known else None
        return max(0.0, known.forecast.wait - (time.monotonic() - known.asked))

    def _keeps_away(self, application: str, cluster: str, candidates: Sequence[str]) -> str:
        """The notice, but for silence where there is no other: what is known of it may be old."""
        silent = self._forecasts[cluster].silent_since is not None
        if silent and len(candidates) == 1 and not self.announcements.drained(cluster):
            return ""
        return self._notice(application, cluster)

    async def _refresh(self, application: str, candidates: Sequence[str]) -> None:
        """Wait for the clusters of which an answer can be expected, but not for long."""
        open_ = [name for name in candidates if not self.announcements.drained(name)]
        asked = [self._forecasts[name] for name in open_]
        for each in asked:
            each.want()
        waits = [asyncio.create_task(each.fresh(application)) for each in asked]
        try:
            if waits and not (await asyncio.wait(waits, timeout=PATIENCE))[0]:
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(waits, timeout=PATIENCE, return_when=first)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _ranked(
        self, application: str, wanted: ApplicationSettings, clusters: Sequence[str]
    ) -> list[str]:
        """The best first. Of equal ones, that which got fewer launches since it was asked."""
        ranks = {name: self._rank(application, wanted, name) for name in clusters}
        soonest = min(wait for _, wait, _ in ranks.values())

        def key(name: str) -> tuple[int, float, int]:
            group, wait, more = ranks[name]
            return group, 0.0 if wait < soonest + SAME else wait, more

        return sorted(clusters, key=key)

    def _rank(
        self, application: str, wanted: ApplicationSettings, cluster: str
    ) -> tuple[int, float, int]:
        """First those that said when, then those that answered, that did not, that would refuse;
        the seconds to wait; and the launches of which nobody had heard there."""
        forecasts = self._forecasts[cluster]
        known = forecasts.of(application)
        if known is None:
            return 2, math.inf, 0
        if known.refused:
            return 3, math.inf if known.past is None else known.past, 0
        if wanted.choose == "first":
            return 0, 0.0, 0
        more, room = forecasts.launched_since(known), known.forecast.room
        wait = self._wait(application, cluster)
        if wait is None or (wait < SAME and room is not None and more >= room):
            return 1, math.inf, more
        return 0, wait, more


def _clock(when: float) -> str:
    """A time of the last days, for people, in this machine's time zone."""
    then, today = time.localtime(when), time.localtime()
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M %Z" if same_day else "%A %H:%M %Z", then)
