"""Notebooks sent off as batch jobs from within a session: how they go, and all the ways in which they end."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos, fill, small_disk
from hubclient import Hub, until
from kernels import Kernel, awaited, cancel_all, kernel_in, printed

WORK = 'work it\'s "quoted"'


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": list(tags)} if tags else {},
        "outputs": [],
        "source": textwrap.dedent(source).strip(),
    }


class Desk:
    """A person's folder of notebooks, written as root and theirs, and a kernel that sends them off."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.hub = kernel, kernel.hub
        self.entry = pwd.getpwnam(kernel.person)
        self.folder = Path(self.entry.pw_dir) / WORK
        self.folder.mkdir(exist_ok=True)
        os.chown(self.folder, self.entry.pw_uid, self.entry.pw_gid)
        kernel.run("import studiolo")

    def notebook(self, name: str, *cells: dict[str, Any]) -> str:
        """Write a notebook; returns its path as Python source."""
        path = self.folder / name
        path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
        os.chown(path, self.entry.pw_uid, self.entry.pw_gid)
        return repr(str(path))

    def send(self, path: str, more: str = "") -> None:
        """Send it off as ``run``."""
        self.kernel.run(f"run = studiolo.run({path}{', ' if more else ''}{more})")

    def said(self, expression: str) -> Any:
        return printed(self.kernel, expression)

    def outputs(self) -> str:
        """All text that the executed copy of ``run`` holds."""
        copy = json.loads(Path(self.said("str(run.notebook)")).read_text())
        found = []
        for one in copy["cells"]:
            for output in one.get("outputs", []):
                text = output.get("text") or output.get("data", {}).get("text/plain", "")
                found.append("".join(text))
        return "".join(found)

    def until_state(self, state: str) -> None:
        awaited(self.kernel, f"a run that is {state}", f"run.state == {state!r}")


@pytest.fixture
def at(session: Kernel) -> Iterator[Desk]:
    with kernel_in(session.hub, session.person, session.server) as fresh:
        yield Desk(fresh)


PARAMETERS = cell("epochs: int = 1  # how often\nname = 'nobody'", "parameters")


def test_a_notebook_is_run_with_its_parameters_and_what_it_records_comes_back(at: Desk) -> None:
    path = at.notebook(
        "train.ipynb",
        PARAMETERS,
        cell(
            """
            import studiolo, os
            print(epochs, name, os.getcwd(), studiolo.session().cpus, "JUPYTERHUB_API_TOKEN" in os.environ)
            studiolo.record(accuracy=0.5, by=name)
            """
        ),
        cell("studiolo.record(accuracy=epochs / 10)\nstudiolo.session().owner"),
    )
    hostile = "it's \"me\"\n'''; raise SystemExit"
    at.send(path, f"{{'epochs': 9, 'name': {hostile!r}}}, cpus=1, hours='5m'")
    assert at.said("run.wait(80).state") == "done"
    assert at.said("run.result") == {"accuracy": 0.9, "by": hostile}
    assert f"9 {hostile} {at.folder} 1 False" in at.outputs()
    assert at.said("run.link").endswith("/output.ipynb")
    # What it starts belongs to the run, and not to the session that sent it.
    assert at.said("run.id") in at.outputs()
    assert at.said("run.parameters") == {"epochs": 9, "name": hostile}
    assert hostile.splitlines()[0] in at.said("run.log()")
    # What nobody can tell on this node is no zero.
    assert at.said("[run.progress.peak > 10, run.progress.used.cpu > 0, run.progress.used.gpu]") == [True, True, None]
    assert " of 1 core; " in at.said("run.used")
    assert " of 1 core" in at.said("run._repr_html_()")
    assert at.said("[[one.idle, one.jobs] for one in studiolo.receipts(run)]") == [[None, [at.said("run.job")]]]
    assert "nbclient==" in Path(at.said("str(run.folder / 'packages.txt')")).read_text()
    # Sent again as it was kept, in one line, though the notebook is another one now.
    at.notebook("train.ipynb", cell("1 / 0"))
    assert at.said("run.again({'epochs': 3}).wait(80).result")["accuracy"] == 0.3


