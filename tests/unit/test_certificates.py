"""A session's certificate: names from the hub alone, a request that can be anything, and real handshakes at each door."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import threading
from base64 import b64decode, encodebytes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.utils import make_ssl_context

from hub_config import certificates as store
from spawners import certificates, identity
from spawners.certificates import Authority, RequestNotUsable, authority_in, public_key, session_names
from spawners.identity import VISITOR, Identity, keep, session_context
from spawners.singleuser import SessionError, exchange, front_door
from studiolo.site import Site, parse
from studiolo.slurm.launcher import LETTERS, MAX_NAME, MAX_VALUE


@pytest.fixture(scope="module")
def site(site_text: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose hub has its certificates."""
    folder = tmp_path_factory.mktemp("state")
    old = 'state = "/var/lib/studiolo/hub"'
    assert site_text.count(old) == 1
    site = parse(site_text.replace(old, f'state = "{folder}"'))
    store.ensure(site)
    return site


@pytest.fixture(scope="module")
def authority(site: Site) -> Authority:
    return authority_in(site.certificates)


def pem(request: x509.CertificateSigningRequest) -> str:
    return request.public_bytes(Encoding.PEM).decode()


def requested(builder: x509.CertificateSigningRequestBuilder | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> str:  # fmt: skip
    builder = builder or x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return pem(builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))


# --- What a request may be -------------------------------------------------------------------------------------------


def test_the_key_of_a_request_is_taken() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert public_key(requested(key=key)).public_numbers() == key.public_key().public_numbers()


def test_what_the_node_makes_is_a_request_that_the_hub_takes() -> None:
    key, request = identity.certificate_request()
    assert "PRIVATE KEY" in key
    assert public_key(request)
    assert "PRIVATE" not in request


