"""Sphinx: MyST pages, the site file's reference written from its schema."""

from pathlib import Path

from studiolo.site_example import reference

project = "Studiolo"
author = "the Studiolo developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Studiolo"
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nitpicky = True

(Path(__file__).parent / "reference" / "site-file.md").write_text(reference(), encoding="utf-8")
