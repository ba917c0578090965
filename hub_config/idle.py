"""Sessions in which nothing happens are stopped, by jupyterhub-idle-culler: ``python -m hub_config.idle SITE_FILE``.

The hub starts it as a service with a token that may list sessions and stop them, and starts it again should it end.
A session reports its last activity every :func:`report_seconds`; what it counts is in ``spawners/session_api.py``. It
warns its page by its own clock, and is stopped one report later than it says: who pressed Keep in the last second is
known by then. Nobody is stopped either before every session had time to report: a hub that was away knows nothing new.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from spawners.idleness import SERVICE, idle_limit
from studiolo.site import Site, load

__all__ = ["ROLE", "environment", "is_due", "limits", "margin_seconds", "report_seconds", "service"]

# As its own documentation has it, and no more.
ROLE = {
    "name": SERVICE,
    "description": "Stops idle sessions",
    "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    "services": [SERVICE],
}
PR_SET_PDEATHSIG = 1


def limits(site: Site) -> list[int]:
    """All limits of the site in minutes, shortest first; empty where no session is ever stopped for being idle."""
    own = (profile.idle_limit for profile in site.profiles.values())
    return sorted({site.hub.idle_limit if limit is None else limit for limit in own} - {0})


def report_seconds(site: Site) -> int:
    """How often each session reports. A thousand of them are most of what the hub does: two requests a second at 600."""
    shortest = limits(site)
    return max(15, min(600, shortest[0] * 60 // 10)) if shortest else 600


def margin_seconds(site: Site) -> float:
    """How long after its limit a session's last report has surely come: JupyterHub stretches intervals by a tenth."""
    return report_seconds(site) * 1.1 + 10


def environment(site: Site) -> dict[str, str | Callable[[Any], str]]:
    """What a session's server is told, by the spawner that starts it."""
    return {
        "JUPYTERHUB_ACTIVITY_INTERVAL": str(report_seconds(site)),
        "STUDIOLO_IDLE_MINUTES": lambda spawner: str(idle_limit(site, spawner.user_options)),
        "STUDIOLO_IDLE_WARNING_MINUTES": str(site.hub.idle_warning),
    }


def service(site_file: str) -> dict[str, Any]:
    """The hub's service that stops idle sessions."""
    return {"name": SERVICE, "command": [sys.executable, "-I", "-m", "hub_config.idle", site_file]}


def is_due(inactive: timedelta | None, limit: int, margin: float, awake: float) -> bool:
    """Whether to stop a session that was ``inactive``, with its ``limit`` in minutes, by a culler so long ``awake``."""
    if not limit or inactive is None or awake < margin:
        return False
    return inactive.total_seconds() >= limit * 60 + margin


def main() -> None:
    """Be the service, for as long as the hub that started it lives."""
    from jupyterhub_idle_culler import IdleCuller  # late: the hub itself does without
    from traitlets.config import Config

    # A hub that is killed stops no services, and the next one starts its own.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        sys.exit("the hub that started this has ended")
    site = load(sys.argv[1])
    began = time.monotonic()
    margin = margin_seconds(site)

    def arbiter(*, inactive: timedelta | None, server: Mapping[str, Any], **rest: Any) -> bool:
        return is_due(inactive, idle_limit(site, server.get("user_options")), margin, time.monotonic() - began)

    config = Config()
    config.IdleCuller.config_file = ""
    config.IdleCuller.cull_every = report_seconds(site)
    config.IdleCuller.cull_arbiter_hook = arbiter
    config.IdleCuller.ssl_enabled = site.hub.internal_tls
    config.IdleCuller.internal_certs_location = site.certificates
    IdleCuller.launch_instance(argv=[], config=config)


if __name__ == "__main__":
    main()