def test_what_can_not_be_asked_for_is_told_in_the_cell(at: Desk) -> None:
    path = at.notebook("train.ipynb", PARAMETERS)
    before = at.hub.jobs(at.kernel.person)
    assert "epochs, name" in at.kernel.fails(f"studiolo.run({path}, {{'epoch': 1}})")
    assert "cpus" in at.kernel.fails(f"studiolo.run({path}, cpus='many')")
    assert "save it first" in at.kernel.fails("studiolo.run('nothing.ipynb')")
    preview = at.kernel.run(f"studiolo.run({path}, hours=1, cpus=1, dry_run=True)").result
    assert "#SBATCH --time=0-01:00:00" in preview
    assert "CPU-hours" in preview
    assert "would start" in preview or "would wait" in preview
    assert at.hub.jobs(at.kernel.person) == before


def test_a_notebook_that_fails_says_which_cell_and_why(at: Desk) -> None:
    cells = [cell(f"print('this is cell {number}')") for number in range(1, 7)]
    at.send(at.notebook("seventh.ipynb", *cells, cell("open('nothing.csv')"), cell("print('never')")), "hours='5m'")
    told = at.kernel.fails("run.wait(80)")
    assert "Cell 7 of 8 failed with FileNotFoundError" in told
    assert "notebook's own folder" in told
    assert at.said("run.state") == "failed"
    assert "this is cell 6" in at.outputs()
    assert "never" not in at.outputs()


def test_a_cancelled_run_keeps_what_a_long_cell_has_said_until_then(at: Desk) -> None:
    at.send(at.notebook("long.ipynb", cell("import time\nfor n in range(600):\n    print('step', n); time.sleep(0.1)")))
    at.until_state("running")
    until("outputs in the middle of a cell", lambda: "step 3\n" in at.outputs())
    at.kernel.run("run.cancel()")
    assert "cancelled in cell 1 of 1" in at.kernel.fails("run.wait(80)")
    assert at.said("run.state") == "cancelled"
    assert "step 3\n" in at.outputs()
    assert "step 599\n" not in at.outputs()


def test_scancel_halfway_ends_a_run_whose_kernel_hangs_and_keeps_what_it_has_said(at: Desk) -> None:
    cells = [cell(f"print('this is cell {number}')") for number in range(1, 11)]
    hangs = "print('the kernel stops', flush=True)\nimport os, time; time.sleep(3); os.kill(os.getpid(), 19)"
    at.send(at.notebook("halfway.ipynb", *cells[:5], cell(hangs), *cells[6:]), "cpus=1, hours='10m'")
    awaited(at.kernel, "half of the cells", "run.progress is not None and run.progress.done == 5")
    until("what the hanging cell has said", lambda: "the kernel stops" in at.outputs())
    at.hub.slurm("scancel", str(at.said("run.job")))
    assert "cancelled in cell 6 of 10" in at.kernel.fails("run.wait(80)")
    assert "this is cell 5" in at.outputs()
    assert "this is cell 7" not in at.outputs()
    assert at.said("[run.state, run.progress.done, run.progress.cells]") == ["cancelled", 5, 10]


def test_a_run_goes_on_whatever_becomes_of_the_kernel_that_sent_it(at: Desk, hub: Hub) -> None:
    go = Path(f"/tmp/studiolo-test-outlives-{os.getpid()}")
    waits = cell(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)")
    found = "import studiolo; run = studiolo.runs()[0]"
    try:
        with kernel_in(hub, at.kernel.person, at.kernel.server) as kernel:
            sender = Desk(kernel)
            sender.send(sender.notebook("outlives.ipynb", waits), "cpus=1, hours='15m'")
            sender.until_state("running")
            known = sender.said("run.id")
            kernel.kill(signal.SIGSTOP)
            at.kernel.run(found)
            assert at.said("[run.id, run.state]") == [known, "running"]
            kernel.kill(signal.SIGCONT)
            kernel.kill(signal.SIGKILL)
            kernel.revived()
            kernel.run(found)
            assert sender.said("[run.id, run.state]") == [known, "running"]
        go.touch()
        assert at.said("run.wait(80).state") == "done"
    finally:
        go.unlink(missing_ok=True)


