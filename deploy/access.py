"""access.json: how a person or a script gets into the platform. Root's alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from slurmbox.files import write_atomic
from slurmbox.people import Person


class Login(TypedDict):
    """One person's way in. ``role`` is a company's, a researcher, a trainer, a learner or the operator."""

    name: str
    password: str
    role: str


class Access(TypedDict):
    """The content of ``access.json``."""

    url: str
    hub_api_token: str
    users: list[Login]


def build(url: str, people: Iterable[Person], secrets: Mapping[str, str]) -> Access:
    """Everybody's login: operators have a password of their own, the others share one."""
    return {
        "url": url,
        "hub_api_token": secrets["api_token"],
        "users": [
            {
                "name": person.name,
                "password": secrets["admin_password" if person.role == "operator" else "user_password"],
                "role": person.role,
            }
            for person in people
        ],
    }


def write(path: Path, access: Access) -> None:
    """Write it in one step, readable by root alone from its first byte."""
    write_atomic(path, json.dumps(access, indent=2) + "\n", mode=0o600)
