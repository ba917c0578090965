"""The certificates of hub and proxy: made once, by whoever comes first, and made again only where they do not fit."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import cycle
from pathlib import Path
from urllib.parse import unquote

import pytest
from certipy import Certipy
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub_config import certificates, proxy
from hub_config.certificates import AUTHORITIES, LEAVES, SOON, Pair, alternative_name, ensure, leaves, main, outdated
from studiolo.errors import SiteError
from studiolo.site import Site, parse

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
LATER = NOW + SOON * 2
NAMES = {name: frozenset({"IP:10.0.0.1"}) for name in LEAVES}
GOOD = {name: Pair(LATER) for name in AUTHORITIES} | {name: Pair(LATER, NAMES[name]) for name in LEAVES}


# --- What to make ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "old", "wrong"),
    [
        pytest.param({}, [], [], id="all is well"),
        pytest.param({"hub-internal": Pair(NOW + SOON / 2, NAMES["hub-internal"])}, [], ["hub-internal"], id="near its end"),
        pytest.param({"proxy-api": Pair(LATER, frozenset({"IP:10.0.0.2"}))}, [], ["proxy-api"], id="another address"),
        pytest.param({"proxy-api": Pair(LATER, NAMES["proxy-api"] | {"DNS:x"})}, [], ["proxy-api"], id="one name too many"),
        pytest.param({"proxy-client": Pair(LATER, NAMES["proxy-client"], signed=False)}, [], ["proxy-client"], id="of another authority"),
        pytest.param({"notebooks-ca": Pair(NOW + SOON / 2)}, ["notebooks-ca"], [], id="an authority near its end"),
        pytest.param({"hub-ca": Pair(NOW - SOON)}, ["hub-ca"], [], id="an authority that has ended"),
    ],
)  # fmt: skip
def test_only_what_does_not_fit_is_to_be_made(change: dict[str, Pair], old: list[str], wrong: list[str]) -> None:
    assert outdated(GOOD | change, NAMES, NOW) == (old, wrong)


@pytest.mark.parametrize("name", [*AUTHORITIES, *LEAVES])
def test_what_is_missing_is_to_be_made(name: str) -> None:
    found = {key: pair for key, pair in GOOD.items() if key != name}
    assert outdated(found, NAMES, NOW) == (([name], []) if name in AUTHORITIES else ([], [name]))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "IP:127.0.0.1"),
        ("fd00:0::0001", "IP:fd00::1"),
        ("hub.example.org", "DNS:hub.example.org"),
        ("localhost", "DNS:localhost"),
    ],
)
def test_addresses_and_names_are_told_apart(host: str, name: str) -> None:
    assert alternative_name(host) == name


# --- The store -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys() -> list[rsa.RSAPrivateKey]:
    """As many keys as one store has."""
    return [rsa.generate_private_key(65537, 2048) for _ in (*AUTHORITIES, *LEAVES)]


@pytest.fixture(autouse=True)
def quick_keys(keys: list[rsa.RSAPrivateKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same keys in all tests of this file: making them takes most of the time, and nothing here is about keys."""
    supply = cycle(keys)
    monkeypatch.setattr(Certipy, "create_key_pair", lambda *_: next(supply))


@pytest.fixture
def text_with(edited: Callable[..., str], tmp_path: Path) -> Callable[[str], str]:
    """The test site's text with the hub's folder and secrets in temporary ones, and some lines of ``[hub]``."""
    for name in ("state", "secrets"):
        (tmp_path / name).mkdir()

    def make(hub: str = "") -> str:
        return edited(
            ('state = "/var/lib/studiolo/hub"', f'state = "{tmp_path}/state"'),
            ('secrets = "/var/lib/studiolo/secrets"', f'secrets = "{tmp_path}/secrets"'),
            ("[authentication]", f"[hub]\n{hub}\n[authentication]"),
        )

    return make


