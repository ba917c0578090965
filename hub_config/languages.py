"""Pages and answers in the language that the browser asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyterhub.handlers.base import BaseHandler

from studiolo.language import _, language, plural, preferred, speak

__all__ = ["TEMPLATE_WORDS", "speak_to_browsers"]


def _as_it_is(word: Callable[..., str]) -> Callable[[object], Callable[..., str]]:
    """JupyterHub calls what is callable among a template's variables with the user, and gives it what comes of that."""
    return lambda user: word


TEMPLATE_WORDS = {"_": _as_it_is(_), "plural": _as_it_is(plural), "language": _as_it_is(language)}
"""What templates translate with. They escape what comes of it: no text holds HTML."""


def speak_to_browsers() -> None:
    """Have every handler of JupyterHub, and all tasks that it begins, tell what they tell in the browser's language."""
    prepare = BaseHandler.prepare
    if getattr(prepare, "speaks", False):
        return

    async def prepare_in_language(self: Any) -> None:
        speak(preferred(self.request.headers.get("Accept-Language", "")))
        self.set_header("Vary", "Accept-Language")
        await prepare(self)

    prepare_in_language.speaks = True  # type: ignore[attr-defined]
    BaseHandler.prepare = prepare_in_language
