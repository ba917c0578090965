"""A checked site -> JupyterHub's settings, one function per concern."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from hub_config import assets, idle
from hub_config.addresses import hub_url, internal_scheme, url
from hub_config.database import address, connection_arguments, give_back_connections
from hub_config.languages import TEMPLATE_WORDS, speak_to_browsers
from hub_config.secret_files import secret
from hub_config.speed import hash_once, keep_contexts, share_the_lock, trust_files, write_ahead
from spawners import handlers
from spawners.engine import SITE_SETTING
from spawners.named import kept_names
from studiolo.errors import Fault, SiteError
from studiolo.language import _
from studiolo.site import Site

__all__ = ["configure"]

HERE = Path(__file__).parent
LEAST_TOKEN = 32

OPERATOR_SCOPES = [
    "access:servers",
    "admin:groups",
    "admin:servers",
    "admin:users",
    "list:services",
    "proxy",
    "read:hub",
    "read:metrics",
    "read:services",
    "shutdown",
    "tokens",
]


def configure(c: Any, site: Site, site_file: str) -> None:
    """Fill ``c`` from the site. Raises :class:`SiteError` where a secret or an authenticator is missing."""
    addresses(c, site)
    internal_tls(c, site)
    security(c, site)
    authentication(c, site)
    database(c, site)
    operator_token(c, site)
    idle_sessions(c, site, site_file)
    sessions(c, site, site_file)
    web_server(c, site_file)
    pages(c, site)
    handlers.install(assets.ROUTE)


def addresses(c: Any, site: Site) -> None:
    """Where browsers, nodes and the proxy find each other. The proxy is a process of its own: it outlives the hub."""
    hub = site.hub
    c.JupyterHub.bind_url = url("https" if hub.tls_certificate else "http", hub.address, hub.port) + hub.base_url
    c.JupyterHub.hub_bind_url = url(internal_scheme(site), _listen(hub.node_address), hub.node_port)
    c.JupyterHub.hub_connect_url = hub_url(site)
    c.JupyterHub.proxy_class = "hub_config.routes.RoutesProxy"
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = url(internal_scheme(site), hub.proxy_address, hub.proxy_port)
    c.JupyterHub.last_activity_interval = 30  # also how soon a restarted proxy has its routes again, in seconds
    c.ConfigurableHTTPProxy.auth_token = secret(site, "proxy_token")


def internal_tls(c: Any, site: Site) -> None:
    """TLS between proxy, hub and sessions; the certificates are made before (hub_config/certificates.py)."""
    c.JupyterHub.internal_ssl = site.hub.internal_tls
    keep_contexts()
    share_the_lock()
    c.JupyterHub.internal_certs_location = site.certificates


def security(c: Any, site: Site) -> None:
    """Cookies, tokens, and what pages of one person may do to another's."""
    c.JupyterHub.cookie_secret = cookie_secret(site)
    c.JupyterHub.authenticate_prometheus = True


def authentication(c: Any, site: Site) -> None:
    """Who may log in, and how."""
    chosen = site.authentication
    c.Authenticator.admin_users = set(site.hub.admins)
    c.Authenticator.allowed_users = set(chosen.allowed_users) | set(site.hub.admins)
    c.Authenticator.allow_all = chosen.allow_all
    if chosen.method == "shared-password":
        c.JupyterHub.authenticator_class = "shared-password"
        c.SharedPasswordAuthenticator.user_password = secret(site, "user_password")
        c.SharedPasswordAuthenticator.admin_password = secret(site, "admin_password")
    elif chosen.method == "pam":
        c.JupyterHub.authenticator_class = "pam"
        c.PAMAuthenticator.service = chosen.pam_service
        c.PAMAuthenticator.open_sessions = False
        # Each waits for the centre's directory: with JupyterHub's four, a class logs in for minutes where that is slow.
        c.PAMAuthenticator.executor_threads = 16
        c.PAMAuthenticator.allowed_groups = set(chosen.allowed_groups)
    else:
        c.JupyterHub.authenticator_class = imported(chosen.class_name)
        c[chosen.class_name.rpartition(".")[2]].update(chosen.options)


def imported(dotted: str) -> type:
    """The class named in ``authentication.class_name``. Raises :class:`SiteError` where it can not be imported."""
    module, _dot, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        allowed = f"a class that Studiolo's Python environment can import ({error})"
        raise SiteError([Fault("authentication.class_name", dotted, allowed)], "site.toml") from error
    if not isinstance(found, type):
        raise SiteError([Fault("authentication.class_name", dotted, "a class, not a function or module")], "site.toml")
    return found


