"""The running hub with other settings for a while, as if its operator had edited the site file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from hubclient import Hub, until

from slurmbox import box as slurmbox


@contextmanager
def reconfigured(hub: Hub, box: Any, **keys: object) -> Iterator[None]:
    """Have these keys in the site file's table ``[hub]``, the hub restarted before and after."""
    file = hub.state / "site.toml"
    before = file.read_text(encoding="utf-8")
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    text = re.sub(rf"(?m)^(?:{'|'.join(keys)}) = .*\n", "", before)
    try:
        # Written in place: owner, group and mode stay.
        file.write_text(text.replace("[hub]\n", f"[hub]\n{lines}", 1), encoding="utf-8")
        restart(hub, box)
        yield
    finally:
        file.write_text(before, encoding="utf-8")
        restart(hub, box)


def restart(hub: Hub, box: Any) -> None:
    """Restart the hub alone, as an operator would, and wait until it answers."""
    slurmbox.supervisor(box).restart("hub")
    until("the hub", lambda: answers(hub))


def answers(hub: Hub) -> bool:
    """Whether the hub answers a request that needs its database."""
    try:
        return hub.call("GET", "users?limit=1").status_code == 200
    except httpx.TransportError:
        return False
