"""What people see while the hub does not answer: the proxy's own page, which comes back by itself.

While the hub answers, it writes the proxy's error pages. While it is restarted, the proxy would show two words of HTTP and
nothing that ever changes.
"""

from __future__ import annotations

from html import escape

from studiolo.language import LANGUAGES, _, language, speak
from studiolo.site import Site

__all__ = ["pages"]

AGAIN_SECONDS = 5

PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="{seconds}"></noscript>
<title>{title} · {site}</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto 0; padding: 0 1rem; }}
h1 {{ font-weight: 500; font-size: 1.75rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p role="status">{what}</p>
<p>{calm}</p>
</main>
<script>
const look = async () => {{
  try {{
    const answer = await fetch(location.href, {{ headers: {{ Accept: "text/html" }}, redirect: "manual", cache: "no-store" }});
    if (answer.status !== 503 || answer.headers.get("X-JupyterHub-Version")) return location.reload();
  }} catch {{
    // not even the proxy answers: it is looked for again
  }}
  setTimeout(look, {seconds}000);
}};
setTimeout(look, {seconds}000);
</script>
</body>
</html>
"""


def pages(site: Site) -> dict[str, str]:
    """The page in each language."""
    spoken, found = language(), {}
    for name in LANGUAGES:
        speak(name)
        found[name] = PAGE.format(
            language=name,
            seconds=AGAIN_SECONDS,
            site=escape(site.title),
            title=escape(_("Back in a moment")),
            what=escape(
                _("%(site)s does not answer just now. This page looks again every few seconds.", site=site.title)
            ),
            calm=escape(_("Your sessions go on meanwhile, and so does what runs in them.")),
        )
    speak(spoken)
    return found