def test_a_silent_scheduler_is_told_and_nothing_is_lost_for_it(at: Desk, box: Any) -> None:
    go = Path(f"/tmp/studiolo-test-silent-{os.getpid()}")
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)"
    path = at.notebook("silent.ipynb", cell(waits))
    try:
        at.send(path, "cpus=1, hours='15m'")
        at.until_state("running")
        at.kernel.run("import asyncio; waiting = asyncio.ensure_future(run._awaited())")
        chaos = Chaos(at.hub, box)
        with chaos.mute("slurmctld"):
            assert "did not answer" in at.kernel.fails(f"studiolo.run({path}, cpus=1, hours='15m')", 120)
            awaited(at.kernel, "a word of it", "run.state == 'running' and 'does not answer' in run.why", 150)
            # What the notebook itself says is known all the same.
            assert at.said("run.progress.current") == 1
        chaos.await_slurm()
        go.touch()
        assert at.kernel.run("(await waiting).state", 150).result == "'done'"
        # Whether Slurm has taken the other one nobody knows but Slurm: it has failed in no case.
        awaited(at.kernel, "the other one", "studiolo.runs()[0].state in ('done', 'unknown')", 150)
    finally:
        go.unlink(missing_ok=True)


def test_a_closed_partition_is_told_in_the_cell_and_leaves_no_job(at: Desk) -> None:
    path = at.notebook("train.ipynb", cell("1"))
    at.hub.slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        before = at.hub.jobs(at.kernel.person)
        assert "PartitionDown" in at.kernel.fails(f"studiolo.run({path})")
        until("no job left", lambda: at.hub.jobs(at.kernel.person) == before)
    finally:
        at.hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_a_run_without_memory_says_so(at: Desk) -> None:
    eats = "held = []\nprint('before', flush=True)\nimport time; time.sleep(2)\nwhile True: held.append(bytearray(20_000_000))"
    at.send(at.notebook("hungry.ipynb", cell(eats)), "memory='300M', hours='5m'")
    assert "out of memory" in at.kernel.fails("run.wait(80)")
    assert "before" in at.outputs()


def test_a_run_is_found_again_by_another_kernel(at: Desk, hub: Hub) -> None:
    at.send(at.notebook("train.ipynb", cell("import time; time.sleep(600)")), "hours='10m'")
    at.until_state("running")
    name = at.said("run.id")
    with kernel_in(hub, at.kernel.person, at.kernel.server) as other:
        other.run("import studiolo; run = studiolo.runs()[0]")
        assert printed(other, "[run.id, run.state]") == [name, "running"]
        other.run("run.cancel()")
        assert awaited(other, "a cancelled run", "run.state == 'cancelled'")


def test_a_run_whose_folder_is_removed_while_it_runs_is_told_and_can_be_cancelled(at: Desk) -> None:
    at.send(at.notebook("train.ipynb", cell("import time; time.sleep(600)")), "cpus=1, hours='10m'")
    at.until_state("running")
    job, folder = at.said("run.job"), Path(at.said("str(run.folder)"))

    def removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # the run may write into it at the same moment
        return not folder.exists()

    until("the end of its folder", removed)
    assert at.said("[run.state, run.why]") == [
        "running",
        "Its folder was removed: what it does is lost. run.cancel() ends it.",
    ]
    assert "studiolo.run" in at.kernel.fails("run.again()")
    at.kernel.run("run.cancel()")
    until("the end of its job", lambda: job not in at.hub.jobs(at.kernel.person))
    awaited(at.kernel, "what Slurm knows of its end", "run.state == 'cancelled' and 'was removed' in run.why")


