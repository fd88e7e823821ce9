"""Slurm, spoken by its commands through a transport."""

import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from hpcbridge.config.batchsystems import SlurmCluster
from hpcbridge.errors import BridgeError, ClusterError, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import (
    Forecast,
    JobInfo,
    JobRequest,
    JobState,
    Kind,
    Listing,
    Outlook,
)
from hpcbridge.schedulers.slurm import forecast as estimates
from hpcbridge.schedulers.slurm import queue as others
from hpcbridge.schedulers.slurm.commands import (
    DIALECT,
    JOB_ID,
    Elsewhere,
    parse_sacct,
    parse_sbatch,
    parse_scancel,
    parse_scontrol,
    parse_squeue,
    raise_if_squeue_failed,
    sacct_argv,
    sbatch_argv,
    scancel_argv,
    scontrol_argv,
    squeue_argv,
)
from hpcbridge.transports.base import Completed, Transport

log = logging.getLogger(__name__)

REMEMBER = 3600.0
"""Seconds for which it is remembered that other users' jobs are hidden, or too many to list."""


class SlurmScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` with Slurm's commands.

    ``timeout`` (seconds) bounds each query; sbatch and scancel get twice that, because giving up
    on them leaves their outcome unknown. ``accounts`` tells whose jobs are listed; none, or None,
    are those of the transport's own account.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        accounts: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._accounts = accounts
        # Until when, in monotonic seconds, only our own jobs are asked for, and when to see anew.
        self._alone_until = self._config_due = 0.0

    async def _run(self, argv: Sequence[str], *, patience: float = 1) -> Completed:
        return await self._transport.run(argv, timeout=self._timeout * patience)

    async def submit(self, request: JobRequest) -> str:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.submit`."""
        done = await self._run(sbatch_argv(request), patience=2)
        try:
            return parse_sbatch(done)
        except Elsewhere as error:
            argv = scancel_argv([error.job_id], request.name, cluster=error.cluster)
            try:
                parse_scancel(await self._run(argv, patience=2))
            except ClusterError as again:
                told = f"{error} It still runs there: {' '.join(argv)} failed ({again})."
                raise JobRejected(told) from again
            raise

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`."""
        mark = secrets.token_hex(4)
        accounts = self._accounts() if self._accounts else ()
        return parse_squeue(await self._run(squeue_argv(mark, accounts)), mark)

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`.

        Nothing is said of places in the queue where other users' jobs are hidden, or are more than
        a transport carries.
        """
        if time.monotonic() >= self._config_due:
            done = await self._run(others.config_argv())
            DIALECT.raise_if_not_asked("scontrol", done)
            self._config_due = time.monotonic() + REMEMBER
            self._alone_until = self._config_due if others.hides_jobs(done.out) else 0.0
        if time.monotonic() >= self._alone_until:
            try:
                return await self._outlook(job_ids, everyone=True)
            except UnexpectedReply as error:
                log.info("places in the queue are not told: %s", error)
                self._alone_until = time.monotonic() + REMEMBER
        return await self._outlook(job_ids, everyone=False)

    async def _outlook(self, job_ids: Collection[str], *, everyone: bool) -> Mapping[str, Outlook]:
        accounts = self._accounts() if self._accounts else ()
        done = await self._run(others.argv(everyone=everyone, accounts=accounts))
        raise_if_squeue_failed(done)
        return others.parse(done.out, job_ids, everyone=everyone)

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`.

        Slurm's estimate has the job wait for all that wait already: one that is small enough to be
        put before them (backfill) may start sooner.
        """
        argv, script = estimates.argv(request), request.text.encode()
        tried = await self._transport.run(argv, stdin=script, timeout=self._timeout)
        DIALECT.raise_if_not_asked("sbatch", tried)
        estimate = estimates.parse(tried)
        if isinstance(estimate, Forecast):
            return estimate
        free = await self._run(estimates.sinfo_argv(estimate.partition))
        if free.exit_status != 127:  # jobs run without sinfo, so its absence is no outage
            DIALECT.raise_if_not_asked("sinfo", free)
        return estimates.forecast(estimate, free, time.time())

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        jobs = (await self.list_jobs()).jobs.values()
        ids = [job.job_id for job in jobs if job.name == name and JOB_ID.fullmatch(job.job_id)]
        return max(ids, key=int, default=None)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        info = parse_scontrol(await self._run(scontrol_argv(job_id)))
        if info is not None:
            return info
        try:
            done = await self._run(sacct_argv(job_id))
            record = parse_sacct(done)
        except BridgeError as error:  # accounting is optional, and down more often
            log.warning("accounting does not tell how job %s ended: %s", job_id, error)
            return None
        if done.exit_status != 0 and "disabled" not in done.err:
            told = done.err.strip()[-300:]
            log.warning("accounting does not tell how job %s ended: %s", job_id, told)
        # Accounting can call a job running that the controller has lost (sacctmgr(1), runawayjobs).
        return record if record and record.state == JobState.ENDED else None

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`."""
        for name in dict.fromkeys(jobs.values()):
            ids = [job_id for job_id in jobs if jobs[job_id] == name]
            parse_scancel(await self._run(scancel_argv(ids, name), patience=2))

    def notify(self, changed: Callable[[], None]) -> None:
        """Slurm tells nothing by itself."""

    async def close(self) -> None:
        """Nothing to release."""


KIND = Kind(
    SlurmCluster,
    lambda site: SlurmScheduler(
        site.transport, timeout=site.settings.command_timeout, accounts=site.accounts
    ),
    commands=("sbatch", "squeue", "scancel", "scontrol", "sacct"),
    lists_others=True,
)