@pytest.fixture
def site_with(text_with: Callable[[str], str]) -> Callable[[str], Site]:
    return lambda hub: parse(text_with(hub))


@pytest.fixture
def site_file(text_with: Callable[[str], str], tmp_path: Path) -> Path:
    file = tmp_path / "site.toml"
    file.write_text(text_with(""), encoding="utf-8")
    return file


@pytest.fixture
def site(site_with: Callable[[str], Site]) -> Site:
    return site_with("")


def contents(site: Site) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(site.certificates).rglob("*") if path.is_file()}


def names_of(site: Site, name: str) -> set[str]:
    text = (Path(site.certificates) / name / f"{name}.crt").read_bytes()
    found = x509.load_pem_x509_certificate(text).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(one.value) for one in found.value}


def test_all_is_made_once_and_then_left_alone(site: Site) -> None:
    assert ensure(site) == [*AUTHORITIES, *LEAVES]
    before = contents(site)
    assert ensure(site) == []
    assert ensure(site, renew=True) == []
    assert contents(site) == before


def test_no_key_is_open_to_others(site: Site) -> None:
    ensure(site)
    keys = list(Path(site.certificates).rglob("*.key"))
    assert len(keys) == len(AUTHORITIES) + len(LEAVES)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_making_certificates_leaves_the_processes_own_umask(site: Site) -> None:
    before = os.umask(0o022)
    try:
        ensure(site)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_each_certificate_holds_the_address_under_which_it_is_reached_and_no_other(
    site_with: Callable[[str], Site],
) -> None:
    site = site_with('node_address = "hub.example.org"\nproxy_address = "10.0.0.9"')
    ensure(site)
    assert names_of(site, "hub-internal") == {"hub.example.org"}
    assert names_of(site, "proxy-api") == {"10.0.0.9"}


def test_a_new_address_makes_that_certificate_anew_and_no_authority(site_with: Callable[[str], Site]) -> None:
    ensure(site_with(""))
    site = site_with('node_address = "10.7.7.7"')
    before = contents(site)
    assert ensure(site) == ["hub-internal"]
    assert names_of(site, "hub-internal") == {"10.7.7.7"}
    changed = {Path(path).name for path, content in contents(site).items() if before[path] != content}
    assert changed == {"hub-internal.crt", "hub-internal.key", "certipy.json"}


@pytest.mark.parametrize("damage", [b"", b"garbage"])
@pytest.mark.parametrize("file", ["proxy-api.key", "proxy-api.crt"])
def test_a_damaged_certificate_is_made_anew(site: Site, file: str, damage: bytes) -> None:
    ensure(site)
    (Path(site.certificates) / "proxy-api" / file).write_bytes(damage)
    assert ensure(site) == ["proxy-api"]
    assert ensure(site) == []


def test_a_key_that_does_not_fit_its_certificate_is_made_anew(site: Site) -> None:
    """As it stands where the making was cut off between the two files."""
    ensure(site)
    folder = Path(site.certificates)
    (folder / "proxy-api" / "proxy-api.key").write_bytes((folder / "proxy-client" / "proxy-client.key").read_bytes())
    assert ensure(site) == ["proxy-api"]


def test_a_store_whose_first_making_was_cut_off_is_made_anew(site: Site) -> None:
    ensure(site)
    (Path(site.certificates) / "complete").unlink()
    (Path(site.certificates) / "certipy.json").write_text('{"hub-ca": {"ser')
    assert ensure(site) == [*AUTHORITIES, *LEAVES]
    assert ensure(site) == []


def test_a_damaged_authority_in_use_is_the_operators_to_renew(site: Site) -> None:
    """Hub, proxy and sessions may run with it: none of them makes another one behind the others' back."""
    ensure(site)
    (Path(site.certificates) / "hub-ca" / "hub-ca.crt").write_text("garbage")
    with pytest.raises(SiteError, match=r"hub-ca.*--renew"):
        ensure(site)
    assert ensure(site, renew=True) == [*AUTHORITIES, *LEAVES]
    assert ensure(site) == []


