"""A certification authority for tests, and servers' certificates of it."""

import datetime
import ipaddress
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class CA:
    """``file`` is its certificate. What it issues is written to the folder as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("The tests' own CA")
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        built = self._begun(self._name, self._key.public_key(), 30)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(self._identifier, critical=False)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signed(built))

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + days * DAY)
        )

    def _signed(self, built: x509.CertificateBuilder) -> bytes:
        return built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, days: float = 20, stem: str = "server") -> tuple[Path, Path]:
        """Paths of a certificate for these names and of its key, which replace earlier ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = self._begun(_name(names[0]), key.public_key(), days)
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        for extension in (alternatives, usage, above):
            built = built.add_extension(extension, critical=False)
        certificate, secret = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        replace(certificate, self._signed(built))
        replace(secret, private(key))
        return certificate, secret


def private(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """In PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


def replace(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 beside and rename it over, as tools that renew do."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)


def trusted_by_chromium(ca: CA, home: Path) -> None:
    """Put the CA into the store of a Chromium that has ``home`` for its HOME."""
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    where = f"sql:{store}"
    subprocess.run(["certutil", "-N", "-d", where, "--empty-password"], check=True)
    add = ["certutil", "-A", "-d", where, "-n", "tests", "-t", "C,,", "-i", str(ca.file)]
    subprocess.run(add, check=True)
