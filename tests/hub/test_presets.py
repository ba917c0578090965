"""Presets over the REST API: a person's own, through the gate, and what hostile callers are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hubclient import HTTP, Hub

from spawners.presets import LONGEST_NAME, MAX_BODY, MOST

PATH = "studiolo/presets"


@pytest.fixture(scope="module")
def token(hub: Hub, person: Callable[..., str]) -> Callable[[str], str]:
    """A token of a person's own, with all that they may do."""

    def new(name: str) -> str:
        return str(
            hub.call("POST", f"users/{name}/tokens", json={"note": "presets", "expires_in": 900}).json()["token"]
        )

    return new


@pytest.fixture
def grace(hub: Hub, person: Callable[..., str], token: Callable[[str], str]) -> Iterator[str]:
    """The token of somebody who has no presets before and after."""
    mine = token(person("learner", 20))
    clear(hub, mine)
    yield mine
    clear(hub, mine)


def clear(hub: Hub, token: str) -> None:
    for preset in hub.call("GET", PATH, token=token).json()["presets"]:
        assert hub.call("DELETE", path(preset["name"]), token=token).status_code == 204


def path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def put(hub: Hub, token: str, name: str, options: Any) -> httpx.Response:
    return hub.call("PUT", path(name), token=token, json={"user_options": options})


def test_a_preset_is_saved_told_changed_and_deleted(hub: Hub, grace: str) -> None:
    options = {"profile": "learn", "minutes": "90m", "cpus": ""}
    answer = put(hub, grace, "50 % & a bit? 数学", options)
    assert answer.status_code == 201, answer.text
    assert answer.json()["options"] == {"profile": "learn", "minutes": "90m"}
    assert put(hub, grace, "50 % & a bit? 数学", {"profile": "learn"}).status_code == 200
    (only,) = hub.call("GET", PATH, token=grace).json()["presets"]
    assert only == {"name": "50 % & a bit? 数学", "options": {"profile": "learn"}, "allowed": True, "faults": []}
    assert hub.call("GET", path("50 % & a bit? 数学"), token=grace).json() == only
    assert hub.call("DELETE", path("50 % & a bit? 数学"), token=grace).status_code == 204
    assert hub.call("DELETE", path("50 % & a bit? 数学"), token=grace).status_code == 404
    assert hub.call("GET", path("50 % & a bit? 数学"), token=grace).status_code == 404


def test_nobody_sees_or_changes_anothers(
    hub: Hub, grace: str, person: Callable[..., str], token: Callable[[str], str]
) -> None:
    put(hub, grace, "mine", {"profile": "learn"})
    for other in (token(person("learner", 21)), token(person("operator"))):
        assert hub.call("GET", PATH, token=other).json() == {"presets": []}
        assert hub.call("DELETE", path("mine"), token=other).status_code == 404
    assert [one["name"] for one in hub.call("GET", PATH, token=grace).json()["presets"]] == ["mine"]


def test_without_a_person_there_are_none(hub: Hub) -> None:
    assert hub.call("GET", PATH, token="wrong").status_code == 403
    assert HTTP.get(f"{hub.url}hub/api/{PATH}").status_code == 403
    assert hub.call("GET", PATH).status_code == 403  # the operator's token is a service's
    assert put(hub, hub.token, "x", {"profile": "learn"}).status_code == 403


def test_a_token_that_may_not_start_sessions_may_not(hub: Hub, person: Callable[..., str]) -> None:
    """Such as the token that lies in a session's own environment."""
    name = person("learner", 21)
    body = {"note": "less", "expires_in": 900, "scopes": [f"access:servers!user={name}", f"users:activity!user={name}"]}
    less = hub.call("POST", f"users/{name}/tokens", json=body).json()["token"]
    assert hub.call("GET", PATH, token=less).status_code == 403
    assert put(hub, less, "x", {"profile": "learn"}).status_code == 403
    assert hub.call("DELETE", path("x"), token=less).status_code == 403


@pytest.mark.parametrize(
    "name", [" a", "a/b", "a\\b", "a\nb", "a\0b", "a\u202eb", "x" * (LONGEST_NAME + 1), "\x1b[31m"]
)
def test_an_unfit_name_is_refused_with_the_rule(hub: Hub, grace: str, name: str) -> None:
    answer = put(hub, grace, name, {"profile": "learn"})
    assert answer.status_code == 400
    assert f"up to {LONGEST_NAME} printable characters" in answer.json()["message"]
    assert hub.call("GET", PATH, token=grace).json() == {"presets": []}