def other_keys() -> dict[str, str]:
    """Requests with keys that are no P-256, each signed well."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return {
        "RSA": pem(builder.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())),
        "P-384": pem(builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())),
        "secp256k1": pem(builder.sign(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256())),
        "Ed25519": pem(builder.sign(ed25519.Ed25519PrivateKey.generate(), None)),
    }


@pytest.mark.parametrize("kind", ["RSA", "P-384", "secp256k1", "Ed25519"])
def test_other_kinds_of_keys_are_refused(kind: str) -> None:
    with pytest.raises(RequestNotUsable, match="P-256"):
        public_key(other_keys()[kind])


def test_a_request_for_somebody_elses_key_is_refused() -> None:
    """The signature proves that whoever asks holds the key: one replaced in a signed request is found out."""
    mine, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(mine, hashes.SHA256()).public_bytes(Encoding.DER)
    points = [
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (mine, theirs)
    ]  # the same length, so that the request stays well-formed
    assert signed.count(points[0]) == 1
    forged = x509.load_der_x509_csr(signed.replace(*points))
    with pytest.raises(RequestNotUsable, match="not signed with its own key"):
        public_key(pem(forged))


@pytest.mark.parametrize(
    "text",
    ["", "x", "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN CERTIFICATE REQUEST-----\n!!\n-----END CERTIFICATE REQUEST-----\n",
     "A" * 2048, "A" * 1_000_000, "\0", "é", "\ud800", None, 7, True, [], {}, b"x"],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_is_no_request_is_refused(text: object) -> None:
    with pytest.raises(RequestNotUsable):
        public_key(text)  # type: ignore[arg-type]


def test_a_request_of_many_certificates_or_of_another_kind_is_refused(site: Site) -> None:
    path = Path(site.certificates) / "notebooks-ca"
    for text in ((path / "notebooks-ca.crt").read_text(), (path / "notebooks-ca.key").read_text()):
        with pytest.raises(RequestNotUsable):
            public_key(text)


REQUEST = requested()


@given(st.data())
def test_a_damaged_request_is_refused_or_is_a_request(data: st.DataObject) -> None:
    der = bytearray(b64decode("".join(REQUEST.splitlines()[1:-1])))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    text = "-----BEGIN CERTIFICATE REQUEST-----\n" + encodebytes(bytes(der)).decode() + "-----END CERTIFICATE REQUEST-----\n"  # fmt: skip
    try:
        key = public_key(text)
    except RequestNotUsable:
        return
    assert isinstance(key.curve, ec.SECP256R1)


# --- What is signed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "address", "names"),
    [
        ("gpu1", "10.1.0.7", ["DNS:gpu1", "IP:10.1.0.7"]),
        ("gpu1", "gpu1", ["DNS:gpu1"]),
        ("gpu1", "gpu1.ib.example.org", ["DNS:gpu1", "DNS:gpu1.ib.example.org"]),
        ("gpu1", "fd00::7", ["DNS:gpu1", "IP:fd00::7"]),
        ("gpu1", "127.0.0.1", ["DNS:gpu1", "IP:127.0.0.1"]),
    ],
)
def test_a_session_answers_for_its_node_and_for_the_address_that_the_hub_uses(
    node: str, address: str, names: list[str]
) -> None:
    kinds = {x509.DNSName: "DNS", x509.IPAddress: "IP"}
    assert [f"{kinds[type(name)]}:{name.value}" for name in session_names(node, address)] == names  # type: ignore[index]


def test_nothing_that_a_request_asks_for_is_granted(authority: Authority) -> None:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub-internal")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("hub.example.org"), x509.DNSName("*")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    signed = x509.load_pem_x509_certificate(
        authority.session(public_key(requested(builder)), session_names("gpu1", "10.1.0.7"), 60).encode()
    )
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == session_names("gpu1", "10.1.0.7")
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "hub-internal" not in signed.subject.rfc4514_string()
    assert not signed.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    signed.verify_directly_issued_by(authority.certificate)


@pytest.mark.parametrize("minutes", [1, 120, 60 * 24 * 30, 60 * 24 * 365 * 50])
def test_a_certificate_outlives_its_session_a_little_and_never_its_authority(
    authority: Authority, minutes: int
) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    signed = x509.load_pem_x509_certificate(
        authority.session(public_key(requested()), session_names("gpu1", "gpu1"), minutes).encode()
    )
    wanted = before + timedelta(minutes=minutes) + certificates.MARGIN
    assert signed.not_valid_before_utc < before
    assert signed.not_valid_after_utc <= authority.certificate.not_valid_after_utc
    assert signed.not_valid_after_utc >= min(wanted, authority.certificate.not_valid_after_utc)


def test_what_a_job_brings_passes_the_launcher_and_is_one_line_each(authority: Authority) -> None:
    for name, value in authority.visitor(60).items():
        assert name.startswith("STUDIOLO_")
        assert LETTERS.issuperset(name.removeprefix("STUDIOLO_").encode())
        assert len(name) <= MAX_NAME
        assert len(value) < MAX_VALUE
        assert value.isascii()
        assert value.isprintable()


def test_each_job_has_a_visitors_certificate_of_its_own(authority: Authority) -> None:
    one, other = authority.visitor(60), authority.visitor(60)
    assert one["STUDIOLO_VISITOR_KEY"] != other["STUDIOLO_VISITOR_KEY"]
    assert one["STUDIOLO_HUB_CA"] == other["STUDIOLO_HUB_CA"]


# --- Real handshakes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """A certificate with its key, and whom its holder trusts."""

    key: str
    certificate: str
    authorities: str

    @property
    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authorities)
        context.load_cert_chain(self.certificate, self.key)
        return context

    @property
    def server(self) -> ssl.SSLContext:
        """As jupyter_server makes it from these files."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.authorities)
        return context


Maker = Callable[[str, str], Files]


@pytest.fixture
def session(authority: Authority, tmp_path: Path) -> Maker:
    """``session(node, address)``: the files of a session there."""

    def make(node: str, address: str) -> Files:
        key, request = identity.certificate_request()
        signed = authority.session(public_key(request), session_names(node, address), 60)
        folder = tmp_path / f"{node}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        paths = keep(Identity(key, signed, authority.trusted), str(folder))
        return Files(*(paths[f"JUPYTERHUB_SSL_{name}"] for name in ("KEYFILE", "CERTFILE", "CLIENT_CA")))

    return make


@pytest.fixture
def hub_files(site: Site, tmp_path: Path) -> Files:
    """The hub's own, trusting whom JupyterHub has it trust."""
    trusted = tmp_path / "hub-trust.pem"
    names = ("hub-ca", "notebooks-ca", "proxy-api-ca", "proxy-client-ca", "services-ca")
    trusted.write_text("".join((Path(site.certificates) / name / f"{name}.crt").read_text() for name in names))
    base = f"{site.certificates}/hub-internal/hub-internal"
    return Files(f"{base}.key", f"{base}.crt", str(trusted))


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> str:
    """Connect over a real socket; returns what each side said of the other: "good", or the reason of the refusal."""
    told: list[str] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(20)
        try:
            with server.wrap_socket(connection, server_side=True) as peer:
                peer.sendall(b"x")
        except OSError as error:
            told.append(f"server: {error}")
        finally:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            raw = socket.create_connection(listener.getsockname(), timeout=20)
            with raw, client.wrap_socket(raw, server_hostname=name) as peer:
                said = "good" if peer.recv(1) == b"x" else "nothing"
        except OSError as error:
            said = f"client: {error}"
        thread.join()
    return "; ".join([said, *told])


