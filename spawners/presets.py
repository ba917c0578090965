"""Choices that people keep under a name: ``/hub/api/studiolo/presets``.

One small file a person below ``paths.state``, which the hub alone writes. What is saved has passed the gate; whether the
site still allows it is asked anew each time that it is shown or used, and what it no longer allows is kept all the same.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers import APIHandler
from tornado import web

from spawners.engine import SITE_SETTING, engine_for
from spawners.failure import RequestRefused
from studiolo.errors import Fault, RequestError, StudioloError, shown
from studiolo.language import _
from studiolo.request import FIELDS, check
from studiolo.site import Site

__all__ = [
    "MOST",
    "Presets",
    "PresetsHandler",
    "PresetsUnreadable",
    "faults_of",
    "kept",
    "name_refusal",
    "presets_of",
    "told",
]

MOST = 20
LONGEST_NAME = 40  # fits on the page
MAX_BODY = 16 * 1024  # a folder's path may take 4 KiB, in six bytes of JSON each
MAX_FILE = 512 * 1024  # what the limits above can come to, with room


class PresetsUnreadable(StudioloError):
    """A person's presets are there and can not be read: nothing is written over them. The operator's move."""


class Presets:
    """The presets of one person, in order of their names. Each call reads the file anew: it is small and rarely asked for."""

    def __init__(self, folder: Path, person: str) -> None:
        self.person = person
        self.folder = folder
        # Digest, as a person's name may hold what a file's name can not.
        self.file = folder / f"{hashlib.sha256(person.encode(errors='surrogatepass')).hexdigest()}.json"

    def all(self) -> dict[str, dict[str, object]]:
        """Every preset's options by its name. Raises :class:`PresetsUnreadable`."""
        try:
            with self.file.open("rb") as file:
                content = json.loads(file.read(MAX_FILE + 1))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise PresetsUnreadable(f"{self.file}: {error}") from error
        presets = content.get("presets") if isinstance(content, dict) else None
        if not isinstance(presets, dict) or not all(isinstance(options, dict) for options in presets.values()):
            raise PresetsUnreadable(f"{self.file}: not a file of presets")
        return dict(sorted(presets.items(), key=lambda item: str(item[0]).casefold()))

    def save(self, name: str, options: Mapping[str, object]) -> bool:
        """Keep one, in place of an older one of that name; ``False`` where there are as many as may be already."""
        presets = self.all()
        if name not in presets and len(presets) >= MOST:
            return False
        self._write({**presets, name: dict(options)})
        return True

    def delete(self, name: str) -> bool:
        """Forget one; ``False`` where there is none of that name."""
        presets = self.all()
        if name not in presets:
            return False
        self._write({key: options for key, options in presets.items() if key != name})
        return True

    def _write(self, presets: Mapping[str, object]) -> None:
        """In place of the old file or not at all, whenever the hub or its disk ends."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        new = self.folder / f".{secrets.token_hex(8)}.new"
        content = json.dumps({"person": self.person, "presets": presets}).encode()
        if len(content) > MAX_FILE:  # could be written, and never read again
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            raise


def presets_of(site: Site, person: str) -> Presets:
    """Where a person's presets are."""
    return Presets(Path(site.paths.state) / "presets", person)


def name_refusal(name: str) -> str:
    """Why this can not be a preset's name; empty where it can. A slash in an address is not safe from proxies, dots neither."""
    plain = name.isprintable() and name == " ".join(name.split()) and not set(name) & set("/\\")
    if plain and 1 <= len(name) <= LONGEST_NAME and name.strip("."):
        return ""
    return _(
        "%(name)s can not be a preset's name: use up to %(count)s printable characters without slashes.",
        name=shown(name),
        count=LONGEST_NAME,
    )


def faults_of(site: Site, options: Mapping[str, object]) -> tuple[Fault, ...]:
    """What the site has against these options at this moment; empty where they are allowed."""
    try:
        check(options, site)
    except RequestError as error:
        return error.faults
    return ()


