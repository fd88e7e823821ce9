"""What clients post: JSON that can be read, written again and kept."""

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from hpcbridge.errors import RequestError, TooLarge

BODY_TIME = 30.0
"""Seconds that a request's body may take to arrive."""
DEPTH_LIMIT = 64
"""Levels of nesting that a request may have: what can be read cannot always be written again."""


async def read_posted(request: Request, limit: int) -> dict[str, Any]:
    """The posted launch, of at most ``limit`` bytes.

    Raises :class:`~hpcbridge.errors.RequestError` for anything else.
    """
    posted = await read_object(request, limit, example='{"application": "NAME"}')
    if not isinstance(posted.get("application"), str):
        raise RequestError("The request is not complete: 'application' must name an application.")
    return posted


async def read_object(request: Request, limit: int, *, example: str) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes; ``example`` is one, for people.

    Raises :class:`~hpcbridge.errors.RequestError` for anything else.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIME):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"The request has more than {limit} bytes.")
    except TimeoutError as error:
        raise RequestError(f"The request was not complete after {BODY_TIME:g} s.") from error
    except ClientDisconnect as error:
        raise RequestError("The client hung up in the middle of its request.") from error
    try:
        posted = await asyncio.to_thread(_parse, bytes(body))
    except (ValueError, RecursionError) as error:
        raise RequestError("The request is not JSON, or is nested too deeply.") from error
    if not isinstance(posted, dict):
        raise RequestError(f"The request must be a JSON object such as {example}.")
    return posted


def _parse(body: bytes) -> Any:
    """JSON as RFC 8259 has it, and as it can be sent back: no NaN, no lone surrogates."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    value = json.loads(body, parse_constant=refuse)
    if _depth(value) > DEPTH_LIMIT:
        raise ValueError("nested too deeply")
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