def visitor_of(authority: Authority) -> ssl.SSLContext:
    return identity.visitor_context(authority.visitor(60))


def test_hub_and_session_know_each_other_both_ways(session: Maker, hub_files: Files) -> None:
    mine = session("gpu1", "127.0.0.1")
    assert shake(mine.server, make_ssl_context(hub_files.key, hub_files.certificate, hub_files.authorities)) == "good"
    assert shake(hub_files.server, mine.client) == "good"


def test_all_of_them_hold_by_the_strict_rules_of_newer_pythons(session: Maker, hub_files: Files) -> None:
    mine = session("gpu1", "127.0.0.1")
    for one, other in ((mine, hub_files), (hub_files, mine)):
        contexts = one.server, other.client
        for context in contexts:
            context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
        assert shake(*contexts) == "good"


def test_proxy_and_session_know_each_other(session: Maker, site: Site) -> None:
    base = f"{site.certificates}/proxy-client/proxy-client"
    proxy = Files(f"{base}.key", f"{base}.crt", store.proxy_trust(site, "proxy-client"))
    assert shake(session("gpu1", "127.0.0.1").server, proxy.client) == "good"


@pytest.mark.parametrize("place", [("gpu2", "127.0.0.2"), ("gpu2", "gpu2.example.org"), ("localhost", "::1")])
def test_a_session_of_another_node_can_not_stand_in_for_this_one(
    session: Maker, hub_files: Files, place: tuple[str, str]
) -> None:
    """By the certificate alone: it lies at the right address, and is refused there."""
    client = make_ssl_context(hub_files.key, hub_files.certificate, hub_files.authorities)
    assert "certificate verify failed" in shake(session(*place).server, client)


def test_a_neighbours_session_is_no_client_of_this_one(session: Maker) -> None:
    mine, theirs = session("gpu1", "127.0.0.1"), session("gpu1", "127.0.0.1")
    permissive = ssl.create_default_context()
    permissive.check_hostname = False
    permissive.verify_mode = ssl.CERT_NONE
    permissive.load_cert_chain(theirs.certificate, theirs.key)
    assert "certificate verify failed" in shake(mine.server, permissive)


