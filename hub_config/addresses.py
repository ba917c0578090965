"""Under which URLs browsers, proxy, hub and nodes find each other."""

from __future__ import annotations

from studiolo.site import Site

__all__ = ["hub_url", "internal_scheme", "url"]


def internal_scheme(site: Site) -> str:
    """How proxy, hub and sessions talk to each other."""
    return "https" if site.hub.internal_tls else "http"


def hub_url(site: Site) -> str:
    """Where proxy and nodes reach the hub; no path, no slash at the end."""
    return url(internal_scheme(site), site.hub.node_address, site.hub.node_port)


def url(scheme: str, address: str, port: int) -> str:
    """An address and a port as a URL."""
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"
