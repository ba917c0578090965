"""Between proxy, hub and sessions: who has no certificate of ours is not talked to, and each name is verified."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from hubclient import Hub, until

from hub_config import certificates
from spawners.certificates import authority_in, public_key, session_names
from spawners.identity import Identity, certificate_request, keep
from studiolo.site import Site, load


@dataclass(frozen=True)
class Files:
    """A key, its certificate, and whom its holder trusts."""

    key: Path
    certificate: Path
    authorities: Path

    def client(self) -> ssl.SSLContext:
        """Proves itself, and takes whoever answers: these tests are about the other side's refusal."""
        context = anybody()
        context.load_cert_chain(self.certificate, self.key)
        return context


def anybody() -> ssl.SSLContext:
    """A client without a certificate that takes whoever answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def site(site_file: Path) -> Site:
    found = load(site_file)
    assert found.hub.internal_tls, "TLS inside is on by default"
    return found


def port_of(hub: Hub, site: Site, user: str) -> int:
    """The port that a person's session listens on, by the hub's log of starts."""
    log = (hub.state / "supervisor" / "log" / "hub.log").read_text()
    line = [line for line in log.splitlines() if f" {user} listens: job " in line][-1]
    return int(line.rpartition(" ")[2])


def files_of(job: int) -> Files:
    """A session's own, in its folder on the node, as root sees them."""
    (folder,) = Path("/tmp").glob(f"studiolo-{job}-*/tls")
    return Files(folder / "key.pem", folder / "certificate.pem", folder / "authorities.pem")


@pytest.fixture(scope="module")
def session(hub: Hub, site: Site, running: str) -> tuple[int, Files]:
    """The port and the files of a running session."""
    return port_of(hub, site, running), files_of(hub.job(running))


def answer(port: int, context: ssl.SSLContext | None, request: bytes = b"GET /hub/api HTTP/1.0\r\n\r\n") -> str:
    """What comes back for a request: an HTTP status line, or nothing where the connection is refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            peer = raw if context is None else context.wrap_socket(raw)
            with peer:
                peer.sendall(request)
                return peer.recv(100).split(b"\r\n")[0].decode(errors="replace")
    except OSError:
        return ""


# --- The doors -------------------------------------------------------------------------------------------------------


def doors(site: Site, port: int) -> dict[str, int]:
    return {"session": port, "hub": site.hub.node_port, "proxy": site.hub.proxy_port}


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate whose authority has the right name and was made by somebody else."""
    folder = tmp_path_factory.mktemp("forged")
    for name in ("notebooks-ca", "hub-internal"):
        subject = f"/CN={name}"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subprocess.run([*command, "-subj", subject, "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt"], check=True, capture_output=True)  # fmt: skip
    return Files(folder / "hub-internal.key", folder / "hub-internal.crt", folder / "notebooks-ca.crt")


@pytest.mark.parametrize("door", ["session", "hub", "proxy"])
def test_plain_http_is_not_talked_inside(site: Site, session: tuple[int, Files], door: str) -> None:
    assert not answer(doors(site, session[0])[door], None).startswith("HTTP")


@pytest.mark.parametrize("door", ["session", "hub", "proxy"])
def test_who_has_no_certificate_is_refused_at_each_door(site: Site, session: tuple[int, Files], door: str) -> None:
    assert not answer(doors(site, session[0])[door], anybody()).startswith("HTTP")


@pytest.mark.parametrize("door", ["session", "hub", "proxy"])
def test_who_made_a_certificate_alone_is_refused_at_each_door(
    site: Site, session: tuple[int, Files], forged: Files, door: str
) -> None:
    assert not answer(doors(site, session[0])[door], forged.client()).startswith("HTTP")


@pytest.mark.parametrize(("door", "welcome"), [("hub", True), ("session", False), ("proxy", False)])
def test_a_sessions_certificate_opens_the_hub_and_neither_other_sessions_nor_the_proxy(
    site: Site, session: tuple[int, Files], door: str, welcome: bool
) -> None:
    port, files = session
    assert answer(doors(site, port)[door], files.client()).startswith("HTTP") is welcome


@pytest.mark.parametrize("door", ["session", "hub", "proxy"])
def test_the_hubs_certificate_opens_each_door(site: Site, session: tuple[int, Files], door: str) -> None:
    """So what the tests above see refused is refused for its certificate."""
    base = Path(site.certificates) / "hub-internal"
    own = Files(base / "hub-internal.key", base / "hub-internal.crt", base)
    assert answer(doors(site, session[0])[door], own.client()).startswith("HTTP")


