"""Certificates of sessions: each session makes its own key on its node, and the hub signs for it once it runs there.

No private key of a session is ever in the hub, in a job's environment or on a wire: what travels is a request for a
certificate (CSR), over TLS, beside the job's one-time secret. Which names a certificate holds is the hub's decision
alone: the node that Slurm names and the address under which the hub reaches it. To be let in before it has a
certificate, a job brings a visitor's one in its environment: good for connecting to the hub, and for nothing else.

Everything is signed by JupyterHub's own authority for sessions (``notebooks-ca``).
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "RequestNotUsable", "authority_in", "public_key", "session_names"]

LONGEST_REQUEST = 2048  # characters; a P-256 key's has some 500
SKEW = timedelta(minutes=10)  # nodes' clocks may be behind the hub's
MARGIN = timedelta(days=1)  # an operator may give a running job more time
VISITOR, SESSION = "studiolo-visitor", "studiolo-session"


class RequestNotUsable(Exception):
    """Why a certificate request is refused, in words for the log of its sender."""


def public_key(request: str) -> ec.EllipticCurvePublicKey:
    """The key that a session's certificate request (PEM, from anybody) proves to hold; all else in it is ignored.

    Raises :class:`RequestNotUsable` for whatever is no request with a P-256 key signed by that key.
    """
    if not isinstance(request, str) or not request.isascii() or len(request) > LONGEST_REQUEST:
        raise RequestNotUsable(f"a certificate request is PEM of at most {LONGEST_REQUEST} characters")
    try:
        read = x509.load_pem_x509_csr(request.encode())
        key = read.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise RequestNotUsable("the key of a certificate request must be one of the curve P-256")
        signed = read.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RequestNotUsable("this is no certificate request that can be read") from error
    if not signed:
        raise RequestNotUsable("the certificate request is not signed with its own key")
    return key


def session_names(node: str, address: str) -> list[x509.GeneralName]:
    """What a session may answer for: its node's name in Slurm and the address at which hub and proxy reach that node."""
    return list(dict.fromkeys([x509.DNSName(node), general_name(address)]))


def general_name(host: str) -> x509.GeneralName:
    """An address or a host name, as certificates write it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True)
class Authority:
    """What the hub signs sessions' certificates with, and whom sessions trust (``trusted``, PEM: hub and proxy)."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    hub: x509.Certificate
    trusted: str

    def session(self, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], minutes: int) -> str:
        """A certificate (PEM) for a session on this node that runs for ``minutes`` at most: as server, and at the hub."""
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(SESSION, key, timedelta(minutes=minutes) + MARGIN, uses)
        signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(
            self.key, hashes.SHA256()
        )
        return signed.public_bytes(Encoding.PEM).decode()

    def visitor(self, minutes: int) -> dict[str, str]:
        """What a job brings in its environment to be let in to the hub, within ``minutes`` from now: Base64 of DER.

        The certificate names nobody and is none of a server: whoever finds it can ask the hub what any notebook can.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(VISITOR, key.public_key(), timedelta(minutes=minutes) + MARGIN, uses)
        return {
            "STUDIOLO_HUB_CA": _base64(self.hub.public_bytes(Encoding.DER)),
            "STUDIOLO_VISITOR": _base64(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)),
            "STUDIOLO_VISITOR_KEY": _base64(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        }

    def _builder(
        self, subject: str, key: ec.EllipticCurvePublicKey, lifetime: timedelta, uses: list[x509.ObjectIdentifier]
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )


@lru_cache(maxsize=1)
def authority_in(folder: str) -> Authority:
    """Read JupyterHub's authorities from its folder of certificates, once: new ones need a new hub process anyway."""

    def certificate(name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((Path(folder) / name / f"{name}.crt").read_bytes())

    key = load_pem_private_key((Path(folder) / "notebooks-ca" / "notebooks-ca.key").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)  # JupyterHub makes no other
    hub = certificate("hub-ca")
    trusted = [hub, certificate("proxy-client-ca")]
    return Authority(
        certificate=certificate("notebooks-ca"),
        key=key,
        hub=hub,
        trusted="".join(one.public_bytes(Encoding.PEM).decode() for one in trusted),
    )


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
