"""PBS by its commands."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from hpcbridge.errors import ClusterError, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, JobInfo, JobRequest, JobState, Listing, Outlook
from hpcbridge.schedulers.pbs import fit
from hpcbridge.schedulers.pbs import forecast as estimates
from hpcbridge.schedulers.pbs.commands import (
    ACCOUNT,
    NAME,
    REFUSALS,
    Commands,
    parse_account,
    parse_qdel,
    parse_qselect,
    parse_qstat,
    parse_qsub,
    parse_told,
    portions,
    proven_over,
    qsub_options,
    with_queue,
)
from hpcbridge.schedulers.pbs.jobs import PBS_ENDS, Attributes, in_line, job_info, outlook, sequence
from hpcbridge.schedulers.pbs.readers import Jobs, read_json, read_section, read_text
from hpcbridge.transports.base import Completed, Transport

WAITING = frozenset("QHW")
ALONE = 16
"""Ids that are asked for one by one in a round: each costs two privileged ports for a minute."""
MEMORY = 300.0
"""Seconds for which a listing tells of a job that has ended."""
HOSTS_LAST = 600.0
"""Seconds after which it is asked again what the hosts have."""


class PBSScheduler:
    """Implements :class:`~hpcbridge.schedulers.base.Scheduler` with the commands of PBS.

    A round asks qselect for this account's ids, and qstat for these jobs in one request (``-E``;
    else each id costs a connection and two privileged ports). So a round has the word of the server
    on every job that was alive in the round before. ``timeout`` (seconds) bounds each query; qsub
    and qdel get twice that. ``account`` is the transport's, which is asked otherwise, and
    ``accounts`` tells whose jobs are listed; none, or None, are this account's.
    """

    ends = PBS_ENDS
    refusals: Collection[int] = REFUSALS
    submit_options: tuple[str, ...] = ("-f", "-k", "oed")  # no daemon stays; output is not spooled
    #: How qstat is asked and read; the next format is tried where an answer cannot be read.
    formats: tuple[tuple[tuple[str, ...], Callable[[str], Jobs | None]], ...] = (
        (("-E", "-f", "-F", "json"), read_json),
        (("-E", "-f", "-w"), read_text),
    )
    subjobs: tuple[str, ...] = ("-T",)  # each job of an array, whose own id tells of none of them
    history: tuple[str, ...] = ("-x",)  # also jobs that have ended, where the server keeps them

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        commands: Commands = Commands(),  # noqa: B008 - it cannot be changed
        node_domain: str = "",
        account: str | None = None,
        accounts: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._commands = commands
        self._domain = node_domain
        self._view = account is not None
        self._account = account
        self._accounts = accounts
        self._living: set[str] = set()  # ids, as far as the last round told or qsub since then
        self._ended: dict[str, tuple[float, JobInfo]] = {}  # and when that was seen
        self._known_hosts: list[tuple[Attributes, fit.Host]] = []
        self._hosts_due = 0.0

    async def submit(self, request: JobRequest) -> str:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.submit`."""
        options = [*self.submit_options, *qsub_options(request)]
        argv = self._commands.argv("qsub", *options, request.script)
        try:
            job_id = parse_qsub(await self._run(argv, patience=2), self.refusals)
        except JobRejected as error:
            raise with_queue(error, request) from error
        self._living.add(job_id)
        return job_id

    async def list_jobs(self) -> Listing:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.list_jobs`.

        How a job ended is told for :data:`MEMORY` seconds, where the server keeps a history.
        """
        before, now = set(self._living), time.monotonic()
        listed = self._accounts() if self._accounts else ()
        asked = {*await self._select(accounts=listed), *before}
        over: set[str] = set()
        jobs = await self._ask(asked, over=over)
        left = before - jobs.keys()
        if left and self.history:
            jobs |= await self._ask(left, history=True)
        untold = await self._ask_alone(before - jobs.keys() - over, jobs)
        untold |= asked - before - jobs.keys() - over  # asked for alone in the next round
        infos = {job_id: self._info(job_id, jobs) for job_id in jobs}
        ended = {each: info for each, info in infos.items() if info.state == JobState.ENDED}
        told = asked - untold
        self._living = ((self._living - told) | jobs.keys() | untold) - ended.keys()
        self._ended |= {job_id: (now, info) for job_id, info in ended.items()}
        self._ended = {k: v for k, v in self._ended.items() if now - v[0] < MEMORY}
        ends = {job_id: info for job_id, (_, info) in self._ended.items()}
        return Listing(ends | infos, untold=untold)

    async def _ask_alone(self, job_ids: Collection[str], jobs: Jobs) -> set[str]:
        """Those of which the server still tells nothing; those that live are put to ``jobs``.

        Asked for many, qstat leaves out those that are over, without a word, and not only those.
        """
        untold = set(job_ids)
        for job_id in sorted(job_ids)[:ALONE]:
            with contextlib.suppress(UnexpectedReply):
                jobs |= await self._ask([job_id])
                untold.discard(job_id)
        return untold

    async def outlook(self, job_ids: Collection[str]) -> Mapping[str, Outlook]:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.outlook`. One query more for each queue.

        The jobs ahead are those that came earlier; a site's priorities are not told to users.
        """
        # A view runs what sudo allows, and env(1) is not among it: then the zone is not known.
        jobs = await self._ask(job_ids, utc=not self._view)
        waiting = {each: job for each, job in jobs.items() if job.get("job_state") in WAITING}
        lines = {}
        for queue in sorted({job["queue"] for job in waiting.values() if job.get("queue")}):
            selected = await self._qselect(*self.subjobs, "-s", "Q", "-q", queue)
            lines[queue] = in_line(selected)
        outlooks = {}
        for job_id, job in waiting.items():
            line = lines.get(job.get("queue", "")) if job["job_state"] == "Q" else None
            ahead = None if line is None else sum(each < sequence(job_id) for each in line)
            outlooks[job_id] = outlook(job, ahead, utc=not self._view)
        for job_id, job in waiting.items():
            if job["job_state"] != "Q" or "Resource_List.select" not in job:
                continue
            if why := fit.too_big(job, await self._hosts()):
                outlooks[job_id] = replace(outlooks[job_id], ahead=None, waits_for=why)
        return outlooks

    async def _hosts(self) -> list[tuple[Attributes, fit.Host]]:
        """What the hosts have, asked for now and then; nothing where that cannot be asked."""
        if time.monotonic() >= self._hosts_due:
            self._known_hosts = []
            with contextlib.suppress(ClusterError):
                nodes = await self._tell("nodes", "pbsnodes", "-av")
                self._known_hosts = await asyncio.to_thread(fit.hosts, nodes.values())
            self._hosts_due = time.monotonic() + HOSTS_LAST
        return self._known_hosts

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`.

        PBS estimates nothing for users: a job starts at once where there is room and nobody waits,
        and else nothing is said of its start.
        """
        server = await self.server()
        queues = await self._tell("Queue", "qstat", "-Q")
        found = estimates.by_queue(request, server, queues)
        if isinstance(found, Forecast):
            return found
        nodes = await self._tell("nodes", "pbsnodes", "-av")
        return await asyncio.to_thread(estimates.by_nodes, found, nodes)

    async def server(self) -> Attributes:
        """What the server says of itself."""
        return next(iter((await self._tell("Server", "qstat", "-B")).values()), {})

    async def _tell(self, section: str, command: str, option: str) -> Jobs:
        form = ("-F", "json") if command == "pbsnodes" else ("-f", "-F", "json")
        done = await self._run(self._commands.argv(command, option, *form))
        # Of thousands of nodes it takes half a second.
        return await asyncio.to_thread(
            parse_told, command, done, lambda text: read_section(text, section)
        )

    async def find(self, name: str) -> str | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.find`."""
        if not NAME.fullmatch(name):
            return None  # no such job was ever submitted
        found = await self._select("-N", name)
        # With -x alone, a server without a history would tell of no job at all.
        if not found and self.history:
            found = await self._select(*self.history, "-N", name)
        return max(found, key=sequence, default=None)

    async def describe_end(self, job_id: str) -> JobInfo | None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.describe_end`."""
        jobs = await self._ask([job_id], history=bool(self.history))
        if not jobs and self.history:
            jobs = await self._ask([job_id])
        return self._info(job_id, jobs) if job_id in jobs else None

    async def cancel(self, jobs: Mapping[str, str]) -> None:
        """See :meth:`hpcbridge.schedulers.base.Scheduler.cancel`. Never by force.

        qdel cannot be told a name, so the jobs are looked at just before.
        """
        told = await self._ask(list(jobs)) if jobs else {}
        ours = [
            each for each in jobs if each not in told or self._info(each, told).name == jobs[each]
        ]
        for some in portions(ours):
            parse_qdel(await self._run(self._commands.argv("qdel", *some), patience=2))

    def notify(self, changed: Callable[[], None]) -> None:
        """PBS tells nothing by itself."""

    async def close(self) -> None:
        """Nothing to release."""

    def _info(self, job_id: str, jobs: Jobs) -> JobInfo:
        return job_info(job_id, jobs[job_id], self.ends, self._domain)

    async def _select(self, *options: str, accounts: Collection[str] = ()) -> list[str]:
        """Ids of jobs of these accounts, or else of this one, that are like this."""
        if self._account is None:
            self._account = parse_account(await self._run(["id", "-un"]))
        users = ",".join(sorted(each for each in accounts if ACCOUNT.fullmatch(each)))
        return await self._qselect(*options, "-u", users or self._account)

    async def _qselect(self, *options: str) -> list[str]:
        done = await self._run(self._commands.argv("qselect", *options))
        return parse_qselect(done)

    async def _ask(
        self,
        job_ids: Collection[str],
        *,
        history: bool = False,
        utc: bool = False,
        over: set[str] | None = None,
    ) -> Jobs:
        """The attributes of those of these jobs that the server tells of.

        Those that are over in so many words are put to ``over``.
        """
        jobs: Jobs = {}
        for some in portions(job_ids):
            for options, read in self.formats:
                more = self.history if history else ()
                argv = self._commands.argv("qstat", *options, *more, *some, utc=utc)
                done = await self._run(argv)
                answer = parse_qstat(done, read)
                if answer is not None:
                    break
            else:
                raise UnexpectedReply("qstat printed what cannot be read in any of its formats.")
            jobs |= answer
            if over is not None:
                over |= proven_over(done)
        return jobs

    async def _run(self, argv: Sequence[str], *, patience: float = 1) -> Completed:
        return await self._transport.run(argv, timeout=self._timeout * patience)
