"""What the start page shows, decided: what it is filled in with, and what can be had again in one click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spawners import form
from spawners.presets import faults_of, kept
from studiolo.errors import Fault
from studiolo.language import _
from studiolo.site import Site

__all__ = ["link_options", "start_page"]

PREFIX = "opt-"  # JupyterHub's own, so that options are told from what else stands in an address
NO_OPTIONS = ("preset", "_xsrf")


def link_options(query: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The options of a launch link: ``?opt-profile=one-gpu&opt-minutes=30``, or the same without ``opt-`` throughout."""
    prefixed = {key.removeprefix(PREFIX): values for key, values in query.items() if key.startswith(PREFIX)}
    bare = {key: values for key, values in query.items() if key not in NO_OPTIONS}
    return form.options(prefixed or bare)


def start_page(
    site: Site,
    *,
    last: Mapping[str, object],
    presets: Mapping[str, Mapping[str, object]],
    link: Mapping[str, object] | None = None,
    preset: str | None = None,
    submitted: Mapping[str, Sequence[str]] | None = None,
    live: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The page's own part of what its template shows.

    Filled in is, first of these that is there: what was just refused (``submitted``, form data), the options of a
    ``link``, those of the ``preset`` of that name, the ``last`` choice. Whatever it is, the page says what the site has
    against it. ``live`` are the offers (spawners/offers.py) as they are known without asking.
    """
    notice = ""
    if submitted is not None:
        values: Mapping[str, object] = form.options(submitted)
    elif link:
        values = link
        notice = _("A link has filled in this page for you. Nothing has been started: look it over first.")
    elif preset is not None and preset in presets:
        values = presets[preset]
        notice = _("Filled in from your preset “%(name)s”.", name=preset)
    else:
        values = last
        if preset is not None:
            notice = _("You have no preset of that name.")
    faults = faults_of(site, values)
    kept_now = (live or {}).get("kept") or {"last": None, "presets": {}}
    now = live["now"] if live else 0
    return {
        "form": form.render(site, values, faults, live),
        "live": live,
        "silent": bool(live and live["silent_since"] is not None),
        "notice": notice,
        "faults": [_shown(fault) for fault in faults],
        "refused": submitted is not None,
        "last": _again(site, last) | {"live": form.outlook(kept_now["last"], now)} if last else None,
        "presets": [
            {
                "name": name,
                "words": form.choice_words(site, choice),
                "options": kept(choice),
                "allowed": not faults_of(site, choice),
                "live": form.outlook(kept_now["presets"].get(name), now),
            }
            for name, choice in presets.items()
        ],
        "choices": form.choices(site),
        "words": form.words(),
    }


def _again(site: Site, last: Mapping[str, object]) -> dict[str, Any]:
    """The last choice as a form's hidden fields, in words, and what is against it now."""
    fields = []
    for key, value in kept(last).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        fields += [(key, str(one)) for one in values]
    faults = faults_of(site, last)
    return {
        "fields": fields,
        "options": kept(last),
        "words": form.choice_words(site, last),
        "faults": [str(fault) for fault in faults],
    }


def _shown(fault: Fault) -> dict[str, str]:
    field = form.field_of(fault.where)
    anchor = f"studiolo-{field}" if field and field != "profile" else "studiolo-profile-fault" if field else ""
    return {"anchor": anchor, "text": str(fault)}
