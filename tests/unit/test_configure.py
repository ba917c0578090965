"""A site becomes JupyterHub's settings: each concern in a few lines, secrets never told, routes closed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import batchspawner.api
import jupyterhub.apihandlers
import jupyterhub.handlers
import pytest
from jupyterhub.apihandlers.users import SpawnProgressAPIHandler, UserAPIHandler, UserServerAPIHandler
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator, DummyAuthenticator, PAMAuthenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.proxy import ConfigurableHTTPProxy
from sqlalchemy.engine import make_url
from traitlets.config import Config, Configurable

from hub_config import assets
from hub_config import configure as settings
from hub_config.configure import configure, imported
from hub_config.secret_files import secret
from spawners import handlers
from spawners.engine import SITE_SETTING
from spawners.handlers import BootstrapHandler, GatedServerHandler, ListeningHandler, SessionPage
from spawners.named import SpawnPage
from spawners.server import StudioloSpawner
from studiolo.errors import SiteError
from studiolo.site import Site, parse

SECRETS = {
    "cookie_secret": secrets.token_hex(32),
    "proxy_token": secrets.token_hex(32),
    "api_token": secrets.token_hex(32),
    "user_password": "a-password-of-people",
    "admin_password": "a-password-of-operators-that-is-long",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all secrets as an operator keeps them."""
    for name, text in SECRETS.items():
        path = tmp_path / name
        path.write_text(text + "\n", encoding="utf-8")
        path.chmod(0o640)
    return tmp_path


@pytest.fixture
def site_with(edited: Callable[..., str], folder: Path) -> Callable[..., Site]:
    """The test site with its secrets in place and further changes."""

    def make(*changes: tuple[str, str]) -> Site:
        return parse(edited(('secrets = "/var/lib/studiolo/secrets"', f'secrets = "{folder}"'), *changes))

    return make


@pytest.fixture
def c() -> Config:
    return Config()


@pytest.fixture(autouse=True)
def routes() -> Iterator[list[Any]]:
    """JupyterHub's routes, put back afterwards: :func:`install` changes them for the whole process."""
    found, pages = jupyterhub.apihandlers.default_handlers, jupyterhub.handlers.default_handlers
    before, pages_before = list(found), list(pages)
    yield found
    found[:], pages[:] = before, pages_before


# --- Addresses -------------------------------------------------------------------------------------------------------


def test_browsers_nodes_and_proxy_find_each_other(c: Config, site_with: Callable[..., Site]) -> None:
    hub = '[hub]\naddress = "10.0.0.1"\nport = 8443\nbase_url = "/lab/"\nnode_address = "10.1.0.1"\nnode_port = 8082\nproxy_port = 8002\n'
    settings.addresses(c, site_with(("[authentication]", hub + "[authentication]")))
    assert c.JupyterHub.bind_url == "http://10.0.0.1:8443/lab/"
    assert c.JupyterHub.hub_bind_url == "https://0.0.0.0:8082"
    assert c.JupyterHub.hub_connect_url == "https://10.1.0.1:8082"
    assert c.ConfigurableHTTPProxy.api_url == "https://127.0.0.1:8002"
    assert c.ConfigurableHTTPProxy.auth_token == SECRETS["proxy_token"]


def test_the_hub_listens_on_loopback_where_the_nodes_are_this_host(c: Config, site_with: Callable[..., Site]) -> None:
    settings.addresses(c, site_with())
    assert c.JupyterHub.hub_bind_url == "https://127.0.0.1:8081"


def test_inside_is_tls_unless_the_site_says_otherwise(c: Config, site_with: Callable[..., Site]) -> None:
    site = site_with()
    settings.internal_tls(c, site)
    assert c.JupyterHub.internal_ssl is True
    assert c.JupyterHub.internal_certs_location == f"{site.paths.state}/internal-tls"


