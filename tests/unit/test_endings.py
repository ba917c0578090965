"""Who stopped a session, kept for its owner, and the line on the home page that says how the last one ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm

from spawners.endings import KEPT_SECONDS, endings, in_a_line
from spawners.explain import known
from spawners.failure import RequestRefused, SessionFailed, not_submitted, sentences
from spawners.idleness import SERVICE
from spawners.stopping import stopped_by, why_stopped
from studiolo.errors import Fault, RequestError, SlurmUnavailable
from studiolo.site import Site
from studiolo.slurm.states import JobState

NOW = 1_000_000
HOSTILE = "<script>alert(1)</script>"


def person(name: str) -> Any:
    return SimpleNamespace(name=name, kind="user")


def spawner(site: Site, **facts: Any) -> Any:
    logs: list[str] = []
    found: dict[str, Any] = {
        "engine": SimpleNamespace(site=site, slurm={}), "user": SimpleNamespace(name="ada", escaped_name="ada"), "name": "",
        "display_name": "", "active": True, "pending": "", "job": 7, "node": "gpu1", "cluster": "main", "served_port": 9,
        "last_state": JobState(7, "RUNNING", node="gpu1"), "last_end": {}, "user_options": {}, "_failed": None,
        "ending": None, "last_cluster": "main", "has_listened": True, "logs_read": logs,
        "log_tail": lambda *names: logs.append("read") or ["disk quota exceeded"],
    }  # fmt: skip
    return SimpleNamespace(**{**found, **facts})


@pytest.mark.parametrize(
    ("who", "kind", "name"),
    [
        (person("ada"), "", ""),
        (person("root"), "stopped-by", "root"),
        (person(SERVICE), "stopped-by", SERVICE),  # anybody may be called like the service
        (orm.Service(name=SERVICE), "idle", SERVICE),
        (orm.Service(name="ada"), "stopped-by", "ada"),
        (orm.Service(name="operator"), "stopped-by", "operator"),
    ],
)
def test_a_stop_is_known_by_who_asks_for_it(who: Any, kind: str, name: str) -> None:
    assert why_stopped(who, "ada") == (kind, name)


def test_an_idle_session_is_told_after_how_long_and_what_is_kept(site: Site) -> None:
    hub = site.hub.model_copy(update={"idle_limit": 90})
    one = spawner(site.model_copy(update={"hub": hub}))
    stopped_by(one, orm.Service(name=SERVICE))
    cause, lines, cluster = known(one, None)
    assert cause
    what, why, advice, slurm = sentences(cause)
    assert "1 h 30 min" in what
    assert "hub.idle_limit" in why
    assert "What was saved is kept" in why
    assert "Start again" in advice
    assert "CANCELLED (job 7 on gpu1)" in slurm
    assert (lines, cluster) == ((), "main")


def test_who_stopped_it_is_told_by_name(site: Site) -> None:
    one = spawner(site)
    stopped_by(one, person("eve"))
    cause = known(one, None)[0]
    assert cause
    assert sentences(cause)[0] == "It was stopped by eve."


def test_ones_own_stop_says_nothing_and_takes_back_what_an_earlier_one_that_failed_had_said(site: Site) -> None:
    one = spawner(site)
    stopped_by(one, person("eve"))
    stopped_by(one, person("ada"))
    assert one.last_end == {}


@pytest.mark.parametrize("facts", [{"active": False}, {"pending": "stop"}])
def test_what_is_over_or_being_stopped_keeps_its_reason(site: Site, facts: dict[str, Any]) -> None:
    end = {"job": 7, "state": "TIMEOUT", "node": ""}
    one = spawner(site, last_end=end, **facts)
    stopped_by(one, person("eve"))
    assert one.last_end is end


def test_a_start_without_a_job_is_stopped_as_well(site: Site) -> None:
    one = spawner(site, job=None, node="", served_port=0, last_state=None, pending="spawn")
    stopped_by(one, person("eve"))
    cause = known(one, None)[0]
    assert cause
    assert (cause.state, sentences(cause)[0]) == (None, "It was stopped by eve.")


# --- The home page's line --------------------------------------------------------------------------------------------


def owner(*spawners: Any) -> Any:
    kept = [SimpleNamespace(name=one.name, state={"last_end": one.last_end}) for one in spawners]
    return SimpleNamespace(
        spawners={one.name: one for one in spawners},
        orm_user=SimpleNamespace(_orm_spawners=kept),
        escaped_name="ada",
    )


def ended(site: Site, state: str = "OUT_OF_MEMORY", **facts: Any) -> Any:
    end = {"job": 7, "state": state, "node": "gpu1", "cluster": "main", "at": NOW, **facts.pop("end", {})}
    return spawner(site, active=False, last_end=end, **facts)


def test_an_end_is_told_in_one_sentence_with_the_way_to_its_page(site: Site) -> None:
    (told,) = endings(owner(ended(site)), "/hub/", NOW)
    assert told == {
        "name": "", "title": "My session", "failed": False, "what": "The job needed more memory than it had.", "at": NOW,
        "url": "/hub/user/ada/",
    }  # fmt: skip


def test_a_failed_start_is_told_before_an_earlier_end(site: Site) -> None:
    error = not_submitted(SlurmUnavailable("submit", "?"), "")
    (told,) = endings(owner(ended(site, _failed=error, name="run")), "/hub/", NOW)
    assert (told["failed"], told["url"]) == (True, "/hub/spawn-pending/ada/run")
    assert told["what"].startswith("The machine's scheduler does not answer")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RequestRefused(RequestError([Fault("cpus", HOSTILE, "at most 4")])), "does not grant"),
        (SessionFailed("Odd.", "", reason="odd"), "Odd."),
        (RuntimeError(HOSTILE), "in the hub itself"),
    ],
)
def test_every_failed_start_has_its_line(site: Site, error: Exception, words: str) -> None:
    line = in_a_line(spawner(site, active=False, _failed=error), error)
    assert words in line
    assert HOSTILE not in line


@pytest.mark.parametrize("facts", [{"active": True}, {"last_end": {}}])
def test_what_runs_or_was_stopped_by_its_owner_has_no_line(site: Site, facts: dict[str, Any]) -> None:
    one = ended(site)
    for key, value in facts.items():
        setattr(one, key, value)
    assert endings(owner(one), "/hub/", NOW) == []


def test_who_shut_a_session_down_from_within_is_not_told_so(site: Site) -> None:
    assert endings(owner(ended(site, "COMPLETED", end={"served": True})), "/hub/", NOW) == []


def test_a_line_goes_away_after_some_days(site: Site) -> None:
    assert endings(owner(ended(site)), "/hub/", NOW + KEPT_SECONDS)
    assert endings(owner(ended(site)), "/hub/", NOW + KEPT_SECONDS + 1) == []


def test_a_log_is_read_once_however_often_somebody_looks(site: Site) -> None:
    one = ended(site, "FAILED", end={"session": "s", "log": "l"})
    lines = {endings(owner(one), "/hub/", NOW)[0]["what"] for _n in range(5)}
    assert lines == {"There was no room left to write to."}
    assert one.logs_read == ["read"]
    one.last_end = {"job": 8, "state": "TIMEOUT", "node": "", "at": int(NOW)}
    assert "end of its time" in endings(owner(one), "/hub/", NOW)[0]["what"]


def test_the_session_without_a_name_comes_first(site: Site) -> None:
    told = endings(owner(ended(site, name="b"), ended(site, name="a"), ended(site)), "/hub/", NOW)
    assert [one["name"] for one in told] == ["", "a", "b"]