def test_a_sweep_is_one_job_array_and_a_table(at: Desk) -> None:
    path = at.notebook(
        "sweep.ipynb",
        cell("lr = 1.0\nseed = 0", "parameters"),
        cell("import studiolo\nstudiolo.record(loss=lr * (seed + 1))\nassert not (lr == 0.5 and seed == 1)"),
    )
    at.kernel.run(
        f"sweep = studiolo.sweep({path}, {{'lr': [0.5, 0.25], 'seed': range(2)}}, at_once=3, hours='5m', cpus=1)"
    )
    assert at.said("sweep.job") in at.hub.jobs(at.kernel.person)
    assert at.said("sweep.wait(160).state") == "failed"
    assert at.said("[run.state for run in sweep]") == ["done", "failed", "done", "done"]
    assert "3 done, 1 failed. Run 1: Cell 2 of 2 failed with AssertionError" in at.said("sweep.why")
    table = at.said("sweep.table().drop(columns=['why', 'notebook', 'hours', 'gpu_hours']).values.tolist()")
    assert table == [[0.5, 0, 0.5, "done"], [0.5, 1, 1.0, "failed"], [0.25, 0, 0.25, "done"], [0.25, 1, 0.5, "done"]]
    assert at.said("(sweep.table()['hours'] > 0).all().item()")
    assert at.said("[sweep.plot().get_xlabel(), sweep.plot().get_ylabel()]") == ["lr", "loss"]
    # Found again as what it is; a single run of it is one like any other.
    assert at.said("[type(studiolo.runs()[0]).__name__, len(studiolo.runs()[0])]") == ["Sweep", 4]
    assert at.said("sweep[3].result") == {"loss": 0.5}


def test_a_sweep_is_cancelled_as_a_whole_or_one_run_at_a_time(at: Desk) -> None:
    path = at.notebook("wait.ipynb", cell("n = 0", "parameters"), cell("import time; time.sleep(600)"))
    at.kernel.run(f"sweep = studiolo.sweep({path}, {{'n': range(3)}}, at_once=1, hours='15m', cpus=1)")
    awaited(at.kernel, "a running run", "[run.state for run in sweep] == ['running', 'waiting', 'waiting']")
    at.kernel.run("sweep[2].cancel()")
    awaited(at.kernel, "a cancelled run that waited", "sweep[2].state == 'cancelled'")
    assert at.said("sweep[0].state") == "running"
    at.kernel.run("sweep.cancel()")
    awaited(at.kernel, "the end of all", "[run.state for run in sweep] == ['cancelled'] * 3")
    assert at.said("sweep.state") == "cancelled"


TEN = """
from studiolo.desk import desk
async def ten():
    return 10
for client in desk().slurm.values():
    client.most_tasks = ten
"""


def test_a_sweep_of_more_runs_than_slurm_takes_in_one_array_is_one_sweep_all_the_same(at: Desk, hub: Hub) -> None:
    asked = "import studiolo.desk as d; [d.desk().do(c.most_tasks()) for c in d.desk().slurm.values()][0]"
    configured = at.hub.slurm("scontrol", "show", "config")
    assert f"MaxArraySize            = {at.kernel.run(asked).result}\n" in configured
    at.kernel.run(TEN)
    more = "cpus=1, memory='500M', hours='5m', account='fast-lane'"
    at.kernel.run(f"calls = studiolo.map(lambda n: print('called with', n) or n * n, range(12), at_once=4, {more})")
    assert at.said("calls.jobs") == sorted(at.said("list({call.job for call in calls})"))
    assert at.said("len(calls.jobs)") == 2
    assert at.said("calls.results(170)") == [n * n for n in range(12)]
    assert "called with 11" in at.said("calls[11].log()")
    at.kernel.run(f"calls = studiolo.map(lambda n: __import__('time').sleep(600), range(12), at_once=1, {more})")
    awaited(at.kernel, "the first call", "calls[0].state == 'running'")
    awaited(at.kernel, "the last one's reason", "calls[11].state == 'waiting' and calls[11].why != ''")
    with kernel_in(hub, at.kernel.person, at.kernel.server) as other:
        other.run("import studiolo; found = studiolo.runs()[0]")
        assert printed(other, "[found.state, len(found), len(found.jobs)]") == ["running", 12, 2]
        other.run("found.cancel()")
    awaited(at.kernel, "the end of all", "{call.state for call in calls} == {'cancelled'}")
    assert at.said("calls.table()['state'].unique().tolist()") == ["cancelled"]
    jobs = set(at.said("calls.jobs"))
    until("nothing in the queue", lambda: not jobs & set(at.hub.jobs(at.kernel.person)))