def test_without_tls_inside_everything_inside_is_http(c: Config, site_with: Callable[..., Site]) -> None:
    site = site_with(("[authentication]", "[hub]\ninternal_tls = false\n[authentication]"))
    settings.addresses(c, site)
    settings.internal_tls(c, site)
    assert c.JupyterHub.internal_ssl is False
    assert c.JupyterHub.hub_bind_url == "http://127.0.0.1:8081"
    assert c.JupyterHub.hub_connect_url == "http://127.0.0.1:8081"
    assert c.ConfigurableHTTPProxy.api_url == "http://127.0.0.1:8001"


def test_an_address_of_ipv6_is_a_good_url(c: Config, site_with: Callable[..., Site]) -> None:
    settings.addresses(c, site_with(("[authentication]", '[hub]\nnode_address = "fd00::1"\n[authentication]')))
    assert c.JupyterHub.hub_connect_url == "https://[fd00::1]:8081"


def test_browsers_come_by_https_where_there_is_a_certificate(c: Config, site_with: Callable[..., Site]) -> None:
    hub = '[hub]\ntls_certificate = "/c.pem"\ntls_key = "/k.pem"\n'
    settings.addresses(c, site_with(("[authentication]", hub + "[authentication]")))
    assert c.JupyterHub.bind_url.startswith("https://")


def test_the_proxy_is_not_the_hubs_to_start_and_outlives_it(c: Config, site_with: Callable[..., Site]) -> None:
    settings.addresses(c, site_with())
    settings.database(c, site_with())
    assert c.ConfigurableHTTPProxy.should_start is False
    assert c.JupyterHub.cleanup_proxy is False
    assert c.JupyterHub.cleanup_servers is False


# --- Who may log in --------------------------------------------------------------------------------------------------


def test_shared_passwords_are_read_and_jupyterhub_accepts_them(c: Config, site_with: Callable[..., Site]) -> None:
    site = site_with(('method = "pam"\nallow_all = true', 'method = "shared-password"\nallowed_users = ["ada", "ben"]'))
    settings.authentication(c, site)
    authenticator = SharedPasswordAuthenticator(config=c)
    assert c.JupyterHub.authenticator_class == "shared-password"
    assert authenticator.user_password == SECRETS["user_password"]
    assert authenticator.admin_password == SECRETS["admin_password"]
    assert authenticator.allowed_users == {"ada", "ben"}
    assert authenticator.allow_all is False


def test_pam_asks_the_service_of_the_site_and_its_groups(c: Config, site_with: Callable[..., Site]) -> None:
    pam = 'method = "pam"\npam_service = "jupyter"\nallowed_groups = ["staff", "domain.users"]'
    settings.authentication(c, site_with(('method = "pam"\nallow_all = true', pam)))
    authenticator = PAMAuthenticator(config=c)
    assert c.JupyterHub.authenticator_class == "pam"
    assert authenticator.service == "jupyter"
    assert authenticator.allowed_groups == {"staff", "domain.users"}
    assert authenticator.open_sessions is False
    assert authenticator.allow_all is False


def test_operators_may_log_in_and_are_administrators(c: Config, site_with: Callable[..., Site]) -> None:
    settings.authentication(c, site_with(("[authentication]", '[hub]\nadmins = ["otto"]\n[authentication]')))
    assert c.Authenticator.admin_users == {"otto"}
    assert c.Authenticator.allowed_users == {"otto"}


def test_everybody_is_let_in_only_where_the_site_says_so(c: Config, site_with: Callable[..., Site]) -> None:
    settings.authentication(c, site_with())
    assert c.Authenticator.allow_all is True


def test_an_authenticator_of_another_package_gets_its_options(c: Config, site_with: Callable[..., Site]) -> None:
    chosen = 'method = "class"\nclass_name = "jupyterhub.auth.DummyAuthenticator"\noptions = { auto_login = true }'
    settings.authentication(c, site_with(('method = "pam"', chosen)))
    assert c.JupyterHub.authenticator_class.__name__ == "DummyAuthenticator"
    assert c.DummyAuthenticator.auto_login is True