def database(c: Any, site: Site) -> None:
    """Where the hub remembers. Neither sessions nor proxy end with a hub process."""
    hash_once()
    # With the password: JupyterHub's schema check starts from the bare address. It hides it in what it logs.
    c.JupyterHub.db_url = address(site).render_as_string(hide_password=False)
    c.JupyterHub.db_kwargs = connection_arguments(site)
    if site.hub.database == "sqlite":
        write_ahead()
        trust_files()
    else:
        give_back_connections()
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False


def operator_token(c: Any, site: Site) -> None:
    """A token for scripts of the operator, with what an administrator may do."""
    token = secret(site, "api_token")
    if len(token) < LEAST_TOKEN:
        path = f"{site.paths.secrets}/api_token"
        raise SiteError(
            [Fault("paths.secrets", path, f"must be {LEAST_TOKEN} random characters or more: openssl rand -hex 32")],
            "site.toml",
        )
    c.JupyterHub.services = [{"name": "operator", "api_token": token}]
    # Long and random as those that JupyterHub makes itself: not hashed 16,384 times on every request as a password is.
    c.JupyterHub.trust_user_provided_tokens = True
    c.JupyterHub.load_roles = [
        {
            "name": "operator",
            "description": "Scripts of the centre's operator",
            "scopes": OPERATOR_SCOPES,
            "services": ["operator"],
        }
    ]


def idle_sessions(c: Any, site: Site, site_file: str) -> None:
    """Sessions report what happens in them; those where nothing does are stopped, where the site wants it."""
    c.StudioloSpawner.environment = idle.environment(site)
    if idle.limits(site):
        c.JupyterHub.services.append(idle.service(site_file))
        c.JupyterHub.load_roles.append(idle.ROLE)


def sessions(c: Any, site: Site, site_file: str) -> None:
    """The spawner. Waiting in a queue is normal here: it may last, and never counts as the hub's own failure."""
    c.JupyterHub.spawner_class = "spawners.server.StudioloSpawner"
    c.StudioloSpawner.site_file = site_file
    c.StudioloSpawner.env_keep = []
    c.StudioloSpawner.start_timeout = site.hub.start_limit * 60
    c.StudioloSpawner.http_timeout = site.hub.listen_limit * 60  # many at once on one node: its first answer takes time
    c.StudioloSpawner.poll_interval = 10
    # What JupyterHub counts as its own failure, and exits after, is mostly a person's or a node's here.
    c.StudioloSpawner.consecutive_failure_limit = 0
    c.StudioloSpawner.default_url = "/lab"
    # None of JupyterHub's limits that answer 429: places are Slurm's to give, and who waits sees why.
    c.JupyterHub.concurrent_spawn_limit = 0
    c.JupyterHub.active_server_limit = 0
    # How many may be there at once is spawners/named.py's affair: JupyterHub only counts names, running or not.
    c.JupyterHub.allow_named_servers = site.hub.sessions_per_person > 1
    c.JupyterHub.named_server_limit_per_user = kept_names(site.hub.sessions_per_person)


def web_server(c: Any, site_file: str) -> None:
    """What the hub's web server is told."""
    c.JupyterHub.tornado_settings = {
        "headers": {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"},
        # The person goes to the progress page at once; what can be refused was refused before.
        "slow_spawn_timeout": 0,
        SITE_SETTING: site_file,
    }


def pages(c: Any, site: Site) -> None:
    """Our templates before JupyterHub's, and what they say."""
    c.JupyterHub.template_paths = [str(HERE / "templates")]
    speak_to_browsers()
    c.JupyterHub.template_vars = {
        **TEMPLATE_WORDS,
        "studiolo_title": site.title,
        "studiolo_support": site.support,
        "studiolo_login_words": lambda user: login_words(site),
        "studiolo_sessions": site.hub.sessions_per_person,
    }
    c.JupyterHub.logo_file = str(HERE / "static" / "logo.svg")


def login_words(site: Site) -> str:
    """What name and password to type, in the language of who logs in."""
    if site.authentication.method == "pam":
        return _("Use the name and the password of your account at this centre, as for logging in to the cluster.")
    return _("Use the name and the password that you were given for this site.")


def cookie_secret(site: Site) -> bytes:
    """The 32 bytes that cookies are signed with. Raises :class:`SiteError` where the file holds something else."""
    text = secret(site, "cookie_secret")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        path = f"{site.paths.secrets}/cookie_secret"
        raise SiteError(
            [Fault("paths.secrets", path, "must be 32 bytes in hexadecimal: openssl rand -hex 32")], "site.toml"
        )
    return bytes.fromhex(text)


def _listen(address: str) -> str:
    """Listen on loopback where nodes are on this host, else on every interface."""
    return address if address.startswith("127.") or address == "localhost" else "0.0.0.0"  # noqa: S104
