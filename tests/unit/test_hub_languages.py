"""Handlers and templates of JupyterHub in the language of whoever is being served."""

from __future__ import annotations

from hub_config.languages import TEMPLATE_WORDS
from studiolo.language import _, language, plural


def test_jupyterhub_gives_templates_what_comes_of_calling_their_variables_with_the_user() -> None:
    # As BaseHandler.template_namespace has it.
    given = {name: value("ada") if callable(value) else value for name, value in TEMPLATE_WORDS.items()}
    assert given == {"_": _, "plural": plural, "language": language}
