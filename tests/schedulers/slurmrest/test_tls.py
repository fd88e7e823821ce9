"""slurmrestd behind TLS: a real, small server, and who is trusted to get a token."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.slurmrest.client import Client
from hpcbridge.schedulers.slurmrest.scheduler import SlurmRestScheduler
from tests.schedulers.slurmrest.fakerest import Given, Hands, json, recorded, settings


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody else signed, and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "slurmrestd")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
async def server(authority: Path) -> AsyncIterator[str]:
    """A small TLS server that pings and lists no job; its URL."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(authority)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = recorded("ping", "v0.0.42")
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                body = (with_body if b"/ping" in line else json(200, jobs=[], errors=[])).content
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    + f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=trust)
    yield f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()


def over_tls(url: str, **changes: Any) -> Any:
    ours = settings(url=url, token_command=["scontrol", "token"], **changes)
    return SlurmRestScheduler(ours, Client(ours, Given("aaa.bbb.ccc")), Hands())  # type: ignore[arg-type]


async def test_a_certificate_that_is_not_trusted_gets_no_token(server: str) -> None:
    scheduler = over_tls(server)
    with pytest.raises(ClusterUnreachable, match="certificate that is not trusted") as caught:
        await scheduler.list_jobs()
    assert caught.value.lasting
    await scheduler.close()


async def test_a_certificate_of_the_configured_authority_is_trusted(
    server: str, authority: Path
) -> None:
    scheduler = over_tls(server, ca=authority)
    assert (await scheduler.list_jobs()).jobs == {}
    await scheduler.close()


async def test_a_ca_file_that_is_missing_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreachable, match="cannot be read"):
        await over_tls(server, ca=tmp_path / "none.pem").list_jobs()
