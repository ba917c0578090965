"""What axe-core finds on a page, and whether everything on it can be reached and seen with the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
RENEWALS = 5
GONE = "the page was renewed below the walk"
# What a dark page may break that was whole in the light: its colours.
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"], "resultTypes": ["violations"]}

# Marks all that one can press or fill in and that is to be seen; of radio buttons of one name, the keyboard reaches one.
FIND = """() => {
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest("[inert]");
  const names = new Set();
  const found = [];
  const all = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]:not([tabindex^='-']), [contenteditable=true]";
  for (const element of document.querySelectorAll(all)) {
    if (element.disabled || element.tabIndex < 0 || !seen(element)) continue;
    if (element.type === "radio") {
      if (names.has(element.name)) continue;
      names.add(element.name);
    }
    element.dataset.reach = element.type === "radio" ? `radio ${element.name}` : String(found.length);
    found.push(element.dataset.reach);
    if (element.type === "radio")
      for (const other of document.getElementsByName(element.name)) other.dataset.reach = element.dataset.reach;
  }
  return found;
}"""
LOOK = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const shows = (node) => {
    const style = node && getComputedStyle(node);
    return !!style && ((style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none");
  };
  const box = element.getBoundingClientRect();
  return {
    reach: element.dataset.reach ?? null,
    focus: shows(element) || shows(element.closest("label")),
    inside: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    html: element.outerHTML.slice(0, 120),
  };
}"""


@dataclass(frozen=True)
class Look:
    """A page at one width in one scheme of colours; ``is_first`` of those of its width."""

    width: int
    scheme: str

    @property
    def is_first(self) -> bool:
        return self.scheme == SCHEMES[0]


def looks(page: Page) -> Iterator[Look]:
    """Show the page wide and narrow, light and dark."""
    for look in (Look(width, scheme) for width in WIDTHS for scheme in SCHEMES):
        page.set_viewport_size({"width": look.width, "height": 860})
        page.emulate_media(color_scheme=look.scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.wait_for_function("scheme => document.documentElement.dataset.bsTheme === scheme", arg=look.scheme)
        yield look


def violations(page: Page, look: Look) -> list[str]:
    """All that axe finds, a line for each element: by every rule at each width, by those of colour in each scheme."""
    axe = Axe()
    found = (axe.run(page) if look.is_first else axe.run(page, options=COLOURS)).response["violations"]
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window: nobody should have to scroll sideways."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def unreachable(page: Page) -> list[str]:
    """What the Tab key does not reach, or reaches without its being seen; of a page that renews itself, when it did not."""
    for _look in range(RENEWALS):
        faults, renewed = _walk(page)
        if not renewed:
            break
    return faults


def _walk(page: Page) -> tuple[list[str], bool]:
    """One walk through the page, and whether it was renewed meanwhile: what came in something's place uses up its presses.

    What was there at its beginning and is not at its end is :data:`GONE`.
    """
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); }")
    wanted = list(page.evaluate(FIND))
    faults, reached, renewed = [], set(), False
    for _press in range(2 * len(wanted) + 5):  # a browser may begin where the focus was last, and goes round
        if reached >= set(wanted):
            break
        page.keyboard.press("Tab")
        at = page.evaluate(LOOK)
        if at is None or at["reach"] in reached:
            continue
        renewed |= at["reach"] is None  # it was not there when the walk began
        reached.add(at["reach"])
        if not at["focus"]:
            faults.append(f"its focus is not to be seen: {at['html']}")
        if not at["inside"]:
            faults.append(f"out of sight while it has the focus: {at['html']}")
    for name in wanted:
        html = page.evaluate("name => document.querySelector(`[data-reach='${name}']`)?.outerHTML.slice(0, 160)", name)
        if html is None:
            faults.append(GONE)
            renewed = True
        elif name not in reached:
            faults.append(f"the keyboard does not reach: {html}")
    return faults, renewed
