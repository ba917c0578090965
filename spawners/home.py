"""The home page, ``/hub/home``: a person's sessions as cards. Everything on it is a form or a link: it needs no script.

The page itself comes from the hub's memory and database: Slurm is asked only where somebody stops or extends something, and
twice a minute for all who look at what the queue holds of theirs.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from babel.numbers import format_decimal, format_percent
from jupyterhub.handlers.pages import HomeHandler
from jupyterhub.slugs import normalise_unicode
from jupyterhub.utils import url_escape_path, url_path_join
from markupsafe import Markup, escape
from tornado import web

from spawners.engine import SITE_SETTING, Engine, engine_for
from spawners.everything import in_queue, stop_everything, stop_one
from spawners.extend import ExtensionRefused, extend, own_session
from spawners.named import LONGEST_TITLE, NamedSessions, free_name, title_refusal
from spawners.sessions import look_at, overview, resources_words, title_of
from spawners.stopping import stop
from studiolo.errors import RequestError
from studiolo.language import _, language
from studiolo.panels.page import PanelView, numbers, render, short
from studiolo.request import check
from studiolo.units import memory_words, minutes_words, number_words
from studiolo.views import JobView

__all__ = ["EXTENSIONS", "HomePage", "hours_words", "share_words"]

MAX_BODY = 4096
# Each form's action needs what the same needs over REST.
SCOPES = {"new": "servers", "stop": "delete:servers", "extend": "servers", "delete": "delete:servers"}
ALL, ONE = "stop-everything", "stop-job"
EXTENSIONS = (30, 60, 120, 240, 480, 1440)
"""Steps that the page offers, in minutes, as far as they are allowed."""
IDENTITY, TITLE = "@identity@", "@title@"
"""In the HTML of a button that stops one thing: where its identity stands, and what people call it."""


def steps(most: int) -> list[tuple[int, str]]:
    """What can be chosen for an extension of at most so many minutes: minutes and words."""
    offered = [minutes for minutes in EXTENSIONS if minutes < most][:4]
    return [(minutes, minutes_words(minutes)) for minutes in [*offered, most] if minutes]


def hours_words(hours: float) -> str:
    """A cost as the page's script writes it too: two places, in the way of the language."""
    return format_decimal(hours, format="#,##0.00", locale=language())


def share_words(share: float | None) -> str:
    """A part of a whole in per cents; empty where it is not known."""
    return "" if share is None else format_percent(share, locale=language())


def jobs_page(jobs: tuple[JobView, ...], now: float, button: str) -> Markup:
    """Batch runs and Dask clusters as panels show them, with a button for each; empty where there are none."""
    runs, clusters = (tuple(view for view in jobs if view.kind == kind) for kind in ("run", "cluster"))
    parts = tuple(part for part, things in (("batch", runs), ("dask", clusters)) if things)
    if not parts:
        return Markup("")
    page = PanelView(parts, now, runs=runs, clusters=clusters, live=True)

    def filled(view: JobView) -> str:
        title = f"{short(view.name)}{numbers(view.jobs)}"
        return str(button).replace(IDENTITY, escape(view.identity)).replace(TITLE, escape(title))

    return Markup(render(page, buttons=filled))  # noqa: S704  # it escapes whatever comes from anybody