def test_authorities_near_their_end_are_told_of_and_renewed_on_request_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ensure(site)
    monkeypatch.setattr(certificates, "SOON", timedelta(days=366 * certificates.AUTHORITY_YEARS))
    monkeypatch.setattr(certificates, "LEAF_YEARS", certificates.AUTHORITY_YEARS * 2)
    before = contents(site)[f"{site.certificates}/hub-ca/hub-ca.crt"]
    with caplog.at_level(logging.WARNING):
        ensure(site)
    assert "--renew" in caplog.text
    assert contents(site)[f"{site.certificates}/hub-ca/hub-ca.crt"] == before
    assert ensure(site, renew=True) == [*AUTHORITIES, *LEAVES]
    assert contents(site)[f"{site.certificates}/hub-ca/hub-ca.crt"] != before


def test_authorities_that_have_ended_stop_the_hub_with_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "AUTHORITY_YEARS", 0)
    ensure(site)
    with pytest.raises(SiteError, match=r"hub-ca.*ended or damaged.*--renew"):
        ensure(site)


def test_hub_and_proxy_may_start_in_the_same_moment(site: Site, site_file: Path) -> None:
    path = f"import sys; sys.path[:0] = {sys.path!r}; from hub_config.certificates import main; sys.exit(main())"
    command = [sys.executable, "-I", "-c", path, "--site", str(site_file)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = sorted(process.communicate()[0].strip() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert told[0].startswith("made: hub-ca")
    assert told[1] == "nothing to make"
    assert ensure(site) == []


def test_somebody_elses_folder_is_not_written_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates.os, "geteuid", lambda: 12345)
    with pytest.raises(SiteError, match=r"paths.state.*studiolo-hub"):
        ensure(site)
    assert not Path(site.certificates).exists()


def test_a_missing_folder_is_a_fault_of_the_site_file(site: Site) -> None:
    Path(site.paths.state).rmdir()
    with pytest.raises(SiteError, match=r"paths.state.*No such file"):
        ensure(site)


def test_the_command_says_what_it_made_and_what_is_wrong(site_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--site", str(site_file)]) == 0
    assert capsys.readouterr().out.startswith("made: hub-ca, ")
    assert main(["--site", str(site_file)]) == 0
    assert capsys.readouterr().out == "nothing to make\n"
    assert main(["--site", f"{site_file}.none"]) == 1
    assert "site.toml.none" in capsys.readouterr().err


def test_a_site_without_tls_inside_needs_no_certificates(
    text_with: Callable[[str], str], site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_file.write_text(text_with("internal_tls = false"), encoding="utf-8")
    assert main(["--site", str(site_file)]) == 0
    assert capsys.readouterr().out == "nothing to make\n"


def test_jupyterhub_takes_the_store_as_it_is(site: Site) -> None:
    """What JupyterHub looks for by name is there, so that it makes nothing of its own with other names."""
    ensure(site)
    records = json.loads((Path(site.certificates) / "certipy.json").read_text())
    assert {"hub-internal", "proxy-api", "proxy-client", *AUTHORITIES} == set(records)
    for name, record in records.items():
        certificate = x509.load_pem_x509_certificate(Path(record["files"]["cert"]).read_bytes())
        key = load_pem_private_key(Path(record["files"]["key"]).read_bytes(), password=None)
        assert certificate.public_key() == key.public_key(), name


# --- The proxy's command ---------------------------------------------------------------------------------------------


def options(line: list[str]) -> dict[str, str]:
    """``--name value`` pairs; a flag has the name of the next option as its value, which nobody asks for."""
    return {word: after for word, after in zip(line, [*line[1:], ""], strict=True) if word.startswith("--")}


def test_the_proxys_command_is_the_site_files(site_with: Callable[[str], Site]) -> None:
    site = site_with(
        'address = "10.0.0.1"\nport = 443\nbase_url = "/lab/"\nnode_address = "10.1.0.1"\nnode_port = 8082\n'
        'proxy_port = 8002\ntls_certificate = "/c.pem"\ntls_key = "/k.pem"'
    )
    found = options(proxy.command(site, "/usr/bin/node", "/p/chp"))
    assert found["--ip"] == "10.0.0.1"
    assert found["--port"] == "443"
    assert (found["--ssl-cert"], found["--ssl-key"]) == ("/c.pem", "/k.pem")
    assert (found["--api-ip"], found["--api-port"]) == ("127.0.0.1", "8002")
    assert found["--default-target"] == "https://10.1.0.1:8082"
    assert found["--error-target"] == "https://10.1.0.1:8082/lab/hub/error"


def test_the_proxy_wants_certificates_at_both_its_doors(site: Site) -> None:
    ensure(site)
    line = proxy.command(site, "/usr/bin/node", "/p/chp")
    found = options(line)
    for door in ("api", "client"):
        assert f"--{door}-ssl-request-cert" in line
        assert f"--{door}-ssl-reject-unauthorized" in line
        for part in ("key", "cert", "ca"):
            assert Path(found[f"--{door}-ssl-{part}"]).is_file()
    assert line[1].startswith("--import=data:text/javascript,")
    assert " " not in line[1]


def test_at_the_proxys_commands_nobody_but_the_hub_is_known(site: Site) -> None:
    ensure(site)
    folder = Path(site.certificates)
    trusted = Path(options(proxy.command(site, "node", "chp"))["--api-ssl-ca"]).read_text()
    assert trusted == (folder / "hub-ca" / "hub-ca.crt").read_text()


def test_without_tls_inside_the_proxy_knows_no_certificates(site_with: Callable[[str], Site]) -> None:
    line = proxy.command(site_with("internal_tls = false"), "/usr/bin/node", "/p/chp")
    assert (line[0], line[2]) == ("/usr/bin/node", "/p/chp")
    assert not [word for word in line if "ssl" in word]


def test_while_the_hub_is_away_the_proxy_shows_a_page_of_its_own_in_each_language(
    site_with: Callable[[str], Site],
) -> None:
    site = site_with("internal_tls = false").model_copy(update={"title": "</script><b>'{x}`"})
    line = proxy.command(site, "/usr/bin/node", "/p/bin/chp")
    script = unquote(line[1].removeprefix("--import=data:text/javascript,"))
    assert 'from "file:///p/lib/configproxy.js"' in script
    for title in ("Back in a moment", "De retour dans un instant", "Gleich wieder da"):
        assert title in script
    assert "<b>" not in script
    assert " " not in line[1]


def test_without_tls_inside_the_hub_is_reached_plainly(site_with: Callable[[str], Site]) -> None:
    line = proxy.command(site_with("internal_tls = false"), "/usr/bin/node", "/p/chp")
    assert options(line)["--default-target"] == "http://127.0.0.1:8081"


def test_the_proxys_token_is_in_its_environment_and_on_no_command_line(
    site: Site, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = Path(site.paths.secrets) / "proxy_token"
    token.write_text("s3cret\n")
    token.chmod(0o600)
    told: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(proxy.os, "execvpe", lambda *arguments: told.append(arguments))
    proxy.main(["--site", str(site_file), "/usr/bin/node", "/p/chp"])
    ((program, line, environment),) = told
    assert program == line[0] == "/usr/bin/node"
    assert environment["CONFIGPROXY_AUTH_TOKEN"] == "s3cret"
    assert not [word for word in line if "s3cret" in word]
    assert leaves(site)["hub-internal"] == {"IP:127.0.0.1"}


def test_a_proxy_without_its_token_says_so(site_file: Path) -> None:
    with pytest.raises(SystemExit, match="proxy_token"):
        proxy.main(["--site", str(site_file), "/usr/bin/node", "/p/chp"])
