"""Where a session has an address of its own: a host name, or a path below the portal."""

import re
from dataclasses import dataclass
from typing import Literal

from hpcbridge.config.settings import Settings
from hpcbridge.frontends.base import SESSION_ID

#: What the path of a session's address begins with, where it is one.
PATH = "/session/"
_PATHS = re.compile(r"(/session/([^/?]*))(/[^?]*)?(\?.*)?", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Place:
    """Whose address a request is for. ``session_id`` is None where it cannot be anybody's."""

    session_id: str | None
    #: The path of the session's address, without a slash at its end; "" for a host of its own.
    prefix: str
    #: What is asked for below it: a path, and perhaps a query. "" where only a slash is missing.
    target: str


@dataclass(frozen=True)
class SessionAddresses:
    """How sessions are addressed: ``ID.domain``, or ``/session/ID/``."""

    style: Literal["host", "path"]
    #: Needed with ``host``: below it sessions have their names.
    domain: str | None = None

    def place(self, hosts: list[str], target: str) -> Place | None:
        """Whose address that is; None where it is no session's. ``hosts`` are Host headers."""
        if self.style == "path":
            found = _PATHS.fullmatch(target)
            if found is None:
                return None
            known = found[2] if SESSION_ID.fullmatch(found[2]) else None
            return Place(known, found[1], f"{found[3]}{found[4] or ''}" if found[3] else "")
        labels = [label for host in hosts if (label := self._label(host)) is not None]
        if not labels:
            return None
        known = labels[0] if SESSION_ID.fullmatch(labels[0]) and len(hosts) == 1 else None
        return Place(known, "", target)

    def _label(self, host: str) -> str | None:
        name = re.sub(r":[0-9]*$", "", host.strip().lower()).removesuffix(".")
        end = f".{self.domain}"
        return name.removesuffix(end) if self.domain and name.endswith(end) else None

    def url(self, session_id: str, scheme: str, host: str) -> str:
        """The address, with a slash at its end; ``host`` is where its client reached the portal."""
        if self.style == "path":
            return f"{scheme}://{host}{PATH}{session_id}/"
        match = _HOST.fullmatch(host)
        port = (match[2] or "") if match else ""
        return f"{scheme}://{session_id}.{self.domain}{port}/"


def session_addresses(settings: Settings) -> SessionAddresses | None:
    """Those of a site; None where its sessions have none."""
    if not settings.has_session_addresses:
        return None
    return SessionAddresses(settings.frontend.session_address, settings.session_domain)
