"""What crosses between a client and a session at its own address: allow-lists, both ways.

A session is some user's program. No cookie, credential or user name of the portal's may reach it
under any spelling, and no header of its reply may speak for more than its own address. Pure
functions, no I/O.
"""

import fnmatch
import re
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from hpcbridge.frontends.admission import COOKIES, Admission, Visit
from hpcbridge.frontends.base import Headers

_ASKED = frozenset(
    b"accept accept-encoding accept-language access-control-request-headers "
    b"access-control-request-method cache-control content-disposition content-encoding "
    b"content-language content-length content-md5 content-range content-type depth device-memory "
    b"digest dnt expect if-match if-modified-since if-none-match if-range if-unmodified-since "
    b"last-event-id origin overwrite pragma prefer priority range save-data sec-fetch-dest "
    b"sec-fetch-mode sec-fetch-site sec-fetch-user sec-websocket-extensions sec-websocket-key "
    b"sec-websocket-protocol sec-websocket-version slug timeout trailer transfer-encoding "
    b"upgrade-insecure-requests user-agent x-csrf-token x-csrftoken x-http-method-override "
    b"x-requested-with x-xsrf-token x-xsrftoken".split()
)
_ANSWERED = frozenset(
    b"accept-patch accept-post accept-ranges access-control-allow-credentials "
    b"access-control-allow-headers access-control-allow-methods access-control-allow-origin "
    b"access-control-expose-headers access-control-max-age age allow cache-control "
    b"content-disposition content-encoding content-language content-length content-location "
    b"content-md5 content-range content-security-policy content-security-policy-report-only "
    b"content-type cross-origin-embedder-policy cross-origin-opener-policy "
    b"cross-origin-resource-policy date digest etag expires last-modified link permissions-policy "
    b"pragma preference-applied repr-digest retry-after server-timing sourcemap trailer "
    b"transfer-encoding vary x-accel-buffering x-content-type-options x-frame-options "
    b"x-jupyterhub-version x-sourcemap x-xss-protection".split()
)
_SWITCHED = frozenset(
    b"date sec-websocket-accept sec-websocket-extensions sec-websocket-protocol".split()
)
# What speaks for a whole host name; of a path, as far as it stays below it.
_OF_ADDRESS = frozenset([b"service-worker-allowed", b"www-authenticate"])
_TRAILED = frozenset(
    b"content-digest content-md5 digest etag grpc-message grpc-status repr-digest server-timing "
    b"x-checksum".split()
)
# Cookies of logins, which may be those of a whole domain and so come to sessions below it as well.
_LOGINS = (
    *("mod_auth_openidc_*", "_shibsession_*", "_shibstate_*", "_oauth2_proxy*", "_forward_auth*"),
    *("MOD_AUTH_CAS*", "CASTGC", "iPlanetDirectoryPro", "authelia_session", "authentik_*"),
    *("KEYCLOAK_*", "AUTH_SESSION_ID*", "mellon-*", "lemonldap*", "nginxauth*", "pubcookie*"),
)
_ATTRIBUTES = frozenset(
    {"expires", "max-age", "secure", "httponly", "samesite", "partitioned", "priority"}
)

List = list[tuple[bytes, bytes]]


class Astray(Exception):
    """The session's reply leads away from its own address."""


