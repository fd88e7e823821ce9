"""Named machines as a scheduler: a queue in a directory that they share, slots on each."""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbridge.config.hosts import HERE, HostsCluster
from hpcbridge.errors import ClusterError, ClusterUnreachable, NoCapacity, OutcomeUnknown
from hpcbridge.schedulers.base import (
    Forecast,
    JobInfo,
    JobRequest,
    Kind,
    Listing,
    Outlook,
    Site,
)
from hpcbridge.schedulers.hosts import commands
from hpcbridge.schedulers.hosts.fleet import Fleet, Host
from hpcbridge.schedulers.hosts.jobs import Job, Queue
from hpcbridge.schedulers.local.slots import latest_starts

PLACINGS = 3
"""How often waiting jobs are offered to hosts in one go: a host may have less room than it had."""


@dataclass(frozen=True)
class _Seen:
    """What queue and hosts told at about the same time."""

    waiting: Sequence[Job]
    jobs: Mapping[str, Job]
    untold: frozenset[str]


@dataclass(frozen=True)
class Condition:
    """How a machine is.

    ``shared`` tells whether it sees the directory ``state``, and ``kills`` whether its login
    manager ends what a login leaves behind. ``python`` is the version of the one that is used.
    """

    state: str
    shared: bool
    kills: bool
    python: str


class HostsScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` for the machines of a site.

    It keeps nothing: queue and jobs are files in ``session_root``, so that any service goes on
    from them, and a machine that takes a job from the queue is the only one that has it.
    """

    def __init__(self, site: Site[HostsCluster]) -> None:
        settings = site.settings
        self._name = site.name
        self._settings = settings
        self._transport = site.transport
        self._python = settings.python or "python3"
        self._limit = settings.command_timeout
        own = {key: os.environ[key] for key in settings.inherit if key in os.environ}
        hosts = [
            Host(
                each.name,
                each.slots,
                site.machines[each.name],
                python=self._python,
                environment={**(own if each.name == HERE else {}), **settings.environment},
                timeout=self._limit,
            )
            for each in settings.hosts
        ]
        self._fleet = Fleet(hosts, self._limit)
        self._placing = asyncio.Lock()
        self._root = ""
        self._token = ""

    def notify(self, changed: Callable[[], None]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.notify`; nobody tells."""

    async def submit(self, request: JobRequest) -> str:
        """Queue a job, and start it if a host has a free slot.

        Raises :class:`~hpcbridge.errors.NoCapacity` when the queue is full.
        """
        job = {
            "name": request.name,
            "directory": request.directory,
            "script": request.script,
            "walltime": request.walltime,
        }
        asked = commands.question("add", await self._state(), job=job)
        done = await self._transport.run(
            commands.argv(self._python), stdin=asked, timeout=2 * self._limit
        )
        job_id = commands.added(done, "the machine where the commands run")
        try:
            waiting = await self._place(await self._look())
        except ClusterError:
            return job_id  # it is in the queue
        if job_id in waiting and waiting.index(job_id) >= self._settings.queue:
            await self._turn_away(job_id, request.name)
        return job_id

    async def _turn_away(self, job_id: str, name: str) -> None:
        try:
            holders = (await self._ask("withdraw", jobs={job_id: name}, forget=True))["holders"]
        except ClusterError as error:
            raise OutcomeUnknown(f"The job may be queued: {error}") from error
        if holders.get(job_id):  # a host took it at the last moment
            return
        silent = ", ".join(each.name for each in self._fleet.silent)
        raise NoCapacity(
            f"All slots ({self._fleet.slots}) and places in the queue ({self._settings.queue}) are "
            f"taken{f', and {silent} cannot be asked' if silent else ''}. Try again when a session "
            "has ended."
        )

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`; starts what can be started."""
        seen = await self._look()
        await self._place(seen)
        return self._listing(seen)

    async def told(self) -> Listing:
        """The same, and nothing is started."""
        return self._listing(await self._look(act=False))

    def _listing(self, seen: _Seen) -> Listing:
        jobs = dict(seen.jobs)
        for host in self._fleet.hosts:
            if not host.silent:  # what was placed since is among its jobs
                jobs |= {key: job for key, job in host.jobs.items() if key not in seen.untold}
        why = self._why_waiting()
        ahead = 0
        infos = {key: job.info() for key, job in jobs.items()}
        for job in seen.waiting:
            if job.job_id not in infos:
                behind = f", {ahead} ahead" if ahead else ""
                infos[job.job_id] = job.info(f"waiting for a free slot{behind}{why}")
                ahead += 1
        return Listing(infos, untold=seen.untold - infos.keys())

    def _why_waiting(self) -> str:
        silent = [each.name for each in self._fleet.silent]
        return f"; {', '.join(silent)} cannot be asked" if silent else ""

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`.

        ``start`` is the latest: a job that ends before its walltime lets others start earlier.
        """
        if not job_ids:
            return {}
        waiting = (await self._look()).waiting
        starts = self._starts([job.walltime for job in waiting], time.time())
        return {
            job.job_id: Outlook(ahead=ahead, start=start, waits_for="a free slot")
            for ahead, (job, start) in enumerate(zip(waiting, starts, strict=True))
            if job.job_id in job_ids
        }

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`; ``wait`` is the longest."""
        waiting = (await self._look(act=False)).waiting
        room = max(0, sum(each.free for each in self._fleet.hosts) - len(waiting))
        if not room and len(waiting) >= self._settings.queue:
            return Forecast(closed="all its slots and places in the queue are taken")
        now = time.time()
        start = self._starts([*(job.walltime for job in waiting), request.walltime], now)[-1]
        return Forecast(None if start is None else start - now, room)

    def _starts(self, walltimes: Sequence[float | None], now: float) -> list[float | None]:
        answering = [each for each in self._fleet.hosts if not each.silent]
        ends = [now + job.left for each in answering for job in each.running]
        slots = sum(max(each.slots, len(each.running)) for each in answering)
        return latest_starts(slots, ends, walltimes, now) if slots else [None] * len(walltimes)

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        found = (await self._ask("find", name=name)).get("id")
        return None if found is None else str(found)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        if not commands.ids([job_id]):
            return None
        for host in self._fleet.hosts:
            if (known := host.jobs.get(job_id)) and known.over:
                return known.info()
        listing = self._listing(await self._look())
        if job_id in listing.untold:
            raise ClusterUnreachable(f"The host of job {job_id} cannot be asked.")
        return listing.jobs.get(job_id)

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`."""
        wanted = {job_id: jobs[job_id] for job_id in commands.ids(list(jobs))}
        if not wanted:
            return
        told = (await self._ask("withdraw", jobs=wanted, forget=False))["holders"]
        holders: dict[str, list[str]] = {}
        for job_id, host in told.items():
            if any(each.name == host for each in self._fleet.hosts):
                holders.setdefault(host, []).append(job_id)
        if holders:
            await self._fleet.cancel(holders, await self._state(), await self._known_token())

    async def examine(self, host: str) -> Condition:
        """What jobs need of a machine. Raises :class:`~hpcbridge.errors.ClusterError`."""
        state, token = await self._state(), (await self._queue()).token
        told = await self._fleet[host].ask("examine", state)
        shared = told.get("token") == token
        return Condition(state, shared, bool(told.get("kills")), str(told.get("python")))

    async def close(self) -> None:
        """Ask no more; the jobs go on."""
        await self._fleet.close()

    # -- queue and hosts

    async def _state(self) -> str:
        if not self._root:
            root = self._settings.session_root or f"{await self._transport.home()}/.hpcbridge"
            self._root = f"{root}/.hosts/{self._name}"
        return self._root

    async def _ask(self, do: str, **more: object) -> dict[str, Any]:
        asked = commands.question(do, await self._state(), **more)
        done = await self._transport.run(
            commands.argv(self._python), stdin=asked, timeout=self._limit
        )
        return commands.answer(done, "the machine where the commands run")

    async def _queue(self) -> Queue:
        names = [each.name for each in self._fleet.hosts]
        queue = Queue.read(await self._ask("queue", hosts=names))
        self._token = queue.token
        return queue

    async def _known_token(self) -> str:
        """By which hosts show that they see the same directory."""
        return self._token or (await self._queue()).token

    async def _look(self, *, act: bool = True) -> _Seen:
        state, token = await self._state(), await self._known_token()
        asking = self._queue(), self._fleet.round(state, token, act=act)
        queue, answered = await asyncio.gather(*asking, return_exceptions=True)
        if isinstance(queue, BaseException):
            raise queue
        if isinstance(answered, BaseException):
            raise answered
        jobs = {job.job_id: job for job in queue.left}
        untold: set[str] = set()
        for host in self._fleet.hosts:
            if host.name in answered:
                jobs |= host.jobs
            # Those it has taken since it was asked are untold too.
            untold.update(set(queue.taken.get(host.name, ())) - jobs.keys())
        waiting = [job for job in queue.waiting if job.job_id not in jobs]
        return _Seen(waiting, jobs, frozenset(untold))

    async def _place(self, seen: _Seen) -> list[str]:
        """Start waiting jobs on free slots, in order; the ids of those that still wait."""
        waiting = [job.job_id for job in seen.waiting]
        if not waiting:
            return waiting
        async with self._placing:
            for _ in range(PLACINGS):
                known = {key for each in self._fleet.hosts for key in each.jobs}
                waiting = [each for each in waiting if each not in known]
                chosen = self._chosen(waiting)
                if not chosen:
                    break
                state, token = await self._state(), await self._known_token()
                gone = await self._fleet.start(chosen, state, token)
                waiting = [each for each in waiting if each not in gone]
        known = {key for each in self._fleet.hosts for key in each.jobs}
        return [each for each in waiting if each not in known]

    def _chosen(self, waiting: Sequence[str]) -> dict[str, list[str]]:
        """For each host with free slots the jobs to be started there: the emptiest first."""
        free = {each.name: each.free for each in self._fleet.hosts}
        chosen: dict[str, list[str]] = {}
        for job_id in waiting:
            host = max(free, key=lambda name: free[name])
            if not free[host]:
                break
            free[host] -= 1
            chosen.setdefault(host, []).append(job_id)
        return chosen


KIND = Kind(HostsCluster, HostsScheduler)