@pytest.mark.parametrize(
    "name",
    ["nothing.here.Class", "jupyterhub.auth.NoSuchClass", "jupyterhub.auth", "os.getcwd", "NoModule", "json.loads"],
)
def test_a_class_that_can_not_be_imported_is_the_operators_to_mend(name: str) -> None:
    with pytest.raises(SiteError, match=r"authentication\.class_name"):
        imported(name)


# --- Secrets ---------------------------------------------------------------------------------------------------------


def site_error(site: Site, name: str) -> str:
    with pytest.raises(SiteError) as caught:
        secret(site, name)
    return str(caught.value)


def test_a_secret_is_read_without_its_line_break(site_with: Callable[..., Site]) -> None:
    assert secret(site_with(), "proxy_token") == SECRETS["proxy_token"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_secret_may_be_open_to_its_owner_and_group(site_with: Callable[..., Site], folder: Path, mode: int) -> None:
    (folder / "api_token").chmod(mode)
    assert secret(site_with(), "api_token") == SECRETS["api_token"]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o641, 0o642, 0o777])
def test_a_secret_that_others_can_reach_is_refused_and_never_told(
    site_with: Callable[..., Site], folder: Path, mode: int
) -> None:
    (folder / "api_token").chmod(mode)
    message = site_error(site_with(), "api_token")
    assert f"{folder}/api_token" in message
    assert "chmod o=" in message
    assert SECRETS["api_token"] not in message


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_an_empty_secret_is_refused(site_with: Callable[..., Site], folder: Path, text: str) -> None:
    (folder / "api_token").write_text(text, encoding="utf-8")
    assert "must not be empty" in site_error(site_with(), "api_token")


def test_a_missing_secret_is_refused_by_its_path(site_with: Callable[..., Site], folder: Path) -> None:
    (folder / "api_token").unlink()
    message = site_error(site_with(), "api_token")
    assert f"{folder}/api_token" in message
    assert "No such file" in message


def test_a_folder_in_the_place_of_a_secret_is_refused(site_with: Callable[..., Site], folder: Path) -> None:
    (folder / "api_token").unlink()
    (folder / "api_token").mkdir(mode=0o700)
    site_error(site_with(), "api_token")


def test_a_secret_that_is_no_text_is_refused_and_never_told(site_with: Callable[..., Site], folder: Path) -> None:
    # What `openssl rand 32` writes.
    (folder / "cookie_secret").write_bytes(b"\xff\xfe" + b"ABCDEFGH" * 4)
    message = site_error(site_with(), "cookie_secret")
    assert f"{folder}/cookie_secret" in message
    assert "ABCDEFGH" not in message


@pytest.mark.parametrize("text", ["not hexadecimal at all, but long enough for one", "abc", "ab" * 8])
def test_a_cookie_secret_that_is_not_32_bytes_in_hexadecimal_is_refused_and_never_told(
    c: Config, site_with: Callable[..., Site], folder: Path, text: str
) -> None:
    (folder / "cookie_secret").write_text(text, encoding="utf-8")
    with pytest.raises(SiteError) as caught:
        settings.security(c, site_with())
    assert f"{folder}/cookie_secret" in str(caught.value)
    assert text not in str(caught.value)


def test_cookies_are_signed_with_the_sites_secret(c: Config, site_with: Callable[..., Site]) -> None:
    settings.security(c, site_with())
    assert c.JupyterHub.cookie_secret == bytes.fromhex(SECRETS["cookie_secret"])
    assert len(c.JupyterHub.cookie_secret) == 32
    assert c.JupyterHub.authenticate_prometheus is True


# --- The rest --------------------------------------------------------------------------------------------------------


def test_the_operators_token_may_administer_but_not_read_anybodys_files_by_other_means(
    c: Config, site_with: Callable[..., Site]
) -> None:
    settings.operator_token(c, site_with())
    (service,) = c.JupyterHub.services
    (role,) = c.JupyterHub.load_roles
    assert service == {"name": "operator", "api_token": SECRETS["api_token"]}
    assert role["services"] == ["operator"]
    assert "admin:users" in role["scopes"]
    assert not {"self", "inherit", "admin:auth_state"} & set(role["scopes"])