def test_a_session_does_not_take_another_session_for_the_hub(session: Maker) -> None:
    mine, theirs = session("gpu1", "127.0.0.1"), session("gpu1", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(theirs.certificate, theirs.key)
    assert "certificate verify failed" in shake(server, mine.client)


def test_a_visitor_is_let_in_to_the_hub_and_knows_it(authority: Authority, hub_files: Files) -> None:
    assert shake(hub_files.server, visitor_of(authority)) == "good"


def test_a_visitor_takes_nobody_but_the_hub_for_the_hub(authority: Authority, session: Maker) -> None:
    theirs = session("gpu1", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(theirs.certificate, theirs.key)
    assert "certificate verify failed" in shake(server, visitor_of(authority))


def test_a_visitor_is_let_in_to_no_session_and_not_to_the_proxy(
    authority: Authority, session: Maker, site: Site
) -> None:
    base = f"{site.certificates}/proxy-api/proxy-api"
    proxy = Files(f"{base}.key", f"{base}.crt", store.proxy_trust(site, "proxy-api"))
    for server in (session("gpu1", "127.0.0.1").server, proxy.server):
        context = visitor_of(authority)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert "certificate verify failed" in shake(server, context)


def test_a_visitors_certificate_is_none_of_a_server(authority: Authority, hub_files: Files, tmp_path: Path) -> None:
    given = authority.visitor(60)
    certificate = tmp_path / "visitor.pem"
    key = identity.KEY_PEM.format(given["STUDIOLO_VISITOR_KEY"] + "\n")
    certificate.write_text(ssl.DER_cert_to_PEM_cert(b64decode(given["STUDIOLO_VISITOR"])) + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = make_ssl_context(hub_files.key, hub_files.certificate, hub_files.authorities)
    client.check_hostname = False
    assert "certificate verify failed" in shake(server, client)


def test_who_made_an_authority_with_the_same_name_is_refused(session: Maker, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub-ca")])
    now = datetime.now(timezone.utc)
    forged = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "forged.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(forged.public_bytes(Encoding.PEM) + private)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)
    assert "certificate verify failed" in shake(session("gpu1", "127.0.0.1").server, context)


# --- The whole exchange ----------------------------------------------------------------------------------------------


@dataclass
class FakeHub:
    """A hub that signs over real TLS, as it is told to."""

    url: str
    answer: Callable[[dict[str, str]], dict[str, object]]
    bodies: list[dict[str, str]]


@pytest.fixture
def hub(authority: Authority, hub_files: Files) -> Iterator[FakeHub]:
    def sign(body: dict[str, str]) -> dict[str, object]:
        signed = authority.session(public_key(body["csr"]), session_names("gpu1", "127.0.0.1"), 60)
        return {"environment": {"A": "1"}, "outline": "{}", "certificate": signed, "authorities": authority.trusted}

    told = FakeHub("", sign, [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.bodies.append(body)
            answer = json.dumps(told.answer(body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is what some tests are about

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = hub_files.server.wrap_socket(server.socket, server_side=True)
        told.url = f"https://127.0.0.1:{server.server_port}/hub/api"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def brought_to(hub: FakeHub, authority: Authority) -> dict[str, str]:
    return {"STUDIOLO_HUB": hub.url, "STUDIOLO_BOOTSTRAP": "secret", **authority.visitor(60)}


def test_a_key_made_on_the_node_is_signed_for_and_stays_there(hub: FakeHub, authority: Authority) -> None:
    granted = exchange(hub.url, "secret", front_door(brought_to(hub, authority)))
    identity = granted.identity
    assert granted.environment == {"A": "1"}
    assert identity is not None
    (body,) = hub.bodies
    assert set(body) == {"secret", "csr"}
    key = load_pem_private_key(identity.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = x509.load_pem_x509_certificate(identity.certificate.encode())
    assert signed.public_key() == key.public_key() == public_key(body["csr"])
    assert "PRIVATE" not in json.dumps(body)
    assert identity.key not in repr(identity)


@pytest.mark.parametrize("left_out", ["certificate", "authorities"])
@pytest.mark.parametrize("instead", [None, 7])
def test_a_hub_that_signs_nothing_is_none(hub: FakeHub, authority: Authority, left_out: str, instead: object) -> None:
    sign = hub.answer
    hub.answer = lambda body: sign(body) | {left_out: instead}
    with pytest.raises(SessionError, match="something else than the hub"):
        exchange(hub.url, "secret", front_door(brought_to(hub, authority)))


def test_whoever_else_listens_in_the_hubs_place_is_told_nothing_and_not_asked_twice(
    hub: FakeHub, authority: Authority, tmp_path_factory: pytest.TempPathFactory, site_text: str
) -> None:
    """The job knows another hub's authority: the secret stays here, and the session ends at once."""
    folder = tmp_path_factory.mktemp("other")
    other = parse(site_text.replace('state = "/var/lib/studiolo/hub"', f'state = "{folder}"'))
    store.ensure(other)
    authority_in.cache_clear()
    brought = brought_to(hub, authority) | {
        "STUDIOLO_HUB_CA": authority_in(other.certificates).visitor(60)["STUDIOLO_HUB_CA"]
    }
    authority_in.cache_clear()
    with pytest.raises(SessionError, match="can not be reached.*certificate verify failed"):
        exchange(hub.url, "secret", front_door(brought))
    assert hub.bodies == []


@pytest.mark.parametrize("name", VISITOR)
@pytest.mark.parametrize("value", ["", "x", "!", "AAAA"])
def test_a_job_without_what_the_hub_gives_it_was_started_by_somebody_else(
    authority: Authority, name: str, value: str
) -> None:
    brought = {"STUDIOLO_HUB": "https://hub:1/hub/api", **authority.visitor(60), name: value}
    with pytest.raises(SessionError, match="only the hub can start it"):
        front_door(brought)


def test_no_visitor_is_needed_where_inside_is_plain_http() -> None:
    assert front_door({"STUDIOLO_HUB": "http://hub:1/hub/api"}) is None


def test_the_files_of_a_session_are_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths = keep(Identity("key", "certificate", "authorities"), str(tmp_path))
    finally:
        os.umask(before)
    assert [Path(path).read_text() for path in paths.values()] == ["key", "certificate", "authorities"]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in paths.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_session_asks_the_hub_with_its_own_certificate(
    session: Maker, hub_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = session("gpu1", "127.0.0.1")
    for name, path in zip(
        ("KEYFILE", "CERTFILE", "CLIENT_CA"), (mine.key, mine.certificate, mine.authorities), strict=True
    ):
        monkeypatch.setenv(f"JUPYTERHUB_SSL_{name}", path)
    context = session_context()
    assert context is not None
    assert shake(hub_files.server, context) == "good"
    assert "Hostname mismatch" in shake(hub_files.server, context, name="localhost")


def test_without_tls_inside_a_session_has_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_SSL_KEYFILE", raising=False)
    assert session_context() is None
