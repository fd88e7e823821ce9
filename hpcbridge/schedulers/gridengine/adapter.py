"""The adapter: runs the commands, and hands their answers to the functions that read them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.errors import JobRejected, OutcomeUnknown
from hpcbridge.schedulers.base import Forecast, JobInfo, JobRequest, Kind, Listing, Outlook
from hpcbridge.schedulers.gridengine import accounting, commands, queue
from hpcbridge.schedulers.gridengine import forecast as estimates
from hpcbridge.transports.base import Completed, Transport


class GridEngineScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` with Grid Engine's commands.

    Each query gets ``command_timeout`` seconds; qsub and qdel get twice that, because giving up on
    them leaves their outcome unknown. ``accounts`` are others whose jobs are listed as well.
    """

    def __init__(
        self,
        transport: Transport,
        settings: GridEngineCluster,
        accounts: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._accounts = accounts or tuple
        # Why jobs are in error does not change, and is another question: asked once for each.
        self._errors: dict[str, str] = {}

    async def _run(
        self, argv: Sequence[str], *, stdin: bytes = b"", patience: float = 1
    ) -> Completed:
        place, timeout = self._settings, self._settings.command_timeout * patience
        command = [f"{place.bin}/{argv[0]}" if place.bin else argv[0], *argv[1:]]
        given = {"SGE_ROOT": place.root, "SGE_CELL": place.cell}
        environment = [f"{name}={value}" for name, value in given.items() if value]
        prefix = ["env", *environment] if environment else []
        return await self._transport.run([*prefix, *command], stdin=stdin, timeout=timeout)

    async def submit(self, request: JobRequest) -> str:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.submit`."""
        if "$" in request.directory:
            raise JobRejected(
                f"Grid Engine replaces what follows a $ in {request.directory}. "
                "Choose another session_root."
            )
        argv = commands.qsub_argv(request, verify=self._settings.verify)
        return commands.parse_qsub(await self._run(argv, patience=2))

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        jobs = dict(queue.parse_listing(await self._run(queue.listing_argv(self._accounts()))).jobs)
        broken = {job_id for job_id, info in jobs.items() if queue.in_error(info)}
        await self._learn_errors(broken)
        for job_id in broken:
            jobs[job_id] = dataclasses.replace(
                jobs[job_id],
                hopeless=f"Grid Engine could not run the job: {self._errors[job_id]}.",
            )
        return Listing(jobs)

    async def _learn_errors(self, broken: set[str]) -> None:
        self._errors = {key: self._errors[key] for key in broken & self._errors.keys()}
        if new := broken - self._errors.keys():
            told = queue.parse_errors(await self._run(queue.details_argv(new)))
            self._errors |= {job_id: told.get(job_id, "it does not say why") for job_id in new}

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`."""
        ids = {job_id for job_id in job_ids if commands.JOB_ID.fullmatch(job_id)}
        if not ids:
            return {}
        places = queue.parse_waiting(await self._run(queue.WAITING), ids)
        if not places:
            return {}
        reasons = queue.parse_reasons(await self._run(queue.details_argv(places)))
        return {
            job_id: dataclasses.replace(place, waits_for=reasons.get(job_id, ""))
            for job_id, place in places.items()
        }

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`.

        Grid Engine estimates no start: a job starts at once where a queue could take it now and
        nobody waits, and else nothing is said of its start.
        """
        needs, now = estimates.needs(request.text), await self._dry_run(request, now=True)
        if not now and self._settings.verify and not await self._dry_run(request, now=False):
            raise JobRejected("Grid Engine would refuse the job: no queue could ever take it.")
        queues = estimates.parse_queues(await self._run(estimates.QUEUES))
        if not now:
            return Forecast(room=0, closed=estimates.closed(needs, queues))
        ahead = queue.count_waiting(await self._run(queue.WAITING), needs.queues)
        return estimates.forecast(needs, queues, ahead)

    async def _dry_run(self, request: JobRequest, *, now: bool) -> bool:
        argv = estimates.dry_run_argv(request, now=now)
        return estimates.parse_dry_run(await self._run(argv, stdin=request.text.encode()))

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        jobs = queue.parse_listing(await self._run(queue.listing_argv())).jobs
        ids = [each for each, job in jobs.items() if job.name == name]
        listed = max(filter(commands.JOB_ID.fullmatch, ids), key=int, default=None)
        if listed is not None or not accounting.NAME.fullmatch(name):
            return listed
        done = await self._accounting(name)
        return accounting.parse_named(done, name) if done else None

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        if not commands.JOB_ID.fullmatch(job_id):
            return None
        living = queue.parse_living(await self._run(queue.details_argv([job_id])), job_id)
        if living is not None:
            return living
        done = await self._accounting(job_id)
        return accounting.parse_end(done, job_id) if done else None

    async def _accounting(self, wanted: str) -> Completed | None:
        """The records, or None: many submit hosts cannot read them, or not all in time."""
        try:
            return await self._run(accounting.qacct_argv(wanted))
        except OutcomeUnknown:
            return None

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`.

        qdel takes an id or a name and not both, so the jobs are looked at just before.
        """
        if not jobs:
            return
        told = queue.parse_listing(await self._run(queue.listing_argv())).jobs
        ours = [each for each in jobs if each not in told or told[each].name == jobs[each]]
        argv = commands.qdel_argv(ours)
        if len(argv) > 1:
            commands.parse_qdel(await self._run(argv, patience=2))

    def notify(self, changed: Callable[[], None]) -> None:
        """Grid Engine tells nothing by itself."""

    async def close(self) -> None:
        """Nothing to release."""


KIND = Kind(
    GridEngineCluster,
    lambda site: GridEngineScheduler(site.transport, site.settings, site.accounts),
    commands=("qsub", "qstat", "qdel", "qacct"),
    lists_others=True,
)
