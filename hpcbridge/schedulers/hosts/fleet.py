"""All machines, asked at the same time; one that is silent keeps nobody waiting."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcbridge.errors import ClusterError, ClusterUnreachable
from hpcbridge.schedulers.hosts import commands
from hpcbridge.schedulers.hosts.jobs import Job, jobs_of
from hpcbridge.transports.base import Transport

log = logging.getLogger(__name__)


class Host:
    """One machine, and what it told last.

    ``error`` is why it could not be asked the last time, None where it could.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        transport: Transport,
        *,
        python: str,
        environment: Mapping[str, str],
        timeout: float,
    ) -> None:
        self.name = name
        self.slots = slots
        self.error: ClusterError | None = None
        self.jobs: dict[str, Job] = {}
        self.heard = False
        self.probe: asyncio.Task[None] | None = None
        self._transport = transport
        self._argv = commands.argv(python)
        self._environment = dict(environment)
        self._timeout = timeout

    @property
    def silent(self) -> bool:
        """Whether it could not be asked the last time."""
        return self.error is not None

    @property
    def running(self) -> list[Job]:
        """The jobs that have a slot."""
        return [job for job in self.jobs.values() if not job.over]

    @property
    def free(self) -> int:
        """Slots that a job could have now, as far as is known."""
        return max(0, self.slots - len(self.running)) if self.heard and not self.silent else 0

    async def ask(self, do: str, state: str, *, timeout: float | None = None, **more: Any) -> Any:  # noqa: ASYNC109
        """Run one request there. Raises :class:`~hpcbridge.errors.ClusterError`."""
        asked = commands.question(do, state, host=self.name, slots=self.slots, **more)
        limit = timeout or self._timeout
        done = await self._transport.run(self._argv, stdin=asked, timeout=limit)
        return commands.answer(done, self.name)

    async def look(
        self,
        state: str,
        token: str,
        *,
        start: Sequence[str] = (),
        cancel: Sequence[str] = (),
        act: bool = True,
    ) -> list[str]:
        """Have it look after its jobs, and know them afterwards; those of ``start`` that are not in
        the queue any more. Raises :class:`~hpcbridge.errors.ClusterError`.
        """
        more = {"start": list(start), "cancel": list(cancel), "act": act}
        more |= {"token": token, "environment": self._environment}
        changes = 2 if start or cancel else 1
        try:
            told = await self.ask("look", state, timeout=self._timeout * changes, **more)
            self._check(told.get("token"), token, state)
            self.jobs = jobs_of(told, self.name)
        except ClusterError as error:
            self.failed(error)
            raise
        if self.silent:
            log.warning("%s answers again", self.name)
        self.error, self.heard = None, True
        return [str(each) for each in told.get("gone", ())]

    def failed(self, error: ClusterError) -> None:
        """It could not be asked."""
        if not self.silent:
            log.warning("%s gets no jobs for now: %s", self.name, error)
        self.error = error

    def _check(self, seen: object, token: str, state: str) -> None:
        if seen != token:
            raise ClusterUnreachable(
                f"{self.name} does not see {state} as it is where the commands run: session_root "
                "has to be on a file system that all hosts share."
            )


class Fleet:
    """The machines of a cluster."""

    def __init__(self, hosts: Sequence[Host], limit: float) -> None:
        self.hosts = list(hosts)
        self._limit = limit

    def __getitem__(self, name: str) -> Host:
        return next(each for each in self.hosts if each.name == name)

    @property
    def silent(self) -> list[Host]:
        """Those that could not be asked the last time."""
        return [each for each in self.hosts if each.silent]

    @property
    def slots(self) -> int:
        """Slots of those that answer."""
        return sum(each.slots for each in self.hosts if not each.silent)

    async def round(self, state: str, token: str, *, act: bool = True) -> set[str]:
        """Ask all; the names of those that have answered.

        One that was silent before is asked too, and is not waited for. Raises the first one's
        :class:`~hpcbridge.errors.ClusterError` where none answers.
        """
        probes = {}
        for each in self.hosts:
            if each.probe is None:
                looking = self._probe(each, state, token, act=act)
                each.probe = asyncio.create_task(looking, name=f"ask {each.name}")
            probes[each.name] = each.probe
        trusted = [probes[each.name] for each in self.hosts if not each.silent]
        await asyncio.wait(trusted or probes.values(), timeout=self._limit)
        answered: set[str] = set()
        for each in self.hosts:
            if not probes[each.name].done():
                late = ClusterUnreachable(f"{each.name} did not answer in {self._limit:g} s.")
                each.failed(each.error or late)
            elif not each.silent:
                answered.add(each.name)
        if not answered and (error := self.hosts[0].error):
            raise type(error)(f"No host answers. {error}") from error
        return answered

    async def _probe(self, host: Host, state: str, token: str, *, act: bool) -> None:
        try:
            with contextlib.suppress(ClusterError):  # the host has it
                await host.look(state, token, act=act)
        finally:
            host.probe = None

    async def start(self, chosen: Mapping[str, Iterable[str]], state: str, token: str) -> set[str]:
        """Have hosts start these jobs; those that are not in the queue any more."""
        looks = [self[name].look(state, token, start=list(ids)) for name, ids in chosen.items()]
        found = await asyncio.gather(*looks, return_exceptions=True)
        gone: set[str] = set()
        for each in found:
            if isinstance(each, list):
                gone.update(each)
            elif not isinstance(each, ClusterError):
                raise each
        return gone

    async def cancel(self, holders: Mapping[str, Sequence[str]], state: str, token: str) -> None:
        """Have hosts end these jobs. Raises what the first one raises that could not be asked,
        after all were."""
        looks = [self[name].look(state, token, cancel=ids) for name, ids in holders.items()]
        for each in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each

    async def close(self) -> None:
        """Wait for no answer any more."""
        for each in self.hosts:
            if each.probe is not None:
                each.probe.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each.probe
