"""What became of a command: its exit status, and the sentence where it failed."""

import contextlib
import sys
from collections.abc import Iterator

from hpcbridge.client import (
    ClientError,
    Forbidden,
    LaunchFailed,
    NotFound,
    NotHpcbridge,
    NotLoggedIn,
    Refused,
    ServiceBusy,
    ServiceUnreachable,
)
from hpcbridge.plain import one_line, readable

INTERRUPTED = 130
_STATUS: tuple[tuple[type[ClientError], int], ...] = (
    (ServiceUnreachable, 3),
    (NotHpcbridge, 3),
    (NotLoggedIn, 4),
    (Forbidden, 5),
    (NotFound, 6),
    (LaunchFailed, 7),
    (ServiceBusy, 8),
)
"""As docs/client.md tells them; 1 is anything else, and 2 a command line that cannot be."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """End the command with a sentence and its exit status where the client raises."""
    try:
        yield
    except ClientError as error:
        said = readable(str(error)).strip()
        if isinstance(error, Refused) and error.status >= 500 and error.request_id:
            said += f" (request {one_line(error.request_id)})"
        if isinstance(error, NotLoggedIn):
            said += " To log in: hpcbridge login URL"
        print(f"hpcbridge: {said}", file=sys.stderr)
        raise SystemExit(status(error)) from error


def status(error: ClientError) -> int:
    """The exit status for an error."""
    if isinstance(error, Refused) and error.status in (400, 413, 422):
        return 2  # what was typed cannot be, by the service's rules
    return next((number for kind, number in _STATUS if isinstance(error, kind)), 1)