class HomePage(NamedSessions, HomeHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Shows the sessions, and takes what its forms send."""

    trouble = ""

    def set_default_headers(self) -> None:
        """JupyterHub's; and nothing of the page stays for whoever presses Back after a log-out."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    @property
    def engine(self) -> Engine:
        """What all spawners of this hub share."""
        return engine_for(self.settings[SITE_SETTING])

    def render_template(self, name: str, sync: bool = False, **values: Any) -> Any:
        """JupyterHub's, with what our page shows."""
        if name == "home.html":
            values |= self.shown()
        return super().render_template(name, sync=sync, **values)

    def shown(self) -> dict[str, Any]:
        """The page's own values."""
        user, now = self.current_user, time.time()
        look_at(user, self.engine, now)
        seen = overview(user, self.settings[SITE_SETTING], self.hub.base_url, now)
        active = {session["name"] for session in seen["sessions"]}
        kept = [s for s in user.all_spawners(include_default=False) if s.name not in active]
        return {
            "overview": seen,
            "jobs_page": lambda button: jobs_page(in_queue(self.engine.jobs, user.name), now, button),
            "trouble": self.trouble,
            "kept": [{"name": s.name, "title": title_of(s), "last_activity": s.last_activity} for s in kept],
            "default_active": "" in active,
            "last_choice": self.last_choice(user),
            "last_link": self.last_link(user, seen["last"]),
            "steps": steps,
            "minutes_words": minutes_words,
            "memory_words": memory_words,
            "number_words": number_words,
            "hours_words": hours_words,
            "share_words": share_words,
            "longest_title": LONGEST_TITLE,
        }

    def last_choice(self, user: Any) -> str:
        """What the session without a name was started with last, in words; empty where it never was, or may not be now."""
        options = user.spawner.user_options
        if not options:
            return ""
        site = self.engine.site
        try:
            request = check(options, site)
        except RequestError:
            return ""
        title = site.profiles[request.profile].title
        return f"{title}: {resources_words(site, request)} · {minutes_words(request.minutes)}"

    def last_link(self, user: Any, last: dict[str, Any] | None) -> str:
        """Where the start page is filled in with the smaller request; empty where there is none."""
        if not last or not last["options"]:
            return ""
        options = {f"opt-{key}": value for key, value in last["options"].items()}
        return f"{self._start_page(user, last['name'])}?{urlencode(options, doseq=True)}"

    def _start_page(self, user: Any, name: str) -> str:
        return str(url_path_join(self.hub.base_url, "spawn", user.escaped_name, url_escape_path(name)))

    @web.authenticated
    async def post(self) -> None:
        """One of the page's forms: ``action`` is ``new``, ``stop``, ``extend``, ``delete``, ``stop-job`` or
        ``stop-everything``. Comes back to the page."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "the form is too long")
        actions = {
            "new": self.new,
            "stop": self.stop,
            "extend": self.extend,
            "delete": self.delete_name,
            ONE: self.stop_job,
            ALL: self.stop_everything,
        }
        chosen, name, user = self.get_body_argument("action", ""), self.get_body_argument("name", ""), self.current_user
        action = actions.get(chosen)
        if action is None:
            raise web.HTTPError(400, f"action must be one of {', '.join(actions)}")
        # As for the same over REST: a person's role may have been given less than JupyterHub ships.
        needed = (
            f"delete:servers!user={user.name}"
            if chosen in (ALL, ONE)
            else f"{SCOPES[chosen]}!server={user.name}/{name}"
        )
        if not self.has_scope(needed):
            raise web.HTTPError(403, _("Your account may not do this here. Ask the support if it should."))
        where = await action(user, name)
        if self.trouble:
            await self.get()
        else:
            self.redirect(where or url_path_join(self.hub.base_url, "home"), status=303)

    async def new(self, user: Any, _name: str) -> str:
        """Go to the start page of a new session with the title that was typed."""
        title = normalise_unicode(" ".join(self.get_body_argument("title", "").split()))
        self.trouble = title_refusal(title)
        if self.trouble:
            self.set_status(400)
            return ""
        name = free_name(title, user.orm_spawners)
        return f"{self._start_page(user, name)}?{urlencode({'display_name': title})}"

    async def stop(self, user: Any, name: str) -> str:
        """Stop a session, or its start; what takes longer than a moment goes on behind the page."""
        if name in user.spawners and user.spawners[name].active:
            await stop(self, self.engine, user, name)
        return ""

    async def stop_job(self, user: Any, name: str) -> str:
        """Stop a batch run, or the workers of a Dask cluster."""
        self.trouble = await stop_one(self.engine, user.name, name)
        if self.trouble:
            self.set_status(503)
        return ""

    async def stop_everything(self, user: Any, _name: str) -> str:
        """Stop all sessions, and cancel all other jobs of this person's."""
        self.trouble = await stop_everything(self, self.engine, user)
        if self.trouble:
            self.set_status(503)
        return ""

    async def extend(self, user: Any, name: str) -> str:
        """Give a session more time."""
        minutes = self.get_body_argument("minutes", "")
        try:
            await extend(own_session(user, name), int(minutes) if minutes.isascii() and minutes.isdigit() else minutes)
        except ExtensionRefused as refused:
            self.trouble = str(refused)
            self.set_status(refused.status)
        return ""

    async def delete_name(self, user: Any, name: str) -> str:
        """Forget a session that does not run: its name, its title and its last choice."""
        if not name or name not in user.orm_spawners:
            return ""
        spawner = user.spawners[name]
        if spawner.active:
            self.trouble = _("This session still runs: stop it first.")
            self.set_status(409)
            return ""
        await user._delete_spawner(spawner)
        self.db.delete(spawner.orm_spawner)
        user.spawners.pop(name, None)
        self.db.commit()
        return ""
