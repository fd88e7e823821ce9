"""The id of the request that is being answered, for whatever is logged meanwhile.

Tasks that a request begins inherit it, and lose it when the request is answered: what they do
later is no part of it.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class _Request:
    id: str | None


_NONE = _Request(None)
_request: ContextVar[_Request] = ContextVar("request", default=_NONE)


@contextlib.contextmanager
def answering(request_id: str) -> Iterator[None]:
    """What is done inside is done for this request."""
    request = _Request(request_id)
    token = _request.set(request)
    try:
        yield
    finally:
        request.id = None
        _request.reset(token)


def current() -> str | None:
    """The id of the request for which this is done; None where there is none, or it is over."""
    return _request.get().id