# --- What a session holds --------------------------------------------------------------------------------------------


def test_a_certificate_names_the_node_by_slurms_word_and_its_address(
    hub: Hub, running: str, session: tuple[int, Files]
) -> None:
    certificate = x509.load_pem_x509_certificate(session[1].certificate.read_bytes())
    (node,) = hub.slurm("squeue", "-h", "-j", str(hub.job(running)), "-o", "%B").split()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == {node, "127.0.0.1"}


def test_a_sessions_key_is_its_owners_alone_and_in_no_other_place(
    hub: Hub, running: str, session: tuple[int, Files]
) -> None:
    job, key = hub.job(running), session[1].key
    facts = key.stat()
    assert facts.st_uid == pwd.getpwnam(running).pw_uid
    assert stat.S_IMODE(facts.st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    secret = "".join(key.read_text().splitlines()[1:-1])
    assert len(secret) > 100
    for line in (secret, key.read_text().splitlines()[1]):
        for place in (
            hub.slurm("scontrol", "show", "job", "-dd", str(job)),
            hub.slurm("scontrol", "write", "batch_script", str(job), "-"),
            hub.slurm("sacct", "-j", str(job), "-P", "-o", "ALL"),
        ):
            assert line not in place
        holders = [
            str(path)
            for path in hub.state.rglob("*")
            if path.is_file() and not path.is_symlink() and line.encode() in content(path)
        ]
        assert holders == []
        for folder in Path("/proc").glob("[0-9]*"):
            assert line.encode() not in content(folder / "environ")


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a socket, or gone meanwhile
        return b""


def test_what_let_the_job_in_does_not_reach_kernels(hub: Hub, running: str) -> None:
    token = hub.call("POST", f"users/{running}/tokens", json={"note": "test", "expires_in": 60}).json()["token"]
    kernels = f"{hub.url}user/{running}/api/kernels"
    httpx.post(kernels, headers={"Authorization": f"token {token}"}, json={}, timeout=30).raise_for_status()
    environment = until("a kernel", lambda: hub.environment(running, "ipykernel"))
    assert not {"STUDIOLO_VISITOR", "STUDIOLO_VISITOR_KEY", "STUDIOLO_BOOTSTRAP"} & set(environment)
    assert environment["JUPYTERHUB_API_URL"].startswith("https://")


def test_keys_are_gone_with_the_session(hub: Hub, ada: str) -> None:
    hub.start(ada, {"profile": "learn"})
    hub.ready(ada)
    files = files_of(hub.job(ada))
    assert files.key.exists()
    hub.stop(ada)
    until("the end of the folder", lambda: not files.key.parent.parent.exists())


# --- The request for a certificate -----------------------------------------------------------------------------------


def test_a_job_that_does_not_run_gets_no_certificate_and_loses_nothing_by_asking(hub: Hub, box: Any, ada: str) -> None:
    """Also for whoever stole its secret: the hub asks Slurm where the job runs, not the caller."""
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        hub.start(ada, {"profile": "learn"})
        secret = stored_environment(box, hub.job(ada))["STUDIOLO_BOOTSTRAP"]
        exchange = f"{hub.url}hub/api/studiolo/bootstrap"
        for body in ({"secret": secret}, {"secret": secret, "csr": "x", "names": ["DNS:hub"]}):
            assert httpx.post(exchange, json=body, timeout=40).status_code == 400
        for csr in ("", "x", "\0", None, 7, ["x"], "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 3000):
            assert httpx.post(exchange, json={"secret": secret, "csr": csr}, timeout=40).status_code == 400
        _, request = certificate_request()
        told = httpx.post(exchange, json={"secret": secret, "csr": request}, timeout=40)
        assert told.status_code == 503
        assert "certificate" not in told.json()
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    hub.ready(ada)


def stored_environment(box: Any, job: int) -> dict[str, str]:
    """A waiting job's environment as slurmctld keeps it, which root can read."""
    (path,) = (box.state / "slurm").rglob(f"job.{job}/environment")
    pairs = path.read_bytes().decode(errors="replace").split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if "=" in pair)


# --- The proxy -------------------------------------------------------------------------------------------------------


@pytest.fixture
def impostor(site: Site, tmp_path: Path) -> Iterator[Callable[[str, str], int]]:
    """``impostor(node, address)``: a server on 127.0.0.1 with a session's certificate for that place; its port."""
    stop: list[Callable[[], None]] = []

    def begin(node: str, address: str) -> int:
        key, request = certificate_request()
        authority = authority_in(site.certificates)
        signed = authority.session(public_key(request), session_names(node, address), 5)
        folder = tmp_path / node
        folder.mkdir()
        paths = keep(Identity(key, signed, authority.trusted), str(folder))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths["JUPYTERHUB_SSL_CERTFILE"], paths["JUPYTERHUB_SSL_KEYFILE"])
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                try:
                    raw.settimeout(20)
                    with context.wrap_socket(raw, server_side=True) as peer:
                        peer.recv(10_000)
                        peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nmine")
                except OSError:
                    raw.close()

        thread = threading.Thread(target=serve)
        thread.start()

        def end() -> None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()

        stop.append(end)
        return int(listener.getsockname()[1])

    yield begin
    for end in stop:
        end()