def test_a_kernel_that_dies_is_told_with_its_cell(at: Desk) -> None:
    at.send(
        at.notebook(
            "dies.ipynb", cell("1"), cell("print('last words', flush=True); import os; os.kill(os.getpid(), 9)")
        )
    )
    assert "kernel died in cell 2 of 2" in at.kernel.fails("run.wait(80)")
    assert at.said("run.state") == "failed"


def test_a_rehearsal_that_fails_keeps_the_run_from_waiting_in_vain(at: Desk) -> None:
    path = at.notebook(
        "missing.ipynb", cell("rehearsal = False", "parameters"), cell("assert not rehearsal, 'a file is missing'")
    )
    at.send(path, "rehearse=True, hours='20m'")
    assert "rehearsal" in at.kernel.fails("run.wait(85)")
    assert at.said("run.rehearsal.state") == "failed"
    assert "a file is missing" in at.said("run.rehearsal.why")


def test_a_run_whose_time_is_over_goes_on_from_its_checkpoint(at: Desk) -> None:
    path = at.notebook(
        "long.ipynb",
        cell(
            """
            import studiolo, time
            saved = studiolo.checkpoint()
            place = saved.folder / "step"
            step = int(place.read_text()) if saved.resumed else 0
            print("begins at", step, flush=True)
            while not saved.resumed:
                step += 1
                time.sleep(0.1)
                if saved.requested:
                    place.write_text(str(step))
                    saved.leave()
            studiolo.record(steps=step)
            """
        ),
    )
    at.send(path, "resume=True, minutes=2, cpus=1")  # the end is near from the first moment on
    awaited(
        at.kernel,
        "a run that waits to go on",
        "run.state == 'waiting' and 'goes on from its checkpoint' in run.why",
        150,
    )
    # Slurm itself holds a job that was put back for two minutes.
    if at.hub.slurm("squeue", "-h", "-t", "PENDING", "-j", str(at.said("run.job"))).strip():
        at.hub.slurm("scontrol", "update", f"JobId={at.said('run.job')}", "StartTime=now")
    awaited(at.kernel, "the end of the second attempt", "run.state == 'done'", 150)
    assert at.said("run.result")["steps"] > 0
    assert at.said("run.progress.attempt") == 2
    assert at.said("run.progress.earlier") > 0
    assert (Path(at.said("str(run.folder)")) / "output-1.ipynb").exists()
    assert "begins at 0" in at.said("run.log()")


def test_a_full_home_ends_no_notebook_that_computes_and_leaves_no_half_files(at: Desk, tmp_path: Path) -> None:
    go = Path(f"/tmp/studiolo-test-go-{os.getpid()}")
    home = Path(at.entry.pw_dir)
    with small_disk(home, 2 << 20):
        at.folder.mkdir()
        os.chown(at.folder, at.entry.pw_uid, at.entry.pw_gid)
        waits = f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)"
        path = at.notebook("waits.ipynb", cell(waits), cell("import studiolo; studiolo.record(acc=1)"))
        at.send(path, "cpus=1, hours='10m'")
        at.until_state("running")
        until("outputs so far", lambda: "begun" in at.outputs())
        job, folder = at.said("run.job"), Path(at.said("str(run.folder)"))
        fill(home / "data")
        try:
            assert "Make room in your home" in at.kernel.fails(f"studiolo.run({path})")
            go.touch()
            until("the end of the job", lambda: job not in at.hub.jobs(at.kernel.person))
            awaited(at.kernel, "a run that is done", "run.state == 'done'")
            assert "make room" in at.said("run.why")
            assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []
            assert [file.name for file in folder.parent.iterdir() if file.name.startswith(".")] == []
            assert json.loads((folder / "output.ipynb").read_text())["cells"]
        finally:
            go.unlink(missing_ok=True)


def test_a_function_is_called_for_many_items_on_the_cluster(at: Desk) -> None:
    at.kernel.run(
        """
        import os
        def square(item):
            if item == "bad":
                raise ValueError("a bad item")
            return item * item, os.environ["SLURM_ARRAY_TASK_ID"], "JUPYTERHUB_API_TOKEN" in os.environ
        calls = studiolo.map(square, [3, 4, "bad"], hours="5m", cpus=1)
        """.replace("\n        ", "\n")
    )
    assert "Call 3 of 3: square failed with ValueError: a bad item" in at.kernel.fails("calls.results()")
    assert at.said("[calls._value(0), calls._value(1)]") == [[9, "0", False], [16, "1", False]]
    assert "a bad item" in at.said("calls[2].log()")
    assert at.said("min(call.progress.peak for call in calls)") > 0
    assert at.said("type(studiolo.runs()[0]).__name__") == "Calls"


