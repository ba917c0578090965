"""Asking the hub over its REST API, with the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 10.0
# The hub is on this machine: no proxy of the surroundings lies between.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HubError(Exception):
    """The hub gave no answer, or an unwelcome one."""


class Hub:
    """The hub behind a public address such as ``http://127.0.0.1:8000/``."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = token

    def version(self) -> str:
        """The hub's version; needs no token."""
        return str(self._ask("GET", "/hub/api/")["version"])

    def info(self) -> dict[str, Any]:
        """What only a holder of the token is told; proves that the token is good."""
        answer: dict[str, Any] = self._ask("GET", "/hub/api/info")
        return answer

    def active_users(self) -> list[dict[str, Any]]:
        """The people who have a session now, each with their ``servers``."""
        answer: list[dict[str, Any]] = self._ask("GET", "/hub/api/users?state=active&limit=1000")
        return answer

    def sync_proxy(self) -> None:
        """Have the hub tell the proxy all its routes again."""
        self._ask("POST", "/hub/api/proxy")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self._url + path, method=method)  # noqa: S310 - http to ourselves
        if self._token:
            request.add_header("Authorization", f"token {self._token}")
        try:
            with _direct.open(request, timeout=TIMEOUT_S) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            raise HubError(f"{method} {path}: {error.code} {error.reason}") from error
        except OSError as error:
            raise HubError(f"{method} {path}: {error}") from error
        try:
            return json.loads(body) if body else None
        except ValueError as error:
            raise HubError(f"{method} {path}: no JSON in the answer") from error
