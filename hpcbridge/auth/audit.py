"""The audit log: who did what, on which cluster, as whom, from where, and what came of it.

One JSON object a line. The file is opened by name for each line, so logrotate(8) may move it away
at any time.
"""

import json
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbridge.errors import ConfigError
from hpcbridge.files.directories import closed_to_others

log = logging.getLogger(__name__)

LONGEST = 300
"""Characters of one value."""


class AuditLog:
    """Lines go to ``path`` (mode 0600), or to the service's own log where that is None.

    Raises :class:`~hpcbridge.errors.ConfigError` where the file cannot be written, or others could
    take it away.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            closed_to_others("auth.audit_file", path)
            try:
                _append(path, b"")
            except OSError as error:
                raise ConfigError(
                    f"auth.audit_file: {path} cannot be written: {error.strerror}."
                ) from error

    def write(self, what: str, result: str, facts: dict[str, Any]) -> None:
        """One line: an action, what came of it, and all facts that are not None."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": now, "what": what, "result": result} | facts
        told = {key: _plain(each) for key, each in line.items() if each is not None}
        text = json.dumps(told)
        if self._path is not None:
            try:
                _append(self._path, f"{text}\n".encode())
            except OSError as error:
                log.error("auth.audit_file: %s takes no line: %s", self._path, error.strerror)  # noqa: TRY400
            else:
                return
        log.info("%s", text, extra={"audit": told})


def _append(path: Path, line: bytes) -> None:
    # Never through a link; O_APPEND, so that lines of several processes do not mix.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags, 0o600)
    try:
        os.fchmod(handle, 0o600)
        os.write(handle, line)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    """A text as a log can show it: printable ASCII of bounded length."""
    return re.sub(r"[^\x20-\x7e]", "?", value[:LONGEST]) if isinstance(value, str) else value