def test_a_cell_is_sent_off_by_a_magic_and_its_variables_come_back(at: Desk) -> None:
    at.kernel.run("%load_ext studiolo\ndata = [1, 2, 3]")
    at.kernel.run("%%run_batch --hours 5m --cpus 1 -i data -o total\ntotal = sum(data)\nprint('the sum is', total)")
    at.kernel.run("run = _")
    assert at.said("run.variables()") == {"total": 6}
    assert "the sum is 6" in at.outputs()
    path = at.notebook("named.ipynb", cell("n = 1", "parameters"), cell("import studiolo; studiolo.record(n=n)"))
    at.kernel.run(f"import shlex; line = shlex.quote({path}) + ' n=5 --hours 5m'")
    at.kernel.run("run = get_ipython().run_line_magic('run_batch', line)")
    assert at.said("run.wait(80).result") == {"n": 5}


def test_a_run_can_be_awaited_in_a_cell(at: Desk) -> None:
    at.send(at.notebook("train.ipynb", cell("import studiolo; studiolo.record(a=1)")), "hours='5m'")
    assert "1" in at.kernel.run("(await run).result['a']").result


def test_a_run_outlives_its_session_and_is_found_from_the_next_one(hub: Hub, person: Callable[..., str]) -> None:
    name = person("company")
    try:
        assert hub.start(name, {"profile": "learn"}).status_code == 202
        hub.ready(name)
        with kernel_in(hub, name) as first:
            at = Desk(first)
            waits = cell("print('begun', flush=True)\nimport time; time.sleep(600)")
            at.send(at.notebook("waits.ipynb", waits), "hours='15m', cpus=1")
            at.until_state("running")
            known, job = at.said("run.id"), at.said("run.job")
        hub.stop(name)
        assert hub.jobs(name) == [job]
        assert hub.start(name, {"profile": "learn"}).status_code == 202
        hub.ready(name)
        with kernel_in(hub, name) as second:
            second.run("import studiolo; run = studiolo.runs()[0]")
            assert printed(second, "[run.id, run.state]") == [known, "running"]
            second.run("run.cancel()")
            awaited(second, "a cancelled run", "run.state == 'cancelled'")
    finally:
        if hub.server(name):
            hub.stop(name)
        cancel_all(hub, name)


def test_a_budget_that_is_used_up_is_told_in_the_cell_and_leaves_nothing(at: Desk) -> None:
    path = at.notebook("train.ipynb", cell("1"))
    modify = ("sacctmgr", "-i", "modify", "user", "where", f"name={at.kernel.person}", "set")
    before, known = at.hub.jobs(at.kernel.person), at.said("len(studiolo.runs())")
    at.hub.slurm(*modify, "GrpTRESMins=cpu=0")
    try:
        assert "used up" in at.kernel.fails(f"studiolo.run({path})")
        until("no job left", lambda: at.hub.jobs(at.kernel.person) == before)
        assert at.said("len(studiolo.runs())") == known
    finally:
        at.hub.slurm(*modify, "GrpTRESMins=cpu=-1")


def test_a_run_has_a_dask_cluster_of_its_own_which_ends_with_it(at: Desk) -> None:
    work = """
    import studiolo
    from distributed import Client
    cluster = studiolo.cluster(workers=1, profile="learn")
    studiolo.record(answer=Client(cluster).submit(lambda: 6 * 7).result(timeout=80))
    """
    before = at.hub.jobs(at.kernel.person)
    at.send(at.notebook("dask.ipynb", cell(work)), "hours='10m'")
    at.kernel.run("run.wait(120)", 130)
    assert at.said("run.result") == {"answer": 42}
    until("the end of its workers", lambda: at.hub.jobs(at.kernel.person) == before)
