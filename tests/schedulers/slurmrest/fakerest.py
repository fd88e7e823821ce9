"""slurmrestd in a test: what it really answered, and faults that it cannot be made to show."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.schedulers.slurmrest.client import Client
from hpcbridge.schedulers.slurmrest.scheduler import SlurmRestScheduler
from hpcbridge.schedulers.slurmrest.tokens import Tokens, tokens_for
from hpcbridge.transports.base import Completed

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "slurmrest"
VERSIONS = ["v0.0.37", "v0.0.38", "v0.0.40", "v0.0.42"]

Answer = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


def recorded(name: str, version: str) -> httpx.Response:
    """The recording ``name``: its status, its type and its body."""
    text = (DIRECTORY / version / f"{name}.txt").read_text()
    if text.startswith("HTTP/"):  # by curl
        head, _, body = text.partition("\n\n")
        body = body.partition("\n# seconds")[0]
    else:
        head, _, body = text.partition("# --- body\n")
    found = re.search(r"^(?:# HTTP|HTTP/1.1) (\d{3})", head, re.MULTILINE)
    assert found, name
    kind = "application/json" if "application/json" in head.splitlines()[-1] else "text/plain"
    if "# response headers" in head:
        told = head.partition("# response headers")[2]
        kind = "application/json" if "application/json" in told else "text/plain"
    return httpx.Response(int(found[1]), text=body, headers={"content-type": kind})


def json(status: int, **body: Any) -> httpx.Response:
    """An answer that is made up."""
    return httpx.Response(status, json=body)


def fresh(answer: httpx.Response) -> httpx.Response:
    """The same answer, not read yet."""
    if isinstance(answer.stream, httpx.ByteStream):
        stream = httpx.ByteStream(answer.content)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)
    return answer


class Script:
    """Answers each request by its method and the last steps of its path, and keeps it."""

    def __init__(self, version: str = "v0.0.42", **answers: Answer | list[Answer]) -> None:
        self.version = version
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self._pinged = version if version in (*VERSIONS, "v0.0.45") else "v0.0.42"

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        _, _, version, what, *_ = [*request.url.path.split("/"), "", ""]
        if version != self.version:
            return fresh(recorded("err_bad_version", "v0.0.42"))
        key = f"{request.method.lower()}_{what or 'jobs'}"
        answer = self.answers.get(key) or recorded("ping", self._pinged)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return fresh(answer if isinstance(answer, httpx.Response) else await answer(request))

    def sent(self, method: str, what: str) -> list[httpx.Request]:
        """The requests of this kind."""
        return [
            each for each in self.requests if each.method == method and f"/{what}" in each.url.path
        ]


class Hands:
    """A transport of a site: it runs ``id`` and whatever prints tokens."""

    follow_interval = 1.0

    def __init__(self, *answers: Completed) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def run(self, argv: Any, *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append(argv)
        return self.answers.pop(0)

    async def home(self) -> str:
        return "/home/alice"


def settings(**changes: Any) -> SlurmRestCluster:
    """A site's settings; it is reached by a socket, so no token is needed."""
    given = {"scheduler": "slurmrest", "url": "unix:/run/slurmrestd", "user": "alice"}
    return SlurmRestCluster(**(given | changes))


class Given(Tokens):
    """These tokens, one after the other."""

    def __init__(self, *tokens: str) -> None:
        left = list(tokens)

        async def source() -> str:
            return left.pop(0) if len(left) > 1 else left[0]

        super().__init__(source, "given", keep=True)


def adapter(
    script: Script, tokens: Tokens | None = None, hands: Hands | None = None, **changes: Any
) -> SlurmRestScheduler:
    """The adapter, speaking to a script."""
    ours, transport = settings(**changes), hands or Hands()
    tokens = tokens or tokens_for(ours, transport)  # type: ignore[arg-type]
    client = Client(ours, tokens, httpx.MockTransport(script))
    return SlurmRestScheduler(ours, client, transport)  # type: ignore[arg-type]
