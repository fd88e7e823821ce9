"""What a command is made to have printed.

What commands really printed is read by each adapter's ``recordings``: its files were recorded on
different systems, each in a format of its own.
"""

from hpcbridge.transports.base import Completed


def printed(out: str | bytes = b"", err: str | bytes = b"", status: int = 0) -> Completed:
    """A command that printed this."""
    as_bytes = [text.encode() if isinstance(text, str) else text for text in (out, err)]
    return Completed(("command",), status, *as_bytes)
