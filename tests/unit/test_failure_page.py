"""The page of a failure as it is written: one prominent next thing, how to make room, and where a log is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, StrictUndefined

import hub_config
from spawners.causes import Cause
from spawners.explain import Explanation
from spawners.failure import tell
from spawners.remedies import Asked
from studiolo.language import _, plural
from studiolo.site import Site
from studiolo.slurm.states import JobState

TEMPLATES = Path(hub_config.__file__).resolve().parent / "templates"
HOSTILE = "</pre><script>alert(1)</script>"
BARE = "".join(f"{{% block {name} %}}{{% endblock %}}" for name in ("title", "stylesheet", "meta", "main", "script"))


def html(site: Site, cause: Cause, lines: tuple[str, ...] = (), **more: Any) -> str:
    failure = tell(cause, Asked({"cpus": 1}, site, **more), lines)
    explained = Explanation(failure, "report", "/p", "/p?cpus=1", (("cpus", "1"),), bool(site.paths.logs))
    spawner = SimpleNamespace(goes_on=False, display_name="", explanation=lambda error: explained)
    loader = ChoiceLoader([DictLoader({"templates/not_running.html": BARE}), FileSystemLoader(TEMPLATES)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("not_running.html").render(
        _=_, plural=plural, studiolo_title="S", studiolo_support="", base_url="/hub/", xsrf="X", failed=True, exception=None,
        server_name="", spawn_url="/s", user=SimpleNamespace(spawners={"": spawner}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "more", "there"),
    [
        (Cause("node-fail"), {}, '<button type="submit" id="studiolo-next"'),
        (Cause("quota"), {}, 'href="#studiolo-room"'),
        (Cause("limit", words="QOSMaxJobsPerUserLimit"), {"running": 1}, 'href="/hub/home"'),
        (Cause("out-of-memory"), {}, 'href="/p?cpus=1"'),
        (Cause("launcher"), {}, 'data-copies="studiolo-report"'),
    ],
)
def test_there_is_one_next_thing_and_it_leads_there(site: Site, cause: Cause, more: dict[str, Any], there: str) -> None:
    page = html(site, cause, **more)
    assert page.count('id="studiolo-next"') == 1
    (button,) = re.findall(r'<(?:a|button)[^>]*id="studiolo-next"[^>]*>', page)
    assert re.search(re.escape(there).replace(re.escape('<button type="submit" id="studiolo-next"'), "submit"), button)
    assert len(re.findall(r"btn-primary", page)) == 1


def test_a_full_disk_is_told_how_to_make_room_and_offers_the_same_again_after_it(site: Site) -> None:
    page = html(site, Cause("quota"))
    assert 'id="studiolo-room"' in page
    assert "rm -r ~/.local/share/Trash" in page
    assert 'name="cpus" value="1"' in page
    assert "studiolo-room" not in html(site, Cause("node-fail"))


def test_a_log_in_somebodys_home_is_named_and_not_shown_as_its_lines(site: Site) -> None:
    unkept = site.model_copy(update={"paths": site.paths.model_copy(update={"logs": ""})})
    failed = Cause("failed", JobState(7, "FAILED"))
    page = html(unkept, failed, ("(in your home folder: .studiolo-x.log)",))
    assert ".studiolo-x.log" in page
    assert "last lines" not in page
    assert "<pre" not in page
    kept = html(site, failed, (HOSTILE,))
    assert "last lines" in kept
    assert "<script>alert" not in kept
