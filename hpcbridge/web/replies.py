"""What every reply has: the id of its request, and errors in the form that the client reads."""

import json
import re
import secrets
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpcbridge import requestid

REQUEST_ID = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
PROBLEM = "application/problem+json"
"""RFC 9457."""
_LARGEST = 2**20
"""Bytes of an error: a longer reply is none."""


class RequestIds:
    """Middleware: a request has the id that the client or a front end gave it, or a new one.

    It is in the reply, and in the log of what is done for it. One that could be taken for something
    else in a log, or two of them, count as none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(REQUEST_ID)
        sane = len(given) == 1 and _SANE.fullmatch(given[0])
        request_id = given[0] if sane else secrets.token_hex(16)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with requestid.answering(request_id):
            await self._app(scope, receive, sending)


class Problems:
    """Middleware inside of :class:`RequestIds`: errors as ``application/problem+json`` (RFC 9457).

    Only for clients that ask for it by name: those of the launcher protocol read ``error``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _wanted(Headers(scope=scope)):
            await self._app(scope, receive, _Rewriting(send).send)
        else:
            await self._app(scope, receive, send)


class _Rewriting:
    """Holds an error back until all of it is there; lets everything else through."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_error(message):
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body") or len(self._body) > _LARGEST:
                await self._finish(more=message.get("more_body", False))
        else:
            await self._send(message)

    async def _finish(self, *, more: bool) -> None:
        start, body, self._start = self._start, self._body, None
        assert start is not None
        if not more and (problem := _problem(start["status"], body)):
            body = json.dumps(problem).encode()
            headers = MutableHeaders(scope=start)
            headers["Content-Type"] = PROBLEM
            headers["Content-Length"] = str(len(body))
            headers.add_vary_header("Accept")
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _wanted(headers: Headers) -> bool:
    """Whether ``Accept`` names the type (RFC 9110, section 12.5.1)."""
    for each in ",".join(headers.getlist("accept")).split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if kind == PROBLEM:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", part) for part in parameters)
    return False


def _is_error(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] >= 400 and kind.partition(";")[0] == "application/json"


def _problem(status: int, body: bytes) -> dict[str, Any] | None:
    """The same error; what else the reply tells goes with it (RFC 9457, section 3.2)."""
    try:
        said = json.loads(body)
    except ValueError:  # a reply to HEAD
        return None
    if not isinstance(said, dict) or not isinstance(detail := said.pop("error", None), str):
        return None
    members = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail}
    return {**said, **members, "request_id": requestid.current()}


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499
        return "Error"