@pytest.fixture
def route(hub: Hub, site: Site) -> Iterator[Callable[[str, str], None]]:
    """``route(path, target)``: tell the proxy, as the hub does."""
    base = Path(site.certificates) / "hub-internal" / "hub-internal"
    context = ssl.create_default_context(cafile=Path(site.certificates) / "proxy-api-ca" / "proxy-api-ca.crt")
    context.load_cert_chain(f"{base}.crt", f"{base}.key")
    token = (Path(site.paths.secrets) / "proxy_token").read_text().strip()
    url = f"https://{site.hub.proxy_address}:{site.hub.proxy_port}/api/routes"
    made: list[str] = []
    with httpx.Client(verify=context, headers={"Authorization": f"token {token}"}, timeout=20) as client:

        def tell(path: str, target: str) -> None:
            client.post(f"{url}{path}", json={"target": target}).raise_for_status()
            made.append(path)

        yield tell
        for path in made:
            client.delete(f"{url}{path}")


@pytest.mark.parametrize("host", [None, "localhost", "gpu2", "jupyter.example.org"])
def test_the_proxy_takes_a_certificate_of_the_address_that_it_connects_to_and_no_other(
    hub: Hub, impostor: Callable[[str, str], int], route: Callable[[str, str], None], host: str | None
) -> None:
    """Whatever name the browser has in its address line: Node's own way would verify that one."""
    headers = {"Host": host} if host else {}
    route("/t/right", f"https://127.0.0.1:{impostor('gpu1', '127.0.0.1')}")
    route("/t/wrong", f"https://127.0.0.1:{impostor('gpu2', '127.0.0.2')}")
    assert httpx.get(f"{hub.url}t/right", headers=headers, timeout=20).text == "mine"
    assert httpx.get(f"{hub.url}t/wrong", headers=headers, timeout=20).status_code == 503


def test_hub_and_sessions_are_reached_under_any_name_of_this_host(hub: Hub, running: str) -> None:
    for host in ("localhost", "jupyter.example.org", "jupyter.example.org:8443"):
        assert httpx.get(f"{hub.url}hub/login", headers={"Host": host}, timeout=20).status_code == 200
        assert httpx.get(f"{hub.url}user/{running}/api", headers={"Host": host}, timeout=20).status_code == 200


# --- The files of hub and proxy --------------------------------------------------------------------------------------


def test_the_keys_of_hub_and_proxy_are_the_hubs_accounts_alone(site: Site, box: Any) -> None:
    keys = list(Path(site.certificates).rglob("*.key"))
    assert keys
    owner = pwd.getpwnam(box.hub_user).pw_uid
    assert {(key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) for key in keys} == {(owner, 0o600)}
    assert stat.S_IMODE(os.stat(site.paths.state).st_mode) == 0o700


def test_make_up_again_makes_no_new_certificates_and_restarts_nothing(platform: Any, hub: Hub, site: Site) -> None:
    before = {path: path.read_bytes() for path in certificates.files(site)}
    assert len(before) == 8
    done = platform.up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "running already" in done.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_the_hubs_address_in_a_session_is_verified(hub: Hub, running: str, session: tuple[int, Files]) -> None:
    """With a session's own files: the right name is answered, another name for the same address is not."""
    environment = hub.environment(running, "spawners.singleuser")
    address = urlsplit(environment["STUDIOLO_HUB"])
    context = ssl.create_default_context(cafile=session[1].authorities)
    context.load_cert_chain(session[1].certificate, session[1].key)
    connection = http.client.HTTPSConnection(str(address.hostname), int(address.port or 0), context=context, timeout=20)
    connection.request("GET", "/hub/api")
    assert json.load(connection.getresponse())["version"]
    connection.close()
    wrong = http.client.HTTPSConnection("localhost", int(address.port or 0), context=context, timeout=20)
    with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
        wrong.request("GET", "/hub/api")
    wrong.close()
