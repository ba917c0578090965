"""How long a session may be idle, and the service that stops it then (``hub_config/idle.py``): what both sides need to know."""

from __future__ import annotations

from collections.abc import Mapping

from studiolo.site import Site

__all__ = ["SERVICE", "idle_limit"]

SERVICE = "idle-culler"


def idle_limit(site: Site, options: object) -> int:
    """How many minutes a session with these options may be idle; 0 for any time."""
    name = options.get("profile") if isinstance(options, Mapping) else None
    profile = site.profiles.get(str(name), site.profiles[site.default_profile])
    return site.hub.idle_limit if profile.idle_limit is None else profile.idle_limit
