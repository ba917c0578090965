"""On the compute node: how a session proves itself to the hub and to the proxy, and knows them.

It comes as a visitor, with a certificate from its job's environment that only lets it in; its own key is made here, the
hub signs for it (spawners/certificates.py), and both lie in the session's own folder until it ends.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64decode, encodebytes
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["VISITOR", "Identity", "certificate_request", "keep", "session_context", "visitor_context"]

VISITOR = ("STUDIOLO_HUB_CA", "STUDIOLO_VISITOR", "STUDIOLO_VISITOR_KEY")
KEY_PEM = "-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n"


@dataclass(frozen=True)
class Identity:
    """What this session proves itself with, and whom it trusts: private key, certificate, authorities, all PEM."""

    key: str = field(repr=False)
    certificate: str
    authorities: str


def visitor_context(given: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the hub alone, and be let in to it with the certificate that came with the job.

    Raises ``ValueError`` or ``OSError`` where the environment does not hold what the hub puts there.
    """
    authority, certificate, key = (b64decode(given[name], validate=True) for name in VISITOR)
    # Not create_default_context(): with an empty authority it would trust those of the whole world.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority)
    pem = ssl.DER_cert_to_PEM_cert(certificate) + KEY_PEM.format(encodebytes(key).decode())
    # OpenSSL reads files alone: this one lies in memory and is gone when it is closed.
    with open(os.memfd_create("studiolo-visitor"), "w") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def certificate_request() -> tuple[str, str]:
    """A new private key and a request for its certificate, both PEM. The names are the hub's to decide."""
    # Imported late, as it is not needed without TLS; the server imports it anyway, so this costs the session no time.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def keep(identity: Identity, folder: str) -> dict[str, str]:
    """Write what JupyterHub's server reads from files alone into the session's own folder, closed to others."""
    place = f"{folder}/tls"
    os.mkdir(place, 0o700)
    paths = {
        "JUPYTERHUB_SSL_KEYFILE": f"{place}/key.pem",
        "JUPYTERHUB_SSL_CERTFILE": f"{place}/certificate.pem",
        "JUPYTERHUB_SSL_CLIENT_CA": f"{place}/authorities.pem",
    }
    for path, text in zip(paths.values(), (identity.key, identity.certificate, identity.authorities), strict=True):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return paths


def session_context() -> ssl.SSLContext | None:
    """Trust the hub and prove this session to it; ``None`` without TLS inside."""
    if not (key := os.environ.get("JUPYTERHUB_SSL_KEYFILE")):
        return None
    context = ssl.create_default_context(cafile=os.environ["JUPYTERHUB_SSL_CLIENT_CA"])
    context.load_cert_chain(os.environ["JUPYTERHUB_SSL_CERTFILE"], key)
    return context
