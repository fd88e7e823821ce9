"""How the service's log is written: one event one line, whatever is told in it."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from hpcbridge import requestid
from hpcbridge.plain import one_line


class Text(logging.Formatter):
    r"""For people. Line ends, those of tracebacks too, are written as ``\n``.

    What was done for a request has its id in brackets.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(request)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        request = None if hasattr(record, "audit") else requestid.current()
        record.request = f"[{request}] " if request else ""
        return one_line(super().format(record))


class JSON(logging.Formatter):
    """For programs: an object of ``time`` (UTC), ``level``, ``logger`` and ``message`` each line.

    What was done for a request has its id in ``request``. An error may have its traceback in
    ``exception``; what goes to the audit log and has no file of its own is in ``audit``, as that
    file would have it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if request := requestid.current():
            line["request"] = request
        audit = getattr(record, "audit", None)
        line |= {"audit": audit} if audit else {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
