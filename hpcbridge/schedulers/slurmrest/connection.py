"""One request to slurmrestd and its reply: HTTP over TCP, TLS or a Unix socket."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.schedulers.slurmrest.replies import (
    AUTHENTICATION,
    ZERO_BYTES,
    Answer,
    read,
    short,
)

CONNECTIONS = 8
KEPT = 60.0
"""Seconds for which an unused connection is kept."""

UNSPECIFIED = -1
"""What slurmrestd 22.05 tells of a token that is refused, and of much else."""


@dataclass(frozen=True)
class Request:
    """``model`` is what an answer with status 200 must be."""

    method: str
    path: str
    body: dict[str, Any] | None = field(default=None, repr=False)
    model: type[Answer] = Answer


@dataclass(frozen=True)
class Reply:
    """What came back. ``answer`` is None where it is not JSON; ``token`` went with the request."""

    status: int
    text: str
    answer: Answer | None
    token: str = ""

    @property
    def numbers(self) -> set[int]:
        """The numbers of the errors that it tells."""
        return {problem.number for problem in self.answer.errors} if self.answer else set()

    @property
    def words(self) -> str:
        """What it says is wrong, or the beginning of what it says at all."""
        if self.answer is not None and self.answer.errors:
            return "; ".join(problem.words for problem in self.answer.errors[:5])
        return f"HTTP status {self.status}, {short(self.text)!r}"

    @property
    def refused(self) -> bool:
        """Whether the token was not accepted: the request was not carried out."""
        return self.status in (401, 403, 511) or AUTHENTICATION in self.numbers

    @property
    def doubtful(self) -> bool:
        """Whether the token may not have been accepted."""
        return self.status == 500 and not self.numbers.isdisjoint((ZERO_BYTES, UNSPECIFIED))

    @property
    def unknown_path(self) -> bool:
        """Whether slurmrestd knows nothing under this path, the version included."""
        return self.status == 404 and self.answer is None


class Connection:
    """Kept connections to one slurmrestd. ``transport`` stands in for the network in tests."""

    def __init__(
        self, settings: SlurmRestCluster, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.where = f"slurmrestd at {settings.url}"
        self._settings = settings
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def send(self, request: Request, token: str) -> Reply:
        """Send it and read the reply, whatever its status.

        Raises :class:`~hpcbridge.errors.ClusterUnreachable` where it was not sent, or only asked
        something, and else :class:`~hpcbridge.errors.OutcomeUnknown` where no reply came.
        """
        headers = {}
        if token:
            headers = {"X-SLURM-USER-NAME": self._settings.user, "X-SLURM-USER-TOKEN": token}
        http = await self._connections()
        try:
            async with http.stream(
                request.method, request.path, json=request.body, headers=headers
            ) as response:
                # Any user can have put bytes that are not UTF-8 into a job's name.
                text = (await self._body(response)).decode("utf-8", "replace")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            self._not_connected(error)
        except httpx.TransportError as error:
            self.lost(request.method, f"broke off ({type(error).__name__}: {short(str(error))})")
        if token:
            text = text.replace(token, "[token]")
        answer = None
        if response.headers.get("content-type", "").lower().startswith("application/json"):
            answer = read(request.model if response.status_code == 200 else Answer, text)
        return Reply(response.status_code, text, answer, token)

    async def _connections(self) -> httpx.AsyncClient:
        if self._http is None:
            url, socket = self._settings.url, self._settings.socket
            patience = self._settings.command_timeout
            trust = await self._trust() if url.startswith("https:") else False
            limits = httpx.Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=CONNECTIONS,
                keepalive_expiry=KEPT,
            )
            self._http = httpx.AsyncClient(
                base_url="http://slurmrestd" if socket else url,
                transport=self._transport
                or httpx.AsyncHTTPTransport(verify=trust, uds=socket, limits=limits),
                # Tokens go to slurmrestd and nowhere else: no proxies, no .netrc, no redirects.
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(2 * patience, connect=patience / 2),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            )
        return self._http

    async def _trust(self) -> ssl.SSLContext:
        try:
            return await asyncio.to_thread(ssl.create_default_context, cafile=self._settings.ca)
        except OSError as error:  # ssl.SSLError is one
            raise ClusterUnreachable(
                f"The certificates of ca ({self._settings.ca}) cannot be read: {error}",
                lasting=True,
            ) from error

    async def _body(self, response: httpx.Response) -> bytes:
        limit = self._settings.answer_limit << 20
        told = response.headers.get("content-length", "")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise UnexpectedReply("slurmrestd sent a compressed answer, which nobody asked for.")
        received = bytearray()
        async for piece in response.aiter_raw():
            received += piece
            if len(received) > limit or (told.isdecimal() and int(told[:20]) > limit):
                raise UnexpectedReply(
                    f"{self.where} sent an answer of more than answer_limit = "
                    f"{self._settings.answer_limit} MiB, which was not read."
                )
        return bytes(received)

    def _not_connected(self, error: httpx.TransportError) -> NoReturn:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise ClusterUnreachable(
                f"{self.where} shows a certificate that is not trusted "
                f"({cause.verify_message}). Set ca to the certificates of the authority that "
                "signed it.",
                lasting=True,
            ) from error
        why = short(str(error)) or "no connection in time"
        raise ClusterUnreachable(f"{self.where} is not reached: {why}") from error

    def lost(self, method: str, what: str) -> NoReturn:
        """Raise what it means that no answer came to a request that was sent."""
        kind = ClusterUnreachable if method == "GET" else OutcomeUnknown
        raise kind(f"{self.where} {what}.")

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
