"""Browsers where there are no users: each finds the sessions that it launched by a random cookie.

The cookie gives no other right than that. Of it only a digest is kept, with each session that was
launched with it, so nobody who reads the database can be a visitor.
"""

import hashlib
import re
import secrets

from hpcbridge.auth.headers import values
from hpcbridge.frontends.admission import VISITOR_COOKIES
from hpcbridge.frontends.base import Headers
from hpcbridge.frontends.origin import origin_allowed

LASTS = 90 * 86400
"""Seconds for which a browser keeps the cookie after its last look at the portal."""
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


def visitor(headers: Headers) -> str | None:
    """The digest of a request's visitor; None where no page of this host sent it, or no cookie."""
    value = _value(headers)
    if value is None or not _from_our_page(headers):
        return None
    return hashlib.sha256(b"visitor " + value.encode()).hexdigest()


def set_cookie(headers: Headers, scheme: str) -> str:
    """The value of ``Set-Cookie`` that makes a browser a visitor, or keeps it the one it is.

    Over TLS the name has the prefix that no other host's page can set.
    """
    names = VISITOR_COOKIES if scheme == "http" else VISITOR_COOKIES[1:]
    value = _value(headers, *names) or secrets.token_urlsafe(32)
    secure = "; Secure" if scheme == "https" else ""
    return f"{names[0]}={value}; Path=/; Max-Age={LASTS}; HttpOnly; SameSite=Lax{secure}"


def _value(headers: Headers, *names: str) -> str | None:
    """The cookie's value, if it can be one of ours; that of TLS counts first."""
    found: dict[str, str] = {}
    for header in values(headers, b"cookie"):
        for pair in header.decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if _VALUE.fullmatch(value):
                found.setdefault(name, value)
    wanted = names or VISITOR_COOKIES
    return next((found[name] for name in reversed(wanted) if name in found), None)


def _from_our_page(headers: Headers) -> bool:
    """Whether a page of this host asks, or the address bar: browsers say so (Fetch Metadata)."""
    said = values(headers, b"sec-fetch-site")
    if any(each not in (b"same-origin", b"none") for each in said):
        return False
    hosts = [each.decode("latin-1") for each in values(headers, b"host")]
    pages = [each.decode("latin-1") for each in values(headers, b"origin")]
    return all(origin_allowed(page, hosts[0] if hosts else None) for page in pages)
