"""What the hub tells each session of its site: partitions, profiles, environments, where Slurm's commands are. No secrets.

It comes as JSON with the session's environment, lies in a file that ``STUDIOLO_OUTLINE`` names, and reads back as a
:class:`~studiolo.site.Site`: so the very gate that a session has passed checks what is asked for from within it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from studiolo.errors import Fault, OutsideSession, SiteError
from studiolo.site import Site

__all__ = ["VARIABLE", "outline", "read_outline"]

VARIABLE = "STUDIOLO_OUTLINE"
"""The environment variable that names the file."""

TOLD: Mapping[str, Any] = {
    "title": True,
    "support": True,
    "paths": {"prefix", "scratch"},
    "hub": {"node_address", "node_port", "base_url"},  # of which the hub's mark is made
    "clusters": {"__all__": {"conf", "commands", "interface"}},
    "catalogue": True,
    "partitions": True,
    "accounts": True,
    "environments": True,
    "profiles": True,
    "prices": True,
    "energy": True,
}
"""The keys of the site file that sessions know; whatever is not named here stays at the hub."""


def outline(site: Site) -> str:
    """The outline of a site, as JSON."""
    return site.model_dump_json(include=dict(TOLD), exclude_defaults=True)


def read_outline(environ: Mapping[str, str] = os.environ) -> Site:
    """The site that this process's session belongs to.

    Raises :class:`~studiolo.errors.OutsideSession` outside of one, :class:`~studiolo.errors.SiteError` where the file is not
    what the hub has written.
    """
    path = environ.get(VARIABLE, "")
    if not path:
        raise OutsideSession
    try:
        with open(path, encoding="utf-8") as file:
            return Site.model_validate_json(file.read())
    except OSError as error:
        raise SiteError(
            [Fault(VARIABLE, path, f"a readable file ({error.strerror}): start a new session")], path
        ) from error
    except (ValidationError, ValueError) as error:
        raise SiteError(
            [Fault(VARIABLE, path, "the file that the hub has given: start a new session")], path
        ) from error
