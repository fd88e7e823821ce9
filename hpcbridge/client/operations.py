"""The requests of the API and how their answers are read, without anything that sends them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from hpcbridge.client.errors import (
    ClientError,
    Forbidden,
    NotFound,
    NotHpcbridge,
    NotLoggedIn,
    Refused,
    ServiceBusy,
)
from hpcbridge.client.replies import Application, Catalogue, Log, Session, SessionPage

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

CHANGES = "/events"
"""The path of the events of all sessions."""
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
_REFUSALS = {401: NotLoggedIn, 403: Forbidden, 404: NotFound}
_LATER = (429, 503)


@dataclass(frozen=True)
class Operation(Generic[T]):
    """A request, as a path below the endpoint, and how an answer that is no refusal is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def applications() -> Operation[list[Application]]:
    """What there is."""
    return Operation("GET", "/applications", lambda reply: _as(Catalogue, reply).applications)


def sessions(**query: str | int | None) -> Operation[SessionPage]:
    """One page of the list."""
    given = {key: value for key, value in query.items() if value is not None}
    return Operation("GET", "", lambda reply: _as(SessionPage, reply), given)


def session(session_id: str) -> Operation[Session]:
    """Where one stands."""
    return Operation("GET", _path(session_id), lambda reply: _as(Session, reply))


def stop(session_id: str) -> Operation[Session]:
    """Its end."""
    return Operation("DELETE", _path(session_id), lambda reply: _as(Session, reply))


def log(session_id: str, offset: int) -> Operation[Log]:
    """What it printed, from a byte on."""
    return Operation("GET", f"{_path(session_id)}/log", _log, {"offset": offset})


def launch(
    application: str, parameters: Mapping[str, Any], cluster: str | None, key: str
) -> Operation[Session]:
    """A new one; sent twice with one ``key`` it is the same one.

    Raises :class:`~hpcbridge.client.errors.ClientError` for what JSON has no word for.
    """
    posted = {**parameters, "application": application}
    if cluster is not None:
        posted["cluster"] = cluster
    try:
        body = json.dumps(posted, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ClientError(f"The parameters cannot be written as JSON: {error}.") from error
    headers = {
        "Content-Type": "application/json",
        "Prefer": "respond-async",
        "Idempotency-Key": key,
    }
    return Operation("POST", "", lambda reply: _as(Session, reply), {}, body, headers)


def events(session_id: str) -> str:
    """The path of its events."""
    return f"{_path(session_id)}/events"


def event(data: str) -> Session:
    """One of them. Raises :class:`~hpcbridge.client.errors.NotHpcbridge`."""
    try:
        return Session.model_validate_json(data)
    except ValidationError as error:
        raise NotHpcbridge("What came as an event of a session is none.") from error


def refusal(reply: httpx.Response) -> Refused | NotHpcbridge | None:
    """What an answer, which has been read, says instead of what was asked for."""
    if reply.is_success:
        return None
    if reply.is_redirect:
        place = reply.headers.get("location", "elsewhere")
        return NotHpcbridge(
            f"{reply.url.host} sends us on to {_host(place)}: a login page stands before the "
            "service, or its address is another one."
        )
    said = _said(reply)
    if said is None:
        return NotHpcbridge(
            f"{reply.url.host} answers {reply.status_code} and not in the words of hpcbridge. Is "
            "the address right, and the service's endpoint?"
        )
    request_id = reply.headers.get("x-request-id")
    if reply.status_code in _LATER:
        busy = ServiceBusy(said, reply.status_code, request_id)
        after = reply.headers.get("retry-after", "")
        busy.retry_after = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else None
        return busy
    return _REFUSALS.get(reply.status_code, Refused)(said, reply.status_code, request_id)


def _said(reply: httpx.Response) -> str | None:
    try:
        found = reply.json()
    except (ValueError, UnicodeError, RecursionError):
        return None
    said = found.get("error") if isinstance(found, dict) else None
    return said if isinstance(said, str) else None


def _host(place: str) -> str:
    """Without the query of an address: it may hold what is nobody else's."""
    found = httpx.URL(place)  # which httpx has read before
    return f"{found.host}{found.path}" if found.host else found.path


def _path(session_id: str) -> str:
    if not _ID.fullmatch(session_id):
        raise NotFound("There is no such session: that is no session's id.", 404)
    return f"/{session_id}"


def _as(model: type[M], reply: httpx.Response) -> M:
    try:
        return model.model_validate(json.loads(reply.content))
    except (ValueError, RecursionError) as error:  # ValidationError is one
        raise NotHpcbridge(
            f"{reply.url.host} answers, but not what hpcbridge would. Is the address right?"
        ) from error


def _log(reply: httpx.Response) -> Log:
    following = reply.headers.get("x-log-next", "")
    if not re.fullmatch(r"[0-9]{1,13}", following):
        raise NotHpcbridge(f"{reply.url.host} answers no part of a log.")
    return Log(reply.content, int(following), reply.headers.get("x-log-ended") == "true")