def asked(visit: Visit, admission: Admission, *, websocket: bool) -> List:
    """The headers that a session gets."""
    kept = [(name, value) for name, value in visit.headers if name in _ASKED]
    kept.append((b"host", visit.host.encode("latin-1")))
    if cookies := _cookies(visit, admission):
        kept.append((b"cookie", cookies))
    kept += [(b"referer", each) for each in _values(visit, b"referer") if _own(each, visit)][:1]
    kept += [
        (b"x-forwarded-for", admission.client.encode("latin-1")),
        (b"x-forwarded-host", visit.host.encode("latin-1")),
        (b"x-forwarded-proto", admission.scheme.encode("latin-1")),
    ]
    if visit.prefix:
        kept.append((b"x-forwarded-prefix", visit.prefix.encode("latin-1")))
    ours = {name.lower().encode("latin-1"): value for name, value in admission.headers.items()}
    kept = [(name, value) for name, value in kept if name not in ours]
    kept += [(name, value.encode("latin-1")) for name, value in ours.items()]
    if websocket:
        return [*kept, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    return [*kept, (b"connection", b"close")]


def sent_target(visit: Visit, admission: Admission) -> bytes:
    """The path and query that a session is asked for."""
    prefix = "" if admission.strip_prefix else visit.prefix
    given = urlencode(admission.query)
    joined = ("&" if "?" in visit.target else "?") if given else ""
    return f"{prefix}{visit.target}{joined}{given}".encode("latin-1")


def answered(headers: Headers, visit: Visit, admission: Admission) -> List:
    """The headers that a client gets. Raises :class:`Astray`."""
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    kept: List = []
    for name, value in headers:
        if name == b"content-length" and chunked:
            continue
        if name in _ANSWERED:
            kept.append((name, value))
        elif name == b"set-cookie":
            kept += [(name, cookie) for cookie in _set_cookie(value, visit, admission)]
        elif name == b"location":
            kept.append((name, location(value, visit, admission)))
        elif name in _OF_ADDRESS and (not visit.prefix or _below(value, visit)):
            kept.append((name, value))
    # The address may be a key to the session, and must not be told to other sites.
    return [*kept, (b"referrer-policy", b"same-origin"), (b"origin-agent-cluster", b"?1")]


def switched(headers: Headers) -> List:
    """The same for a reply that begins a WebSocket."""
    return [(name, value) for name, value in headers if name in _SWITCHED]


def hinted(headers: Headers) -> List:
    """The same for 103 (Early Hints)."""
    return [(name, value) for name, value in headers if name == b"link"]


def trailed(headers: Headers) -> List:
    """The trailers that cross, either way."""
    return [(name, value) for name, value in headers if name in _TRAILED]


def location(value: bytes, visit: Visit, admission: Admission) -> bytes:
    """Where a redirect leads, as the client must be told. Raises :class:`Astray`."""
    text = value.decode("latin-1")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise Astray(text) from error
    # Browsers read a backslash as a slash, and drop what they cannot show.
    if "\\" in text or re.search(r"[\x00-\x20\x7f]", text):
        raise Astray(text)
    if parts.scheme or parts.netloc:
        own = parts.netloc.lower() == visit.host.lower()
        if parts.scheme not in ("", "http", "https") or not (
            own or _LOOPBACK.fullmatch(parts.netloc)
        ):
            raise Astray(text)
        text = re.sub(r"^[^/]*//[^/?#]*", "", text)
        text = text if text.startswith("/") else f"/{text}"
        if text.startswith("//"):  # would be another host's name
            raise Astray(text)
    if visit.prefix and text.startswith("/"):
        if admission.strip_prefix:
            text = f"{visit.prefix}{text}"
        elif not _below(text.encode("latin-1"), visit):
            raise Astray(text)
    return text.encode("latin-1")


_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
"""Where the application listens; it may call itself so."""


def _values(visit: Visit, name: bytes) -> list[bytes]:
    return [value for header, value in visit.headers if header == name]


def _own(url: bytes, visit: Visit) -> bool:
    parts = url.decode("latin-1").split("://", 1)
    rest = parts[1] if len(parts) == 2 and parts[0] in ("http", "https") else ""
    return rest.lower().startswith(f"{visit.host.lower()}{visit.prefix}/")


def _below(path: bytes, visit: Visit) -> bool:
    text = path.decode("latin-1")
    return text.startswith(f"{visit.prefix}/") and ".." not in text and "%2e" not in text.lower()


def _cookies(visit: Visit, admission: Admission) -> bytes:
    pairs = [
        pair.strip() for value in _values(visit, b"cookie") for pair in value.split(b";") if pair
    ]
    kept = [pair for pair in pairs if _crosses(pair.partition(b"=")[0], admission)]
    return b"; ".join(kept)


def _crosses(name: bytes, admission: Admission) -> bool:
    text = name.strip().decode("latin-1")
    if not text or text.lower() in {each.lower() for each in COOKIES}:
        return False
    if admission.cookies is None:
        return not any(fnmatch.fnmatch(text.lower(), login.lower()) for login in _LOGINS)
    return any(fnmatch.fnmatchcase(text, allowed) for allowed in admission.cookies)


def _set_cookie(value: bytes, visit: Visit, admission: Admission) -> Iterable[bytes]:
    pair, *attributes = value.decode("latin-1").split(";")
    name = pair.partition("=")[0].strip()
    if "=" not in pair or not _crosses(name.encode("latin-1"), admission):
        return
    path, kept = "", [pair.strip()]
    for each in attributes:
        key, _, given = each.strip().partition("=")
        if key.lower() == "path":
            path = given
        elif key.lower() in _ATTRIBUTES:  # no Domain: it is this host's alone
            kept.append(each.strip())
    if visit.prefix:
        if name.lower().startswith("__host-"):  # such a one is for all paths
            return
        if admission.strip_prefix:
            path = f"{visit.prefix}{path if path.startswith('/') else '/'}"
        elif not path.startswith(f"{visit.prefix}/"):
            path = f"{visit.prefix}/"
    if path:
        kept.append(f"Path={path}")
    yield "; ".join(kept).encode("latin-1")
