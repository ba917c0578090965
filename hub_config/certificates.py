"""The certificates of hub and proxy, and the authorities behind them: ``python -m hub_config.certificates``.

Hub and proxy are processes of their own and may start in any order, so whoever starts first makes what is missing,
under a lock. Both may also make their own certificate anew: when its end is near or an address has changed. The
authorities are another matter: with new ones hub and proxy must start anew together, and sessions that run then are
lost; so they live for ten years, are only renewed by this command, and the hub's log says a year before it is time.

The store is JupyterHub's own (Certipy's), made before JupyterHub looks for it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from certipy import Certipy
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spawners.certificates import general_name
from studiolo.errors import Fault, SiteError
from studiolo.site import Site, load

__all__ = ["Pair", "alternative_name", "ensure", "files", "leaves", "main", "outdated", "proxy_trust"]

log = logging.getLogger(__name__)

AUTHORITIES = ("hub-ca", "notebooks-ca", "proxy-api-ca", "proxy-client-ca", "services-ca")
LEAVES = {"hub-internal": "hub-ca", "proxy-api": "proxy-api-ca", "proxy-client": "proxy-client-ca"}
# Narrower than JupyterHub's own: nobody but the hub has business at the proxy's API, no session and no service.
PROXY_TRUSTS = {"proxy-api": ("hub-ca",), "proxy-client": ("hub-ca", "notebooks-ca")}
AUTHORITY_YEARS, LEAF_YEARS = 10, 5
SOON = timedelta(days=365)
RENEW = (
    "stop hub and proxy, run `python -m hub_config.certificates --renew` as the hub's account, start both; "
    "sessions that run then have to be started again"
)


@dataclass(frozen=True)
class Pair:
    """A certificate in the store whose key fits: its end, its names (``IP:…``, ``DNS:…``), and that it is signed well."""

    ends: datetime
    names: frozenset[str] = frozenset()
    signed: bool = True


def leaves(site: Site) -> dict[str, frozenset[str]]:
    """The names that each certificate of hub and proxy must hold: the addresses under which others connect to it."""
    hub = site.hub
    return {
        "hub-internal": frozenset({alternative_name(hub.node_address)}),
        "proxy-api": frozenset({alternative_name(hub.proxy_address)}),
        "proxy-client": frozenset({alternative_name(hub.proxy_address)}),
    }


def outdated(
    found: Mapping[str, Pair], wanted: Mapping[str, frozenset[str]], now: datetime
) -> tuple[list[str], list[str]]:
    """Decide what to make: authorities that are missing or end within a year, and certificates that do not fit any more."""
    old = [name for name in AUTHORITIES if name not in found or found[name].ends < now + SOON]
    wrong = [
        name
        for name, names in wanted.items()
        if name not in found or found[name].ends < now + SOON or found[name].names != names or not found[name].signed
    ]
    return old, wrong


def ensure(site: Site, *, renew: bool = False) -> list[str]:
    """Make what is missing and return its names; ``renew`` also makes new authorities where they end within a year.

    Raises :class:`SiteError` where this account can not write the store, or where the authorities have ended.
    """
    with _locked(site):
        now = datetime.now(timezone.utc)
        wanted = leaves(site)
        found = dict(_found(site.certificates))
        old, wrong = outdated(found, wanted, now)
        if (renew and old) or not _complete(site).exists():
            _make(site, wanted, anew=True)
            return [*AUTHORITIES, *wanted]
        ended = [name for name in old if name not in found or found[name].ends < now]
        if ended:
            raise SiteError([Fault(site.certificates, ", ".join(ended), f"ended or damaged: {RENEW}")], "site.toml")
        if old:
            log.warning("certificates in %s end on %s: %s", site.certificates, _first_end(found, old), RENEW)
        if wrong:
            _make(site, {name: wanted[name] for name in wrong}, anew=False)
        return wrong


def alternative_name(host: str) -> str:
    """An address or host name as Certipy wants it: ``IP:10.1.0.5`` or ``DNS:hub.example.org``."""
    return _written(general_name(host))


def proxy_trust(site: Site, component: str) -> str:
    """The file that says whose certificates the proxy takes: at its API, and of hub and sessions."""
    return f"{site.certificates}/studiolo-{component}-trust.pem"


def files(site: Site) -> list[Path]:
    """The certificates that :func:`ensure` makes: hub and proxy start anew where one has changed.

    Those of services are not among them: the hub makes them itself, anew at each start.
    """
    return [Path(site.certificates) / name / f"{name}.crt" for name in (*AUTHORITIES, *LEAVES)]


def _found(folder: str) -> Iterator[tuple[str, Pair]]:
    """What the store holds that can be used; what is half written, damaged or from another folder is left out."""
    try:
        records = json.loads((Path(folder) / "certipy.json").read_text())
    except (FileNotFoundError, ValueError):
        return
    for name in (*AUTHORITIES, *LEAVES):
        try:
            path = records[name]["files"]["key"]
            certificate = _certificate(folder, name)
            key = _public_half(Path(folder) / name / f"{name}.key")
            issuer = _certificate(folder, LEAVES.get(name, name))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
        if path == f"{folder}/{name}/{name}.key" and key == certificate.public_key():
            yield name, Pair(certificate.not_valid_after_utc, _names(certificate), _is_signed(certificate, issuer))


def _public_half(path: Path) -> object:
    # Not checked for being prime, which takes a second for all: whether it fits the certificate is looked at instead.
    return load_pem_private_key(path.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True).public_key()


def _certificate(folder: str, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((Path(folder) / name / f"{name}.crt").read_bytes())


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(map(_written, names))


def _written(name: x509.GeneralName) -> str:
    return f"{'IP' if isinstance(name, x509.IPAddress) else 'DNS'}:{name.value}"


def _is_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _make(site: Site, wanted: Mapping[str, frozenset[str]], *, anew: bool) -> None:
    folder = Path(site.certificates)
    certipy = Certipy(store_dir=str(folder), remove_existing=anew and folder.exists())
    if anew:
        for name in AUTHORITIES:
            certipy.create_ca(name, years=AUTHORITY_YEARS, overwrite=True)
    for name, names in wanted.items():
        certipy.create_signed_pair(name, LEAVES[name], years=LEAF_YEARS, alt_names=sorted(names), overwrite=True)
    for component, authorities in PROXY_TRUSTS.items():
        # The proxy's own: JupyterHub writes its bundles anew at each start, and a proxy that starts then would find half.
        text = "".join((folder / name / f"{name}.crt").read_text() for name in authorities)
        new = folder / f".{component}.new"
        new.write_text(text)
        os.replace(new, proxy_trust(site, component))
    _complete(site).touch()


def _complete(site: Site) -> Path:
    """Tells a store that was ever whole, and so may be in use, from one whose making was cut off."""
    return Path(site.certificates) / "complete"


@contextmanager
def _locked(site: Site) -> Iterator[None]:
    """One process at a time makes certificates, and no key is open to others from its first byte."""
    before = os.umask(0o077)
    try:
        if Path(site.paths.state).stat().st_uid != os.geteuid():
            allowed = f"a folder of the account that runs this: be {site.hub.account}, and let the folder belong to it"
            raise SiteError([Fault("paths.state", site.paths.state, allowed)], "site.toml")
        with open(f"{site.certificates}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        allowed = f"a folder that the hub's account can write ({error.strerror})"
        raise SiteError(
            [Fault("paths.state", str(error.filename or site.paths.state), allowed)], "site.toml"
        ) from error
    finally:
        os.umask(before)


def _first_end(found: Mapping[str, Pair], names: list[str]) -> str:
    return min(found[name].ends for name in names).strftime("%Y-%m-%d")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, and with ``--renew`` new authorities within their last year; status 1 where it can not be."""
    parser = argparse.ArgumentParser(
        prog="python -m hub_config.certificates", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--site", default=os.environ.get("STUDIOLO_SITE", "/etc/studiolo/site.toml"), metavar="FILE")
    parser.add_argument("--renew", action="store_true", help="also make new authorities where they end within a year")
    options = parser.parse_args(arguments)
    try:
        site = load(options.site)
        made = ensure(site, renew=options.renew) if site.hub.internal_tls else []
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"made: {', '.join(made)}" if made else "nothing to make")
    return 0


if __name__ == "__main__":
    sys.exit(main())