def test_idle_sessions_are_stopped_by_a_service_that_may_do_nothing_else(
    c: Config, site_with: Callable[..., Site]
) -> None:
    site = site_with()
    settings.operator_token(c, site)
    settings.idle_sessions(c, site, "/etc/studiolo/site.toml")
    _, service = c.JupyterHub.services
    _, role = c.JupyterHub.load_roles
    assert service["command"][1:] == ["-I", "-m", "hub_config.idle", "/etc/studiolo/site.toml"]
    assert "api_token" not in service
    assert role["services"] == [service["name"]]
    assert role["scopes"] == ["list:users", "read:users:activity", "read:servers", "delete:servers"]


def test_where_nobody_is_ever_too_idle_there_is_no_service(c: Config, site_with: Callable[..., Site]) -> None:
    site = site_with(("[authentication]", '[hub]\nidle_limit = "never"\n[authentication]'))
    settings.operator_token(c, site)
    settings.idle_sessions(c, site, "/etc/studiolo/site.toml")
    assert [service["name"] for service in c.JupyterHub.services] == ["operator"]
    assert [role["name"] for role in c.JupyterHub.load_roles] == ["operator"]
    assert c.StudioloSpawner.environment["JUPYTERHUB_ACTIVITY_INTERVAL"] == "600"


def test_every_scope_of_the_operator_is_one_of_jupyterhubs() -> None:
    from jupyterhub.scopes import scope_definitions

    known = set(scope_definitions) | {sub for entry in scope_definitions.values() for sub in entry.get("subscopes", [])}
    assert set(settings.OPERATOR_SCOPES) <= known


def test_sessions_keep_nothing_of_the_hubs_environment_and_may_wait_as_long_as_the_site_says(
    c: Config, site_with: Callable[..., Site]
) -> None:
    site = site_with(("[authentication]", '[hub]\nstart_limit = "6h"\n[authentication]'))
    settings.sessions(c, site, "/etc/studiolo/site.toml")
    assert c.JupyterHub.spawner_class == "spawners.server.StudioloSpawner"
    assert c.StudioloSpawner.site_file == "/etc/studiolo/site.toml"
    assert c.StudioloSpawner.env_keep == []
    assert c.StudioloSpawner.start_timeout == 6 * 3600
    assert c.StudioloSpawner.consecutive_failure_limit == 0
    assert c.StudioloSpawner.http_timeout == site.hub.listen_limit * 60
    assert c.JupyterHub.concurrent_spawn_limit == c.JupyterHub.active_server_limit == 0


@pytest.mark.parametrize(("limit", "named", "kept"), [(1, False, 20), (3, True, 20), (50, True, 50)])
def test_sessions_have_names_where_the_site_allows_several(
    c: Config, site_with: Callable[..., Site], limit: int, named: bool, kept: int
) -> None:
    site = site_with(("[authentication]", f"[hub]\nsessions_per_person = {limit}\n[authentication]"))
    settings.sessions(c, site, "/etc/studiolo/site.toml")
    assert c.JupyterHub.allow_named_servers is named
    assert c.JupyterHub.named_server_limit_per_user == kept


def test_the_person_goes_to_the_progress_page_at_once(c: Config) -> None:
    settings.web_server(c, "/etc/studiolo/site.toml")
    assert c.JupyterHub.tornado_settings["slow_spawn_timeout"] == 0
    assert c.JupyterHub.tornado_settings[SITE_SETTING] == "/etc/studiolo/site.toml"
    assert c.JupyterHub.tornado_settings["headers"]["X-Content-Type-Options"] == "nosniff"


