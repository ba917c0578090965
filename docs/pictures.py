"""Pictures of every page, taken from the running product: ``make docs`` calls this with a platform that is up.

Each page as a person comes to it (tests/support/scenes.py), in light and in dark, and the start page in each language.
Where platforms differ the pictures do not: people's names, folders and job numbers are always the same ones.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from hubclient import Hub
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pages import log_in
from playwright.sync_api import Browser, Page, expect, sync_playwright
from scenes import SCENES, Scene, dask, lab, session

__all__ = ["PICTURES", "Picture"]

IMAGES = Path(__file__).parent / "images"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZE = {"width": 1100, "height": 640}
NARROW = {"width": 390, "height": 780}
VISITOR = 4
TRAINING = "train.ipynb"
CELL = "import studiolo\nstudiolo.session()"
CLUSTER = """import studiolo
cluster = studiolo.cluster(workers=2, cpus=1, memory="1G")
cluster.wait_for_workers(2)
studiolo.panel()"""
DRAWN = """() => [...(window.Bokeh?.documents[0]?._all_models?.values() ?? [])].some(
  (model) => model.type == "ColumnDataSource" && model.get_length() > 30)"""
CATALOGUE = """import studiolo
zones = studiolo.data.load("time-zones")
print(zones.shape)
studiolo.data.list()"""
SENT = """import studiolo
print(studiolo.run("train.ipynb", {"epochs": 900}).state)"""
PARAMETERS = "epochs = 20  # how often the data is seen\nlearning_rate = 1e-3\nname = 'first'  # what to call the model"
# What differs from one embedded cluster to the next: the ends of people's names, its folder, the first job's number.
NEUTRAL = """([name, state]) => {
  const short = name.replace(/-[^-]*$/, "");
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const told = walk.currentNode.nodeValue.replaceAll(state, "/var/lib/studiolo").replaceAll(name, short);
    const runs = told.split(/\\b\\d{8}-\\d{6}-\\w{4}\\b/);
    walk.currentNode.nodeValue = runs.map((part) => part.replace(/(?<![.\\d])\\d{6,9}\\b/g, "4711")).join("20261122-154501-k3f9");
  }
}"""


@dataclass(frozen=True)
class Picture:
    """One file of docs/images: a scene, and how it is looked at."""

    scene: str
    scheme: str = "light"
    locale: str = "en-GB"
    narrow: bool = False

    @property
    def name(self) -> str:
        """The file's name: ``start.png``, ``start-dark.png``, ``start-fr.png``, ``start-narrow.png``."""
        more = [self.locale[:2] if self.locale[:2] != "en" else "", "dark" if self.scheme == "dark" else ""]
        return "-".join(filter(None, [self.scene, *more, "narrow" if self.narrow else ""])) + ".png"


PICTURES = (
    *(Picture(name, scheme) for name in SCENES for scheme in ("light", "dark")),
    Picture("notebook"),
    Picture("countdown"),
    Picture("batch-form"),
    Picture("panel"),
    Picture("dask"),
    Picture("catalogue"),
    *(Picture("queue", scheme) for scheme in ("light", "dark")),
    *(Picture(name, narrow=True) for name in ("start", "waiting", "running")),
    *(Picture(name, locale=locale) for name in ("start", "waiting") for locale in ("fr-LU", "de-LU")),
)


def notebook(page: Page, access: Mapping[str, Any], name: str) -> None:
    """A cell has run in JupyterLab, on a node."""
    lab(page, access, name)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.type(CELL)
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text("partition='cpu'")


def short(hub: Hub, name: str) -> AbstractContextManager[None]:
    """A session that ends soon."""
    return session(hub, name, minutes=9)


@contextmanager
def sending(hub: Hub, name: str) -> Iterator[None]:
    """A session from which something is sent that outlives it."""
    with session(hub, name):
        own = set(hub.jobs(name))
        try:
            yield
        finally:
            for job in set(hub.jobs(name)) - own:
                hub.slurm("scancel", str(job))


def countdown(page: Page, access: Mapping[str, Any], name: str) -> None:
    """JupyterLab says that the session ends soon."""
    notebook(page, access, name)
    expect(page.get_by_text("This session ends at ")).to_be_visible()


