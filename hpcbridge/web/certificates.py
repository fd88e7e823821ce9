"""The service's own certificate: loaded, judged, and read again when its files change."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from hpcbridge.config.server import ServerSettings
from hpcbridge.errors import ConfigError
from hpcbridge.files import private
from hpcbridge.files.directories import closed_to_others

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks at the files."""
SOON = timedelta(days=14)
"""What is left of a certificate's time when it is told of."""
_LIMIT = 1 << 20
# TLS 1.2 with these, and all of TLS 1.3: forward secrecy and authenticated encryption only.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True)
class Loaded:
    """A certificate that can be used: what connections need, and what is told of it."""

    context: ssl.SSLContext
    #: Of the server's own certificate.
    names: tuple[str, ...]
    begins: datetime
    ends: datetime

    def worry(self, now: datetime) -> str:
        """Why browsers refuse it, or soon will; "" where they do not."""
        if now < self.begins:
            return f"The certificate is not valid before {_day(self.begins)}."
        if now >= self.ends:
            return f"The certificate is not valid since {_day(self.ends)}. Renew it."
        if now >= self.ends - SOON:
            return f"The certificate ends {_day(self.ends)}. Renew it."
        return ""

    def covers(self, name: str) -> bool:
        """Whether it is for a host name; ``*.example.org`` stands for all below one."""
        above = f"*.{name.partition('.')[2]}"
        return any(each.lower() in (name.lower(), above.lower()) for each in self.names)


def load(server: ServerSettings) -> Loaded:
    """Read and judge ``tls_certificate`` and ``tls_key``.

    Raises :class:`~hpcbridge.errors.ConfigError` for what cannot be used, a key that others can
    read or replace among it.
    """
    chain_file, key_file = server.tls_certificate, server.tls_key
    assert chain_file is not None
    assert key_file is not None  # the settings insist
    closed_to_others("server.tls_certificate", chain_file)
    try:
        with chain_file.open("rb") as file:
            chain = file.read(_LIMIT)
    except OSError as error:
        raise ConfigError(
            f"server.tls_certificate: {chain_file} cannot be read: {error.strerror}."
        ) from error
    key = private.read(key_file, "server.tls_key", links=True)
    own = _check(chain_file, chain, key_file, key)
    context = _context()
    try:
        with _as_file(chain) as one, _as_file(key) as two:
            context.load_cert_chain(one, two)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"server.tls_certificate: {chain_file} and {key_file} cannot be used: {reason}."
        ) from error
    return Loaded(context, _names(own), own.not_valid_before_utc, own.not_valid_after_utc)


def _check(chain_file: Path, chain: bytes, key_file: Path, key: bytes) -> x509.Certificate:
    """The server's own certificate, where it is one and the key is its."""
    try:
        own = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"server.tls_certificate: {chain_file} has no certificate in PEM."
        ) from error
    try:
        secret = serialization.load_pem_private_key(key, None)
    except TypeError as error:
        raise ConfigError(
            f"server.tls_key: {key_file} has a passphrase, which nobody could type. Remove it: "
            "openssl pkey -in FILE -out FILE"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"server.tls_key: {key_file} has no private key in PEM.") from error
    if own.public_key() != secret.public_key():
        raise ConfigError(
            f"server.tls_key: {key_file} is not the key of the first certificate in {chain_file}."
        )
    return own


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A file for OpenSSL, which takes no bytes, with what was checked (memfd_create(2))."""
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(handle, content)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _names(own: x509.Certificate) -> tuple[str, ...]:
    try:
        found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(each) for each in found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


class Certificates:
    """What new connections are served with. Raises what :func:`load` raises."""

    def __init__(self, server: ServerSettings) -> None:
        self._server = server
        self._seen = self._signature()
        self.loaded = load(server)
        self._tell()
        #: For all connections: each gets the certificate of the moment.
        self.context = self.loaded.context
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called of every handshake, also of one that names no host."""
        connection.context = self.loaded.context

    async def watch(self) -> None:
        """Look at the files for ever; what is wrong with new ones is told once."""
        while True:
            await asyncio.sleep(LOOK)
            if (seen := self._signature()) == self._seen:
                continue
            self._seen = seen
            if wrong := await asyncio.to_thread(self._renew):
                log.error("the certificate in use stays; the new one cannot be used: %s", wrong)
            else:
                log.info("a new certificate is used, valid until %s", _day(self.loaded.ends))
                self._tell()

    def _renew(self) -> str:
        """Why the files cannot be used, or ""."""
        try:
            self.loaded = load(self._server)
        except ConfigError as error:
            return str(error)
        return ""

    def _tell(self) -> None:
        if worry := self.loaded.worry(datetime.now(UTC)):
            log.warning("server.tls_certificate: %s", worry)

    def _signature(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self._server.tls_certificate, self._server.tls_key):
            try:
                status = os.stat(path or "")  # noqa: PTH116
            except OSError as error:
                found.append(error.errno)
            else:
                found += [status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns]
        return tuple(found)
