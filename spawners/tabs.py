"""Several tabs of one person that open a session in the same moment: all get in.

JupyterHub remembers a log-in to a session in a cookie, of another name where it sees that one of another tab is there
already. Tabs that opened together (both waited for the start, or the browser restored them) see none, overwrite each
other's, and all end at a bare "403: Forbidden". So here each log-in has a cookie of its own from the beginning.
"""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

__all__ = ["let_tabs_in_together"]


def let_tabs_in_together() -> None:
    """Have JupyterHub's single-user server log in by :class:`EachItsOwnCookie` from now on."""
    from jupyterhub.singleuser import extension  # imported late, with the server

    class EachItsOwnCookie(extension.HubOAuth):  # type: ignore[misc]  # imported late
        """JupyterHub's log-in, never under the one name that all tabs would share."""

        def set_state_cookie(self, handler: Any, next_url: str | None = None, **more: Any) -> str:
            cookies: SimpleCookie = handler.request.cookies
            if self.state_cookie_name not in cookies:
                cookies[self.state_cookie_name] = "of-another-tab"
            state: str = super().set_state_cookie(handler, next_url, **more)
            return state

    extension.HubOAuth = EachItsOwnCookie
