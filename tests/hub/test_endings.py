"""A session that somebody else stopped says who it was, on its own page and in a line on the home page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos import read, visitor
from hubclient import Hub, until
from reconfigured import restart


def lines(hub: Hub, user: str) -> list[dict[str, Any]]:
    """What the home page is told of sessions that ended."""
    answer = hub.call("GET", "studiolo/sessions", token=hub.own_token(user))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["ended"])


def test_who_stopped_a_session_is_told_until_it_starts_again_and_its_owner_is_not_told_of_their_own_stop(
    hub: Hub, box: Any, access: Mapping[str, Any], ada: str
) -> None:
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    hub.ready(ada)
    assert lines(hub, ada) == []
    hub.stop(ada, by_operator=True)
    restart(hub, box)
    (told,) = lines(hub, ada)
    assert (told["failed"], told["what"].startswith("It was stopped by ")) == (False, True)
    with visitor(hub, access, ada) as browser:
        home = read(browser, "hub/home")
        assert told["what"] in home
        assert "Why, and what to do" in home
        page = read(browser, told["url"])
        assert told["what"] in page
        assert "What was saved is kept." in page
        assert "CANCELLED" in page

        assert hub.start(ada, {"profile": "learn"}).status_code == 202
        hub.ready(ada)
        assert lines(hub, ada) == []
        hub.stop(ada)
        assert lines(hub, ada) == []
        assert "stopped by" not in read(browser, told["url"])


def test_a_start_that_somebody_else_stops_says_so_too(hub: Hub, ada: str) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        assert hub.start(ada, {"profile": "learn"}).status_code == 202
        hub.progress(ada, "PartitionDown")
        hub.stop(ada, by_operator=True)
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
    until("the end of its job", lambda: not hub.jobs(ada))
    (told,) = lines(hub, ada)
    assert told["what"].startswith("It was stopped by ")


def test_the_line_of_a_named_session_leads_to_its_own_page_though_the_other_one_runs(
    hub: Hub, access: Mapping[str, Any], ada: str
) -> None:
    assert hub.start(ada, {"profile": "learn"}).status_code == 202
    assert hub.start(ada, {"profile": "learn"}, "run").status_code == 202
    hub.ready(ada)
    hub.ready(ada, "run")
    hub.stop(ada, "run", by_operator=True)
    with visitor(hub, access, ada) as browser:
        (told,) = lines(hub, ada)
        page = read(browser, told["url"])
        assert "Your notebook “run” is not running" in page
        assert told["what"] in page
    gone = hub.call("DELETE", f"users/{ada}/servers/run", token=hub.own_token(ada), json={"remove": True})
    assert gone.status_code == 204, gone.text
    assert lines(hub, ada) == []


def test_a_start_that_failed_has_its_line(hub: Hub, access: Mapping[str, Any], ada: str) -> None:
    assert hub.start(ada, {"profile": "learn", "workdir": "no/such/folder"}).status_code == 202
    (told,) = until("the failure", lambda: lines(hub, ada))
    assert (told["failed"], told["what"]) == (True, "The folder that was asked for can not be opened.")
    with visitor(hub, access, ada) as browser:
        assert told["what"] in read(browser, told["url"])
