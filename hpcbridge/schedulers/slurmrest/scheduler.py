"""The adapter: what hpcbridge asks of a batch system, asked of slurmrestd."""

import asyncio
import contextlib
import dataclasses
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.config.slurmrestversions import is_typed
from hpcbridge.errors import (
    BridgeError,
    ClusterError,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import Forecast, JobInfo, JobRequest, Listing, Outlook, Site
from hpcbridge.schedulers.slurmrest import forecast as forecasts
from hpcbridge.schedulers.slurmrest.client import Client, Interface
from hpcbridge.schedulers.slurmrest.description import submission
from hpcbridge.schedulers.slurmrest.jobs import info, outlooks, past
from hpcbridge.schedulers.slurmrest.replies import (
    OVER,
    UNKNOWN_JOB,
    Job,
    Jobs,
    PastJobs,
    Submitted,
)
from hpcbridge.schedulers.slurmrest.tokens import tokens_for
from hpcbridge.transports.base import Transport

log = logging.getLogger(__name__)

JOB_ID = re.compile(r"[0-9]{1,12}")
PATH = "/usr/local/bin:/usr/bin:/bin"


class SlurmRestScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` with slurmrestd."""

    def __init__(
        self,
        settings: SlurmRestCluster,
        client: Client,
        transport: Transport,
        accounts: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._client = client
        self._transport = transport
        self._known_uid: int | None = None

    async def submit(self, request: JobRequest) -> str:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.submit`."""
        environment = await self._environment()
        try:
            version = await self._client.version()
            body = submission(request, version, environment)
            path = f"slurm/{version}/job/submit"
            reply = await self._client.ask("POST", path, body, model=Submitted, patience=2)
        except UnexpectedReply as error:
            raise OutcomeUnknown(str(error)) from error
        answer = reply.answer
        if isinstance(answer, Submitted) and answer.job_id and answer.job_id > 0:
            # Slurm tells as errors why an accepted job waits: that it is held, for example.
            for remark in (*answer.errors, *answer.warnings):
                log.warning("job %s: slurmrestd says: %s", answer.job_id, remark.words)
            return str(answer.job_id)
        if reply.numbers or reply.status != 200:
            raise JobRejected(f"Slurm refused the job: {reply.words}")
        raise OutcomeUnknown(f"slurmrestd told no job id: {reply.words}")

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        mine, others = await self._sorted_jobs()
        if self._accounts is not None:
            # Of an account that slurmrestd's host does not know (any more) it tells no name.
            wanted = {"", *self._accounts()}
            mine += [job for job in others if job.user in wanted]
        listed = [dataclasses.replace(info(job), account=job.user) for job in mine]
        return Listing({job.job_id: job for job in listed})

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`.

        Where no job of anybody else is seen, Slurm may hide them (slurm.conf(5), PrivateData), so
        that nothing is said of places in the queue.
        """
        if not job_ids:
            return {}
        mine, others = await self._sorted_jobs()
        return outlooks([*mine, *others], job_ids, everyone=bool(others))

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`."""
        return await forecasts.ask(self._client, request, self._sorted_jobs)

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        jobs = (await self.list_jobs()).jobs.values()
        return max((job.job_id for job in jobs if job.name == name), key=int, default=None)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        version = await self._client.version()
        path = f"{version}/job/{_checked(job_id)}"
        reply = await self._client.ask("GET", f"slurm/{path}", model=Jobs)
        told = reply.answer.jobs if isinstance(reply.answer, Jobs) and not reply.numbers else ()
        if found := next((info(job) for job in told if str(job.job_id) == job_id), None):
            return found
        if reply.numbers == {0} or (isinstance(reply.answer, Jobs) and not reply.numbers):
            # v0.0.36 calls a job unknown whatever went wrong, and an answer without the job says
            # nothing of it; a listing tells the two apart.
            return (await self.list_jobs()).jobs.get(job_id)
        if UNKNOWN_JOB not in reply.numbers:
            raise UnexpectedReply(f"slurmrestd did not tell of job {job_id}: {reply.words}")
        try:
            reply = await self._client.ask("GET", f"slurmdb/{path}", model=PastJobs)
        except BridgeError:
            return None  # accounting is optional and down more often than the controller
        jobs = reply.answer.jobs if isinstance(reply.answer, PastJobs) else ()
        return past(jobs[-1]) if jobs and str(jobs[-1].job_id) == job_id else None

    async def interface(self) -> Interface:
        """Which versions of the interface there are, for ``hpcbridge doctor``."""
        return await self._client.interface()

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`.

        slurmrestd cannot be told a name, so each job is looked at just before.
        """
        wanted = {_checked(job_id): name for job_id, name in jobs.items()}
        if not wanted:
            return
        version = await self._client.version()
        results = await asyncio.gather(
            *(self._cancel(version, *each) for each in wanted.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _cancel(self, version: str, job_id: str, name: str) -> None:
        path = f"slurm/{version}/job/{job_id}"
        told: Sequence[Job] = ()
        with contextlib.suppress(UnexpectedReply):
            reply = await self._client.ask("GET", path, model=Jobs)
            told = reply.answer.jobs if isinstance(reply.answer, Jobs) else ()
        # Of an array and of a heterogeneous job, all parts are told, under ids of their own.
        if told and all(job.name != name for job in told):
            return
        reply = await self._client.ask("DELETE", path, patience=2)
        fine = reply.status == 200 if not reply.numbers else reply.numbers <= {UNKNOWN_JOB, OVER}
        if not fine:
            raise ClusterError(f"Slurm did not cancel job {job_id}: {reply.words}")

    async def _jobs(self) -> tuple[Job, ...]:
        version = await self._client.version()
        # Without its details, which from v0.0.40 on are a third of the answer.
        which = "jobs/?flags=ALL" if is_typed(version) else "jobs"
        reply = await self._client.ask("GET", f"slurm/{version}/{which}", model=Jobs)
        if not isinstance(reply.answer, Jobs) or reply.answer.errors:
            raise UnexpectedReply(f"slurmrestd did not list jobs: {reply.words}")
        return reply.answer.jobs

    async def _sorted_jobs(self) -> tuple[list[Job], list[Job]]:
        """The account's own jobs, and those of everybody else."""
        mine: list[Job] = []
        others: list[Job] = []
        for job in await self._jobs():
            # v0.0.36 tells no names, and no version does where slurmrestd's host knows no users.
            own = job.user == self._settings.user if job.user else job.uid == await self._uid()
            (mine if own else others).append(job)
        return mine, others

    async def _uid(self) -> int:
        if self._known_uid is None:
            user, patience = self._settings.user, self._settings.command_timeout
            done = await self._transport.run(["id", "-u", user], timeout=patience)
            if done.exit_status != 0 or not done.out.strip().isdecimal():
                raise UnexpectedReply(
                    f"slurmrestd does not tell whose jobs these are, and the number of {user}'s "
                    "account cannot be found out where the commands run."
                )
            self._known_uid = int(done.out)
        return self._known_uid

    async def _environment(self) -> dict[str, str]:
        """slurmrestd has no submitting shell, so what every program expects is set here."""
        user = self._settings.user
        home = await self._transport.home()
        own = {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash"}
        return own | self._settings.environment

    def notify(self, changed: Callable[[], None]) -> None:
        """slurmrestd tells nothing by itself."""

    async def close(self) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.close`."""
        await self._client.close()


def _checked(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ClusterError(f"{job_id[:40]!r} is not the id of a job.")
    return job_id


def make(site: Site[SlurmRestCluster]) -> SlurmRestScheduler:
    """The adapter for a site."""
    client = Client(site.settings, tokens_for(site.settings, site.transport))
    return SlurmRestScheduler(site.settings, client, site.transport, site.accounts)


def as_user(settings: SlurmRestCluster, account: str) -> SlurmRestCluster:
    """The settings with which tokens are signed for ``account``."""
    return settings.model_copy(update={"user": account})
