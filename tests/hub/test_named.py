"""Several sessions a person: each with its name, its job and its address; so many at once, and no strange names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hubclient import Hub, until
from reconfigured import reconfigured

BAD_NAMES = {
    "a path": "a/../../b",
    "a hidden file": ".ssh",
    "html": "<script>alert(1)</script>",
    "a line break": "a\nb",
    "a line break at the end": "run\n",
    "a null": "a\0b",
    "blanks": "my run",
    "capitals": "Run",
    "another alphabet": "数学",
    "a face": "👩🏽‍💻",
    "letters from right to left": "a\u202eb",
    "percent": "a%2fb%s%d",
    "a shell": "$(id)",
    "too long": "a" * 31,
    "far too long": "a" * 3000,
    "two hyphens": "a--b",
    "a digit first": "1a",
    "a hyphen last": "a-",
}


@pytest.fixture
def ben(hub: Hub, person: Callable[..., str]) -> Iterator[str]:
    """Somebody without any session, before and after; names are deleted, too."""
    name = person("company", 1)
    yield name
    for session, model in hub.call("GET", f"users/{name}?include_stopped_servers=1").json()["servers"].items():
        if model["ready"] or model["pending"]:
            hub.stop(name, session)
        if session:
            assert hub.call("DELETE", f"users/{name}/servers/{session}", json={"remove": True}).status_code == 204


@pytest.fixture(scope="module")
def bens_pages(hub: Hub, access: Mapping[str, Any], person: Callable[..., str]) -> Iterator[httpx.Client]:
    """A browser without JavaScript, logged in as that person."""
    password = next(user["password"] for user in access["users"] if user["name"] == person("company", 1))
    with httpx.Client(base_url=f"{hub.url}hub/", timeout=30) as client:
        client.get("login")
        form = {"username": person("company", 1), "password": password, "_xsrf": client.cookies["_xsrf"]}
        assert client.post("login", data=form).status_code == 302
        yield client


def test_two_sessions_of_one_person_live_side_by_side(hub: Hub, ben: str, bens_pages: httpx.Client) -> None:
    assert hub.start(ben, {"profile": "learn"}).status_code == 202
    assert hub.start(ben, {"profile": "quarter-gpu"}, "gpu-work").status_code == 202
    events = hub.events(ben, "gpu-work")
    assert events[-1]["ready"]
    assert events[-1]["url"].endswith(f"/user/{ben}/gpu-work/")
    hub.ready(ben)
    assert len(hub.jobs(ben)) == 2
    partitions = hub.slurm("squeue", "-h", "-u", ben, "-o", "%P").split()
    assert sorted(partitions) == ["cpu", "gpu"]
    for path in ("", "gpu-work/"):
        assert httpx.get(f"{hub.url}user/{ben}/{path}api", timeout=10).json()["version"]

    hub.stop(ben, "gpu-work")

    assert hub.slurm("squeue", "-h", "-u", ben, "-o", "%P").split() == ["cpu"]
    assert hub.server(ben)["ready"]
    assert "gpu-work" in bens_pages.get("home").text


def test_a_named_session_that_waits_can_be_followed_and_stopped(hub: Hub, ben: str, bens_pages: httpx.Client) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        assert hub.start(ben, {"profile": "learn"}, "later").status_code == 202
        hub.job(ben)
        shown = bens_pages.get(f"spawn-pending/{ben}/later")
        assert "“later” is on its way" in shown.text
        assert f"/hub/api/users/{ben}/servers/later/progress" in shown.text
        hub.stop(ben, "later")
        until("the end of the job", lambda: hub.jobs(ben) == [])
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_a_named_session_is_stopped_where_there_are_no_more_names(
    hub: Hub, ben: str, bens_pages: httpx.Client, box: Any
) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        assert hub.start(ben, {"profile": "learn"}, "before").status_code == 202
        hub.job(ben)
        with reconfigured(hub, box, sessions_per_person=1):
            until("the start goes on", lambda: "studiolo-cancel" in bens_pages.get(f"spawn-pending/{ben}/before").text)
            assert hub.start(ben, {"profile": "learn"}, "another").status_code == 400
            hub.stop(ben, "before")
            until("the end of the job", lambda: hub.jobs(ben) == [])
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_a_named_session_that_fails_says_so_under_its_name(hub: Hub, ben: str, bens_pages: httpx.Client) -> None:
    hub.start(ben, {"profile": "learn", "workdir": "no/such"}, "broken")
    assert hub.events(ben, "broken")[-1]["failed"]
    shown = bens_pages.get(f"spawn-pending/{ben}/broken")
    assert "“broken” did not start" in shown.text
    assert f'href="/hub/spawn/{ben}/broken?' in shown.text
    assert f'"/hub/spawn/{ben}?' not in shown.text


def test_one_session_more_than_the_site_allows_is_refused_and_says_whose_move_it_is(
    hub: Hub, ben: str, bens_pages: httpx.Client
) -> None:
    hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        for name in ("", "second", "third"):
            assert hub.start(ben, {"profile": "learn"}, name).status_code == 202
        refused = hub.start(ben, {"profile": "learn"}, "fourth")
        assert refused.status_code == 409
        message = refused.json()["message"]
        assert "You have 3 sessions (the one without a name, second, third)" in message
        assert "Stop one first" in message
        assert "You have 3 sessions" in bens_pages.get(f"spawn/{ben}/fourth").text
        assert hub.server(ben, "fourth") == {}

        hub.stop(ben, "second")

        assert hub.start(ben, {"profile": "learn"}, "fourth").status_code == 202
        refused = hub.start(ben, {"profile": "learn"}, "second")
        assert refused.status_code == 409, "a name that is there already does not open the limit"
        hub.stop(ben)
        assert hub.start(ben, {"profile": "learn"}, "second").status_code == 202
        assert hub.start(ben, {"profile": "learn"}).status_code == 409, "the session without a name counts as well"
    finally:
        hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


@pytest.mark.parametrize("bad", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused_and_leaves_nothing(hub: Hub, ben: str, bens_pages: httpx.Client, bad: str) -> None:
    quoted = quote(bad, safe="").replace(".", "%2E")  # a client resolves what looks like a path
    path = f"users/{ben}/servers/{quoted}"
    for answer in (
        hub.call("POST", path, json={"user_options": {"profile": "learn"}}),
        hub.call("PUT", path, json={}),
        hub.call("PATCH", f"users/{ben}/server", json={"name": bad}),
    ):
        assert answer.status_code == 400, answer.text
        assert "small letters, digits and single hyphens" in answer.json()["message"]
    shown = bens_pages.get(f"spawn/{ben}/{quoted}")
    assert shown.status_code == 400
    assert "<script>alert" not in shown.text
    assert list(hub.call("GET", f"users/{ben}?include_stopped_servers=1").json()["servers"]) in ([], [""])
    assert hub.jobs(ben) == []


@pytest.mark.parametrize("title", [" a", "a  b", "x" * 61, "a\nb", "a\0b", "a\u202eb", 7, None, ["x"]], ids=ascii)
def test_a_bad_title_is_refused(hub: Hub, ben: str, title: object) -> None:
    answer = hub.call("PUT", f"users/{ben}/servers/fine", json={"display_name": title})
    assert answer.status_code == 400, answer.text


def test_a_title_may_be_in_any_language_and_is_never_html(hub: Hub, ben: str, bens_pages: httpx.Client) -> None:
    title = '数学 <b>1</b> & "2"'
    assert hub.call("PUT", f"users/{ben}/servers/maths", json={"display_name": title}).status_code == 201
    for path in ("home", f"spawn/{ben}/maths"):
        shown = bens_pages.get(path).text
        assert "数学 &lt;b&gt;1&lt;/b&gt; &amp; " in shown
        assert "<b>1</b>" not in shown


@pytest.mark.parametrize(
    "body", [{"name": ".."}, {"name": 7}, {"name": None}, {"name": ["a"]}, {"nme": "a"}, {"cmd": ["id"]}], ids=str
)
def test_a_bad_change_of_a_session_is_refused(hub: Hub, ben: str, body: dict[str, object]) -> None:
    assert hub.call("PATCH", f"users/{ben}/server", json=body).status_code == 400


def test_names_are_not_kept_without_end(hub: Hub, ben: str) -> None:
    answers = [hub.call("PUT", f"users/{ben}/servers/name-{number}") for number in range(21)]
    assert [answer.status_code for answer in answers] == [201] * 20 + [400]
    assert "Delete one first" in answers[-1].json()["message"]