def test_pages_are_ours_and_exist(c: Config, site_with: Callable[..., Site]) -> None:
    settings.pages(c, site_with())
    assert Path(c.JupyterHub.logo_file).is_file()
    assert {"page.html", "spawn.html", "spawn_pending.html", "not_running.html"} <= {
        path.name for path in Path(c.JupyterHub.template_paths[0]).iterdir()
    }
    assert c.JupyterHub.template_vars["studiolo_title"] == "Test site"
    assert c.JupyterHub.template_vars["studiolo_sessions"] == 3
    assert c.JupyterHub.template_vars["studiolo_support"] == "Ask support@example.org."


def test_the_database_lies_in_the_hubs_own_folder(c: Config, site_with: Callable[..., Site]) -> None:
    settings.database(c, site_with())
    assert c.JupyterHub.db_url == "sqlite:////var/lib/studiolo/hub/jupyterhub.sqlite"


POSTGRESQL = "[hub]\ndatabase = 'postgresql://studiolo@db.example.org/studiolo?sslmode=require'\n[authentication]"


def test_a_locked_sqlite_is_waited_for(c: Config, site_with: Callable[..., Site]) -> None:
    settings.database(c, site_with())
    arguments = c.JupyterHub.db_kwargs["connect_args"]
    assert arguments["timeout"] > 5  # what SQLite does by itself
    assert arguments["check_same_thread"] is False  # as JupyterHub, whose default this replaces


def test_postgresql_gets_its_password_from_the_secrets(c: Config, site_with: Callable[..., Site], folder: Path) -> None:
    (folder / "database_password").write_text("p%4: @/word\n", encoding="utf-8")
    (folder / "database_password").chmod(0o640)
    settings.database(c, site_with(("[authentication]", POSTGRESQL)))
    url = make_url(c.JupyterHub.db_url)
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg", "studiolo", "p%4: @/word")
    assert (url.host, url.database, url.query) == ("db.example.org", "studiolo", {"sslmode": "require"})
    assert c.JupyterHub.db_kwargs["connect_args"]["connect_timeout"] > 0
    assert "p%4" not in repr(url)


def test_postgresql_may_know_the_hub_without_a_password(c: Config, site_with: Callable[..., Site]) -> None:
    settings.database(c, site_with(("[authentication]", POSTGRESQL)))
    assert make_url(c.JupyterHub.db_url).password is None


def test_a_password_that_others_can_read_is_refused(c: Config, site_with: Callable[..., Site], folder: Path) -> None:
    (folder / "database_password").write_text("geheim\n", encoding="utf-8")
    (folder / "database_password").chmod(0o644)
    with pytest.raises(SiteError, match="chmod o=") as caught:
        settings.database(c, site_with(("[authentication]", POSTGRESQL)))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("method", ["pam", "shared-password", "class"])
def test_every_setting_is_one_that_its_class_knows_and_takes(
    c: Config, site_with: Callable[..., Site], method: str
) -> None:
    also = '\nclass_name = "jupyterhub.auth.DummyAuthenticator"' if method == "class" else ""
    configure(c, site_with(('method = "pam"', f'method = "{method}"{also}')), "/etc/studiolo/site.toml")
    classes: dict[str, type[Configurable]] = {
        kind.__name__: kind
        for kind in (
            JupyterHub,
            ConfigurableHTTPProxy,
            Authenticator,
            DummyAuthenticator,
            PAMAuthenticator,
            SharedPasswordAuthenticator,
            StudioloSpawner,
        )
    }
    for section, values in c.items():
        traits = classes[section].class_traits(config=True)
        for key in values:
            assert key in traits, f"c.{section}.{key}"


def test_no_secret_is_in_any_setting_that_jupyterhub_shows(c: Config, site_with: Callable[..., Site]) -> None:
    configure(c, site_with(), "/etc/studiolo/site.toml")
    for section, key in (("JupyterHub", "template_vars"), ("JupyterHub", "tornado_settings"), ("JupyterHub", "db_url")):
        shown = repr(c[section][key])
        assert not any(text in shown for text in SECRETS.values())
    assert not any(text in repr(dict(c.StudioloSpawner)) for text in SECRETS.values())