def batch_form(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The form of "Run as Batch Job", with what the notebook's parameters are and what the run would cost."""
    write_notebook(name)
    page.goto(f"{access['url']}user/{name}/lab/tree/{TRAINING}")
    expect(page.get_by_text("| Idle")).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run as Batch Job").click()
    form = page.get_by_role("form", name=TRAINING)
    form.get_by_label("epochs").fill("40")
    expect(form.get_by_text("It would start now.")).to_be_visible()


def write_notebook(name: str) -> None:
    """A notebook with parameters in somebody's home."""
    account = pwd.getpwnam(name)
    cells = [
        new_markdown_cell("# Train"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("import time\nfor epoch in range(epochs):\n    print(name, 'epoch', epoch)\n    time.sleep(0.5)"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    path = Path(account.pw_dir) / TRAINING
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    os.chown(path, account.pw_uid, account.pw_gid)


def panel(page: Page, access: Mapping[str, Any], name: str) -> None:
    """A Dask cluster of two workers, and the panel that shows it beside the session."""
    lab(page, access, name)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(CLUSTER)
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_text("2 of 2 workers run")).to_be_visible()


def task_stream(page: Page, access: Mapping[str, Any], name: str) -> None:
    """Dask's own picture of what a notebook's workers do, in a pane of JupyterLab's."""
    dask(page, access, name, "Task Stream")
    pane = page.locator("iframe[src*='task-stream']").element_handle().content_frame()
    assert pane is not None
    pane.wait_for_function(DRAWN)


def catalogue(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The site's data sets as a table in a notebook."""
    lab(page, access, name)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(CATALOGUE)
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").get_by_text("time-zones", exact=True)).to_be_visible()


def queue(page: Page, access: Mapping[str, Any], name: str) -> None:
    """The home page with a batch run below the session."""
    write_notebook(name)
    lab(page, access, name)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.locator(".jp-NotebookPanel .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(SENT)
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text("ing")
    page.goto(f"{access['url']}hub/home")
    expect(page.locator("#studiolo-home .studiolo-jobs").get_by_text("Running", exact=False)).to_be_visible()


STAGED: Mapping[str, Scene] = {
    **SCENES,
    "notebook": Scene(notebook, session),
    "countdown": Scene(countdown, short),
    "batch-form": Scene(batch_form, session),
    "panel": Scene(panel, session),
    "dask": Scene(task_stream, session),
    "catalogue": Scene(catalogue, session),
    "queue": Scene(queue, sending),
}
IN_JUPYTERLAB = ("notebook", "countdown", "batch-form", "panel", "dask", "catalogue")


def show(page: Page, picture: Picture) -> None:
    """Bring the window into the picture's shape, high enough for the whole page: what sticks to its end is there too."""
    size = NARROW if picture.narrow else SIZE
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=picture.scheme)  # type: ignore[arg-type]
    page.evaluate("() => { document.activeElement?.blur(); return document.fonts.ready.then(() => true); }")
    if picture.scene == "running":  # a session tells what it uses every now and then
        expect(page.get_by_text("no figure", exact=True)).to_have_count(0)
    if picture.scene not in IN_JUPYTERLAB:
        height = page.evaluate("() => document.documentElement.scrollHeight")
        page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})


def take(browser: Browser, access: Mapping[str, Any], hub: Hub, group: list[Picture]) -> None:
    """Come to a scene once and take all its pictures in one language."""
    first = group[0]
    context = browser.new_context(
        locale=first.locale, timezone_id="Europe/Luxembourg", viewport=SIZE, reduced_motion="reduce"
    )  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    try:
        page = context.new_page()
        name = str(access["users"][VISITOR]["name"])
        scene = STAGED[first.scene]
        if not scene.stranger:
            log_in(page, access, VISITOR, "hub/home")
        scene.come(page, access, name)
        for picture in group:
            show(page, picture)
            page.evaluate(NEUTRAL, [name, str(hub.state)])
            page.screenshot(path=str(IMAGES / picture.name), animations="disabled", caret="hide")
            print(f"docs/images/{picture.name}")
    finally:
        context.close()


def main() -> int:
    """Take all pictures; those that no page shows any more are removed."""
    from slurmbox.instance import load

    state = Path(os.environ["STUDIOLO_STATE"])
    access = json.loads((state / "access.json").read_text(encoding="utf-8"))
    hub = Hub(access["url"], access["hub_api_token"], state, load(state).slurm_conf)
    expect.set_options(timeout=60_000)
    groups: dict[tuple[str, str], list[Picture]] = {}
    for picture in PICTURES:
        groups.setdefault((picture.scene, picture.locale), []).append(picture)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        for stage in dict.fromkeys(scene.stage for scene in STAGED.values()):
            with stage(hub, str(access["users"][VISITOR]["name"])):
                for (title, _locale), group in groups.items():
                    if STAGED[title].stage is stage:
                        take(browser, access, hub, group)
        browser.close()
    for left in {file.name for file in IMAGES.glob("*.png")} - {picture.name for picture in PICTURES}:
        (IMAGES / left).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
