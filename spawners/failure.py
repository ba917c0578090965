"""A failed start, told to its owner: what happened, what to do, Slurm's word and the last lines of the log, escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from jupyterhub.spawner import SpawnException

from studiolo.errors import RequestError

__all__ = ["RequestRefused", "SessionFailed"]


class SessionFailed(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """Ends a start. ``reason`` is a short word for metrics; ``log`` the last lines, shown to the owner alone.

    A SpawnException, so that JupyterHub does not count it as its own failure and exit after some of them.
    """

    def __init__(
        self, what: str, advice: str, *, reason: str, log: Sequence[str] = (), support: str = "", status: int = 500
    ) -> None:
        self.advice = advice
        self.lines = tuple(log)
        text = f"{what} {advice}".strip()
        self.jupyterhub_message = "\n".join([text, *self.lines])
        self.jupyterhub_html_message = _page(what, advice, self.lines, support)
        super().__init__(text, reason=reason, message_html=self.jupyterhub_html_message, status_code=status)


class RequestRefused(SpawnException):  # type: ignore[misc]
    """The request did not pass the gate: status 400, with every fault."""

    def __init__(self, error: RequestError) -> None:
        self.error = error
        self.jupyterhub_message = str(error)
        items = "".join(f"<li>{html.escape(str(fault))}</li>" for fault in error.faults)
        self.jupyterhub_html_message = f"<p>This can not be started as it stands:</p><ul>{items}</ul>"
        super().__init__(str(error), reason="request", message_html=self.jupyterhub_html_message, status_code=400)


def _page(what: str, advice: str, lines: Sequence[str], support: str) -> str:
    parts = [
        f'<p class="studiolo-what">{html.escape(what)}</p>',
        f'<p class="studiolo-advice">{html.escape(advice)}</p>',
    ]
    if lines:
        log = html.escape("\n".join(lines))
        parts.append(f'<p>The last lines of its log:</p><pre class="studiolo-log" tabindex="0">{log}</pre>')
    if support:
        parts.append(f'<p class="studiolo-support">{html.escape(support)}</p>')
    return "".join(parts)