@pytest.mark.parametrize("name", ["cookie_secret", "proxy_token", "api_token"])
def test_a_hub_without_one_of_its_secrets_does_not_start(
    c: Config, site_with: Callable[..., Site], folder: Path, name: str
) -> None:
    (folder / name).unlink()
    with pytest.raises(SiteError, match=name):
        configure(c, site_with(), "/etc/studiolo/site.toml")


def test_a_short_token_of_the_operator_is_refused(c: Config, site_with: Callable[..., Site], folder: Path) -> None:
    (folder / "api_token").write_text("changeme", encoding="utf-8")
    with pytest.raises(SiteError, match="openssl rand") as caught:
        settings.operator_token(c, site_with())
    assert "changeme" not in str(caught.value)


# --- Routes ----------------------------------------------------------------------------------------------------------


def handler_of(routes: list[Any], path: str) -> type:
    """The handler that tornado would choose: the first whose pattern matches all of the path."""
    return next(route[1] for route in routes if re.fullmatch(route[0], path))


def test_batchspawners_callback_is_gone(routes: list[Any]) -> None:
    assert handler_of(routes, "/api/batchspawner") is batchspawner.api.BatchSpawnerAPIHandler
    handlers.install()
    assert not any(route[0] == "/api/batchspawner" for route in routes)
    assert not any(route[1] is batchspawner.api.BatchSpawnerAPIHandler for route in routes)


def test_ours_come_first(routes: list[Any]) -> None:
    handlers.install()
    assert [route[1] for route in routes[:2]] == [BootstrapHandler, ListeningHandler]
    assert handler_of(routes, "/api/studiolo/bootstrap") is BootstrapHandler
    assert handler_of(routes, "/api/studiolo/listening") is ListeningHandler


@pytest.mark.parametrize("path", ["/api/users/ada/server", "/api/users/ada/servers/", "/api/users/ada/servers/named"])
def test_every_route_that_starts_a_server_passes_the_gate(routes: list[Any], path: str) -> None:
    assert handler_of(routes, path) is UserServerAPIHandler
    handlers.install()
    assert handler_of(routes, path) is GatedServerHandler


def test_no_route_to_a_handler_without_the_gate_is_left(routes: list[Any]) -> None:
    handlers.install()
    assert not any(route[1] is UserServerAPIHandler for route in routes)
    assert not any(route[1] is SpawnHandler for route in jupyterhub.handlers.default_handlers)
    assert handler_of(jupyterhub.handlers.default_handlers, "/spawn/ada/second") is SpawnPage
    assert handler_of(jupyterhub.handlers.default_handlers, "/user/ada/lab") is SessionPage


def test_all_other_routes_of_jupyterhub_stay_as_they_are(routes: list[Any]) -> None:
    before = {route[0] for route in routes} - {"/api/batchspawner"}
    handlers.install()
    assert before <= {route[0] for route in routes}
    assert handler_of(routes, "/api/users/ada") is UserAPIHandler
    assert handler_of(routes, "/api/users/ada/server/progress") is SpawnProgressAPIHandler
    assert handler_of(routes, "/api/users/ada/servers/named/progress") is SpawnProgressAPIHandler


def test_installing_twice_changes_nothing_more(routes: list[Any]) -> None:
    handlers.install()
    once = list(routes)
    handlers.install()
    assert routes == once


def test_what_pages_need_beside_is_there_once_and_before_the_rest(routes: list[Any]) -> None:
    for _ in range(2):
        handlers.install(assets.ROUTE)
        assert jupyterhub.handlers.default_handlers.count(assets.ROUTE) == 1
        assert handler_of(jupyterhub.handlers.default_handlers, "/studiolo/assets/start.js") is assets.Assets


def test_the_routes_are_those_that_jupyterhub_reads() -> None:
    from jupyterhub import apihandlers, app

    handlers.install()
    assert app.apihandlers.default_handlers is apihandlers.default_handlers
    assert apihandlers.default_handlers[0][1] is BootstrapHandler
