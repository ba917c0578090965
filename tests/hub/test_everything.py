"""One button ends all that somebody has: sessions, batch runs, Dask workers, waiting ones too; and nothing of anybody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from chaos import visitor
from hubclient import Hub, until

from studiolo.site import load


def submit(hub: Hub, person: str, comment: str) -> int:
    """A job of the person's that sleeps, or waits to: the cluster's CPU nodes are few."""
    command = ("sbatch", "--parsable", "-p", "cpu", "-A", "playground", "--uid", person, "--mem=50M", "--chdir=/")
    return int(hub.slurm(*command, "--output=/dev/null", f"--comment={comment}", "--wrap=sleep 900"))


def told(hub: Hub, person: str) -> dict[str, int]:
    """What the home page says of jobs besides sessions."""
    answer = hub.call("GET", "studiolo/sessions", token=hub.own_token(person))
    return dict(answer.json()["others"] or {})  # nothing before the first look


def test_everything_of_one_person_ends_at_the_press_of_one_button(
    hub: Hub, access: Mapping[str, Any], site_file: Any, ada: str, person: Callable[..., str]
) -> None:
    site, ben = load(site_file), person("learner", 3)
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    session = hub.job(ada)
    mine = [submit(hub, ada, site.tag("run", "r1")), submit(hub, ada, site.tag("dask", "r1.c1"))]
    plain, another = submit(hub, ada, "my own"), submit(hub, ben, site.tag("run", "r2"))
    try:
        with visitor(hub, access, ada) as browser:
            until("the page to know", lambda: told(hub, ada) == {"runs": 1, "workers": 1, "others": 0}, 60)
            answer = browser.get("hub/home")
            assert answer.headers["cache-control"] == "no-store"  # nothing for the Back button of whoever logs in next
            page = answer.text
            for words in ("1 session<", "1 batch run<", "1 Dask worker<"):
                assert words in page
            (xsrf,) = re.findall(r'data-xsrf="([^"]+)"', page)
            form = {"action": "stop-everything", "_xsrf": xsrf}
            assert browser.post("hub/home", data=form).status_code == 200
            until("the end of all", lambda: not {session, *mine} & set(hub.jobs(ada)))
            until("the session's end", lambda: not hub.server(ada))  # the hub clears up after its job has gone
            until("the page to know", lambda: told(hub, ada) == {"runs": 0, "workers": 0, "others": 0})
            assert "stop-everything" not in browser.get("hub/home").text
        assert hub.jobs(ada) == [plain]
        assert another in hub.jobs(ben)
    finally:
        hub.slurm("scancel", str(plain), str(another))


def test_a_worker_ends_with_the_session_that_its_cluster_lives_in(hub: Hub, site_file: Any, ada: str) -> None:
    site = load(site_file)
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    owner = hub.slurm("squeue", "-h", "-o", "%k", "-j", str(hub.job(ada))).strip().rpartition(":")[2]
    worker, run = submit(hub, ada, site.tag("dask", f"{owner}.c1")), submit(hub, ada, site.tag("run", "r1"))
    try:
        hub.stop(ada)
        until("the worker's end", lambda: worker not in hub.jobs(ada))
        assert run in hub.jobs(ada)
    finally:
        hub.slurm("scancel", str(run))
