"""Where a service is and how one proves who asks: what both clients make of their arguments."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import hpcbridge
from hpcbridge.client.errors import ClientError, NotHpcbridge, ServiceUnreachable
from hpcbridge.errors import ConfigError
from hpcbridge.files import private

ENDPOINT = "/paraview"
"""The path of the API, unless the address has one."""
TIMEOUT = 30.0
"""Seconds that an answer may take."""
CONNECT_TIMEOUT = 10.0
STREAM_TIMEOUT = httpx.Timeout(60.0, connect=CONNECT_TIMEOUT)
"""Of a stream of events a sign of life comes every 15 s."""
_TOKEN = re.compile(r"[!-~]{1,512}")


@dataclass(frozen=True)
class Connection:
    """What an HTTP client is made of. ``options`` are httpx's."""

    options: Mapping[str, Any] = field(repr=False)
    socket: Path | None
    name: str
    """The service as it is called in errors."""

    def lost(self, error: httpx.HTTPError) -> ClientError:
        """What is told where no answer came."""
        if isinstance(error, httpx.TimeoutException):
            return ServiceUnreachable(f"{self.name} does not answer.")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.DecodingError):
            return NotHpcbridge(f"{self.name}: {error}")
        said = str(error).rstrip(".") or type(error).__name__
        return ServiceUnreachable(f"{self.name} cannot be reached: {said}.")


def connection(
    url: str | None,
    *,
    token: str | None,
    token_file: str | Path | None,
    socket: str | Path | None,
    ca: str | Path | None,
    cleartext: bool,
    timeout: float,
) -> Connection:
    """Raises :class:`~hpcbridge.client.errors.ClientError` for what cannot be."""
    address = _address(url or ("http://localhost" if socket else ""))
    name = str(socket) if socket else f"{address.scheme}://{address.netloc.decode()}"
    given = _token(token, token_file)
    if given and not (socket or cleartext or address.scheme == "https" or _here(address.host)):
        raise ClientError(
            f"{name} is not encrypted: whoever listens would have the token. Use https."
        )
    headers = {"User-Agent": f"hpcbridge/{hpcbridge.__version__}"}
    if given:
        headers["Authorization"] = f"Bearer {given}"
    patience = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
    options: dict[str, Any] = {"base_url": address, "headers": headers, "timeout": patience}
    if address.scheme == "https":
        options["verify"] = _trusted(ca)
    if _here(address.host):
        options["trust_env"] = False  # a proxy of the environment would get the token
    return Connection(options, Path(socket) if socket else None, name)


def _address(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ClientError(f"{url!r} is no address of a service: {error}.") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise ClientError(f"{url!r} is no address such as https://viz.example.org.")
    if found.userinfo or found.query or found.fragment:
        raise ClientError("The service's address has no user, password, query or fragment.")
    return found.copy_with(path=found.path.rstrip("/") or ENDPOINT)


def _here(host: str) -> bool:
    """Whether what is sent to this host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _token(token: str | None, file: str | Path | None) -> str | None:
    if file is not None:
        try:
            content = private.read(Path(file).expanduser().absolute(), "the token's file")
        except ConfigError as error:
            raise ClientError(str(error)) from error
        token = content.decode("ascii", "replace").strip()
    if token is not None and not _TOKEN.fullmatch(token):
        raise ClientError("This is no token: they are printable ASCII without spaces.")
    return token


def _trusted(ca: str | Path | None) -> ssl.SSLContext:
    """The system's certificates, as sites put their own CA there; and ``ca``."""
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(Path(ca).expanduser())
        except (OSError, ssl.SSLError) as error:
            said = getattr(error, "strerror", None) or error
            raise ClientError(f"The certificates of {ca} cannot be read: {said}.") from error
    return context
