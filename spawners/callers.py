"""What calls of sessions to the hub have in common: a small JSON body, and whose session it is that calls.

What runs in a session is its owner's own program: whatever it sends is checked, and it speaks for nobody else.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from jupyterhub.apihandlers import APIHandler
from tornado import web

if TYPE_CHECKING:
    from spawners.server import StudioloSpawner

__all__ = ["TAGLESS", "JsonHandler", "calling_session"]

MAX_BODY = 4096
# For JSON: what a page might put between its tags is safe there, whoever forgets to escape it.
TAGLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class JsonHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """A handler whose callers send a JSON object of known keys."""

    def body(self, *keys: str) -> dict[str, Any]:
        """The JSON body, which holds exactly ``keys``; anything else is refused with 400."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "the body is too long")
        body = self.get_json_body()
        if not isinstance(body, dict) or set(body) != set(keys):
            raise web.HTTPError(400, f"the body must be a JSON object with exactly: {', '.join(keys)}")
        return body


def calling_session(handler: Any) -> StudioloSpawner | None:
    """The running session whose server's token ``handler``'s caller holds; ``None`` for any other caller.

    A token that an earlier hub process made is known by its note, which JupyterHub writes: its owner may write the same
    one into a token of their own, and speak for their own session with it as they may anyway.
    """
    token = handler.get_auth_token() or ""
    spawners: list[Any] = [
        s for s in getattr(handler.current_user, "spawners", {}).values() if hasattr(s, "served_port")
    ]
    for spawner in spawners:
        if spawner.api_token and secrets.compare_digest(spawner.api_token, token):
            return spawner  # type: ignore[no-any-return]
    kept = handler.get_token()
    note = kept.note if kept is not None else None
    return next((s for s in spawners if s.served_port and note == f"Server at {s.server_base_url}"), None)