@pytest.mark.parametrize("raw", ["..%2f..%2fx", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"])
def test_addresses_that_name_no_preset_change_nothing(hub: Hub, grace: str, raw: str) -> None:
    answer = hub.call("PUT", f"{PATH}/{raw}", token=grace, json={"user_options": {"profile": "learn"}})
    assert answer.status_code in (400, 404)
    assert hub.call("GET", PATH, token=grace).json() == {"presets": []}


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "gone"},
        {"profile": "learn", "cpus": 99},
        {"profile": "learn", "prologue": "id"},
        {"profile": "learn", "workdir": "a\nb"},
        {"profile": {"$ne": 1}},
        {"profile": "learn", "reservation": "$(id)"},
    ],
)
def test_what_the_gate_refuses_is_not_kept(hub: Hub, grace: str, options: dict[str, Any]) -> None:
    answer = put(hub, grace, "mine", options)
    assert answer.status_code == 400
    assert hub.call("GET", PATH, token=grace).json() == {"presets": []}


@pytest.mark.parametrize(
    "body", ["", "[]", "null", "{", '{"user_options": []}', '{"user_options": {}, "name": "x"}', '{"profile": "learn"}']
)
def test_any_other_body_is_refused(hub: Hub, grace: str, body: str) -> None:
    assert hub.call("PUT", path("mine"), token=grace, content=body).status_code == 400


def test_a_body_that_is_too_long_is_refused(hub: Hub, grace: str) -> None:
    body = json.dumps({"user_options": {"profile": "learn", "workdir": "x" * MAX_BODY}})
    assert hub.call("PUT", path("mine"), token=grace, content=body).status_code == 413


def test_there_are_so_many_at_most(hub: Hub, grace: str) -> None:
    for number in range(MOST):
        assert put(hub, grace, f"p{number}", {"profile": "learn"}).status_code == 201
    answer = put(hub, grace, "one more", {"profile": "learn"})
    assert answer.status_code == 409
    assert "Delete one first" in answer.json()["message"]


def test_a_page_of_another_site_can_not_save_one(hub: Hub, grace: str, access: Any, person: Callable[..., str]) -> None:
    """The cookie alone, which a browser sends along, is not enough."""
    name = person("learner", 20)
    password = next(user["password"] for user in access["users"] if user["name"] == name)
    with httpx.Client(base_url=hub.url, verify=False, follow_redirects=True) as browser:
        browser.get("hub/login")
        xsrf = browser.cookies.get("_xsrf", path="/hub/")
        form = {"username": name, "password": password, "_xsrf": xsrf}
        assert browser.post("hub/login", data=form).status_code == 200
        body = {"user_options": {"profile": "learn"}}
        foreign = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        assert browser.put(f"hub/api/{path('evil')}", json=body, headers=foreign).status_code == 403
        assert browser.put(f"hub/api/{path('evil')}", json=body).status_code == 403
        assert browser.delete(f"hub/api/{path('evil')}").status_code == 403
        own = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/")}
        assert browser.put(f"hub/api/{path('good')}", json=body, headers=own).status_code == 201
    assert [one["name"] for one in hub.call("GET", PATH, token=grace).json()["presets"]] == ["good"]


def test_a_file_that_can_not_be_read_is_told_and_not_written_over(
    hub: Hub, grace: str, person: Callable[..., str]
) -> None:
    put(hub, grace, "mine", {"profile": "learn"})
    name = person("learner", 20)
    folder = hub.state / "hub" / "presets"
    (file,) = [one for one in folder.iterdir() if json.loads(one.read_text())["person"] == name]
    before = file.read_text()
    try:
        file.write_text("{")
        assert hub.call("GET", PATH, token=grace).status_code == 503
        assert put(hub, grace, "other", {"profile": "learn"}).status_code == 503
        assert hub.call("DELETE", path("mine"), token=grace).status_code == 503
        assert file.read_text() == "{"
    finally:
        file.write_text(before)
    assert hub.call("GET", path("mine"), token=grace).status_code == 200
