"""Certificates for tests: an authority, servers' and clients' certificates, and wrong ones. Files in PEM."""

from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"
PAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)


class Certificates:
    """Files in a folder: `ca.pem`, `stranger.pem` (an authority that has issued nothing) and those that are issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.stranger = folder / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(self.stranger)

    def issue(self, name: str, *identities: str, expired: bool = False, key_password: str = "") -> tuple[Path, Path]:
        """The files of a certificate with its name as common name, for these hosts, and of its key (PKCS#8)."""
        before, after = PAST if expired else (None, None)
        hosts = identities or (f"{name}.test",)  # Java refuses a certificate without any
        leaf = self._authority.issue_cert(*hosts, common_name=name, not_before=before, not_after=after)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(_pkcs8(leaf.private_key_pem.bytes(), key_password))
        key.chmod(0o600)
        return certificate, key

    def issue_server(self, *, expired: bool = False) -> tuple[Path, Path]:
        """The files of a server's certificate for 127.0.0.1, not for localhost, and its key."""
        return self.issue("server", HOST, expired=expired)


def _pkcs8(key: bytes, password: str) -> bytes:
    encryption: KeySerializationEncryption = NoEncryption()
    if password:
        encryption = BestAvailableEncryption(password.encode())
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