def kept(options: Mapping[str, object]) -> dict[str, object]:
    """What is worth keeping of options: the fields that are set."""
    return {key: options[key] for key in FIELDS if options.get(key) not in (None, "", [])}


def told(site: Site, name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """A preset as pages and programs see it, with what the site has against it now."""
    faults = [{"field": f.where, "value": f.value, "text": f.allowed} for f in faults_of(site, options)]
    return {"name": name, "options": dict(options), "allowed": not faults, "faults": faults}


class PresetsHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """The caller's own presets. Nobody sees or changes another's, administrators neither."""

    async def get(self, name: str | None = None) -> None:
        """Answer ``{"presets": [{"name", "options", "allowed", "faults"}]}``, or the one of that name; 404 without it."""
        presets = self._read()
        if name is None:
            self._answer({"presets": [self._told(key, options) for key, options in presets.items()]})
        elif name in presets:
            self._answer(self._told(name, presets[name]))
        else:
            raise web.HTTPError(404, _("You have no preset of that name."))

    async def put(self, name: str | None = None) -> None:
        """Save ``{"user_options": {…}}`` under a name; 400 with every fault, 409 where there are as many as may be."""
        if name is None:
            raise web.HTTPError(405)
        if refusal := name_refusal(name):
            raise web.HTTPError(400, refusal)
        options = self._options()
        mine = self._mine()
        new = name not in self._read()
        try:
            check(options, self._site)
            saved = mine.save(name, kept(options))
        except RequestError as error:
            raise RequestRefused(error) from error
        except OSError as error:
            raise self._not_written(error) from error
        if not saved:
            raise web.HTTPError(
                409, _("You have %(count)s presets, and no more are kept. Delete one first.", count=MOST)
            )
        self.set_status(201 if new else 200)
        self._answer(self._told(name, kept(options)))

    async def delete(self, name: str | None = None) -> None:
        """Forget the preset of that name: 204, or 404 where there is none."""
        if name is None:
            raise web.HTTPError(405)
        self._read()
        try:
            gone = self._mine().delete(name)
        except OSError as error:
            raise self._not_written(error) from error
        if not gone:
            raise web.HTTPError(404, _("You have no preset of that name."))
        self.set_status(204)
        self.finish()

    @property
    def _site(self) -> Site:
        return engine_for(self.settings[SITE_SETTING]).site

    def _mine(self) -> Presets:
        """The caller's: somebody who may start their own sessions. A session's own token may not, a service is nobody."""
        if self.current_user is None:
            raise web.HTTPError(403, _("Log in first."))
        name = self.current_user.name
        if not hasattr(self.current_user, "spawners") or not self.has_scope(f"servers!user={name}"):
            raise web.HTTPError(403, _("Presets belong to people who may start sessions."))
        return presets_of(self._site, name)

    def _read(self) -> dict[str, dict[str, object]]:
        try:
            return self._mine().all()
        except PresetsUnreadable as error:
            self.log.error("%s", error)
            raise web.HTTPError(
                503, _("Your presets can not be read at the moment. The support has to mend this.")
            ) from error

    def _options(self) -> dict[str, object]:
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, _("This is too long to be kept."))
        body = self.get_json_body()
        if not isinstance(body, dict) or set(body) != {"user_options"} or not isinstance(body["user_options"], dict):
            raise web.HTTPError(400, "the body must be a JSON object with exactly: user_options, an object")
        return dict(body["user_options"])

    def _not_written(self, error: OSError) -> web.HTTPError:
        self.log.error("the presets of %s were not written: %s", self.current_user.name, error)
        return web.HTTPError(503, _("This can not be written down at the moment: the hub's disk needs a look."))

    def _told(self, name: str, options: Mapping[str, object]) -> dict[str, object]:
        return told(self._site, name, options)

    def _answer(self, content: Mapping[str, Any]) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(content))
