"""The proxy as the hub asks it."""

from __future__ import annotations

from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy

__all__ = ["RoutesProxy"]


class RoutesProxy(ConfigurableHTTPProxy):  # type: ignore[misc]  # JupyterHub has no types
    """The proxy, asked for its routes alone.

    It also counts every request as activity, and an open page asks its server every few seconds for ever: a session
    would never be idle. What happens in it is what its own server reports (spawners/session_api.py).
    """

    async def get_all_routes(self) -> dict[str, Any]:
        """All routes, without what the proxy calls activity."""
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
        return routes
