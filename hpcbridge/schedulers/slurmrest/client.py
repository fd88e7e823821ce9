"""Questions to slurmrestd: in which version, with which token, and what its errors mean."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.config.slurmrestversions import KNOWN, deprecated, offered
from hpcbridge.errors import ClusterError, ClusterUnreachable, UnexpectedReply
from hpcbridge.schedulers.slurmrest.connection import UNSPECIFIED, Connection, Reply, Request
from hpcbridge.schedulers.slurmrest.replies import AUTHENTICATION, UNREACHABLE, Answer, Pings
from hpcbridge.schedulers.slurmrest.tokens import Tokens

# slurm_errno.h: the controller was not reached, or did not answer.
_NOT_ASKED = {1001, UNREACHABLE, AUTHENTICATION}
_ANSWER_LOST = {1000, 1002, 1003, 1004, 1801, 1802, 1803, *range(5000, 5006)}


@dataclass(frozen=True)
class Interface:
    """The version that is spoken, all that slurmrestd offers, and those that it will drop."""

    spoken: str
    offered: Sequence[str]
    deprecated: Sequence[str]


LOOK = 2.0
"""Seconds for a second look whether the controller is down; it would take 9 to find it so."""


class Client:
    """Speaks to one slurmrestd. ``transport`` stands in for the network in tests.

    Raises :class:`~hpcbridge.errors.ClusterUnreachable` when it could not ask, and
    :class:`~hpcbridge.errors.OutcomeUnknown` when what was asked for may have been done.
    """

    def __init__(
        self,
        settings: SlurmRestCluster,
        tokens: Tokens | None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._patience = settings.command_timeout
        self._connection = Connection(settings, transport)
        self._version: str | None = None
        self._greeting = asyncio.Lock()

    @property
    def _where(self) -> str:
        return self._connection.where

    async def version(self) -> str:
        """The version that is spoken, after a look whether the controller is up.

        Asked for once, and again after each failure: so that an outage is told at once where
        slurmrestd knows of it, and an upgraded slurmrestd is met in its new version.
        """
        async with self._greeting:
            if self._version is None:
                self._version = await self._discover()
            return self._version

    async def interface(self) -> Interface:
        """What slurmrestd says of its versions."""
        spoken = await self.version()
        text = (await self._timed(Request("GET", "openapi/v3"))).text
        return Interface(spoken, offered(text), deprecated(text))

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        model: type[Answer] = Answer,
        patience: float = 1,
    ) -> Reply:
        """Send one request, and once more where its token is refused and there is another.

        ``path`` begins with ``slurm/VERSION/`` or ``slurmdb/VERSION/``; ``model`` is what an answer
        with status 200 must be; ``patience`` stretches the timeout. A reply may tell errors: those
        of the controller's absence and of the token are raised.
        """
        request = Request(method, path, body, model)
        try:
            reply = await self._timed(request, self._patience * patience)
        except ClusterError:
            self._version = None
            raise
        if reply.unknown_path and path.startswith("slurm/"):
            version, self._version = self._version, None
            raise ClusterUnreachable(f"{self._where} does not offer {version} any more.")
        return reply

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    # -- versions

    async def _discover(self) -> str:
        fixed = self._settings.version
        for version in (fixed,) if fixed else KNOWN:
            reply = await self._timed(Request("GET", f"slurm/{version}/ping", model=Pings))
            if reply.unknown_path:
                continue
            pings = reply.answer.pings if isinstance(reply.answer, Pings) else ()
            up = any(ping.is_up for ping in pings)
            if not up and await self._is_down(version):
                said = "" if pings else f": {reply.words}"
                raise ClusterUnreachable(
                    f"{self._where} says that Slurm's controller is down{said}. Nothing is lost; "
                    "try again in a minute."
                )
            return version
        raise ClusterUnreachable(await self._not_offered(fixed), lasting=True)

    async def _is_down(self, version: str) -> bool:
        """Whether the ping is right: from v0.0.40 on it also says DOWN where it has a bad token.

        Raises where that is so.
        """
        small = Request("GET", f"slurm/{version}/partitions")
        try:
            async with asyncio.timeout(min(LOOK, self._patience)):
                reply = await self._authorized(small)
        except (TimeoutError, ClusterUnreachable):
            return True
        if reply.refused:
            self._checked(reply, "GET")
        return reply.status != 200

    async def _not_offered(self, wanted: str | None) -> str:
        reply = await self._timed(Request("GET", "openapi/v3"))
        found = offered(reply.text) if reply.status == 200 else []
        has = f"offers {', '.join(found)}" if found else "offers no version of Slurm's interface"
        if wanted:
            return f"{self._where} {has}, but not {wanted}, which is configured."
        return (
            f"{self._where} {has}; hpcbridge knows {', '.join(KNOWN)}. To have a newer one "
            "tried all the same, set version."
        )

    async def _timed(self, request: Request, seconds: float | None = None) -> Reply:
        seconds = seconds or self._patience
        try:
            async with asyncio.timeout(seconds):
                return self._checked(await self._authorized(request), request.method)
        except TimeoutError:
            self._connection.lost(request.method, f"did not answer within {seconds:g} s")

    # -- tokens

    async def _authorized(self, request: Request) -> Reply:
        reply = await self._connection.send(request, await self._token())
        if self._tokens is None or not (reply.refused or reply.doubtful):
            return reply
        newer = await self._tokens.renewed(reply.token)
        if newer is None:
            return reply
        # Only a submission must not be carried out twice.
        again = reply.refused or request.method != "POST"
        if again or await self._was_the_token(reply.token, newer):
            return await self._connection.send(request, newer)
        return reply

    async def _token(self) -> str:
        return await self._tokens.current() if self._tokens else ""

    async def _was_the_token(self, old: str, new: str) -> bool:
        """Whether the controller takes the new token and not the old one."""
        ping = Request("GET", f"slurm/{self._version}/ping")
        return (await self._connection.send(ping, new)).status == 200 and (
            await self._connection.send(ping, old)
        ).doubtful

    def _checked(self, reply: Reply, method: str) -> Reply:
        if reply.refused:
            user, origin = self._settings.user, "none is configured"
            if self._tokens is not None:
                origin = self._tokens.origin
            raise ClusterUnreachable(
                f"{self._where} does not accept {user}'s token ({origin}). "
                f"Make a new one with 'scontrol token username={user}', and look whether Slurm's "
                "key for tokens was changed."
            )
        if reply.numbers & _NOT_ASKED:
            raise ClusterUnreachable(
                f"{self._where} does not reach Slurm's controller: {reply.words}"
            )
        if reply.numbers & _ANSWER_LOST:
            self._connection.lost(method, f"had no answer of Slurm's controller: {reply.words}")
        if UNSPECIFIED in reply.numbers and method == "GET":
            raise ClusterUnreachable(
                f"{self._where} had no answer of Slurm's controller, which is down or does not "
                f"accept {self._settings.user}'s token: {reply.words}"
            )
        if reply.answer is None and reply.status in (502, 503, 504):
            self._connection.lost(
                method, f"is not reached by the web server before it: {reply.words}"
            )
        if reply.answer is None and not reply.unknown_path:
            to = " It redirects, which is not followed." if 300 <= reply.status < 400 else ""
            raise UnexpectedReply(f"{self._where} did not answer in JSON: {reply.words}.{to}")
        return reply
