"""What sessions use: read on the node, reported to the hub, told by accounting; and what follows from it."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawners import reporter as reports
from spawners.reporter import Reporter, read_answer
from spawners.rightsize import LookBack, Used, asked_of, record
from spawners.usage import Usage, learn, next_report, report_of
from studiolo.errors import SlurmUnavailable
from studiolo.meter import Meter, Totals, parse_gpus, share
from studiolo.request import check
from studiolo.rightsize import advice, smaller
from studiolo.site import Site
from studiolo.slurm.usage import JobUsage, parse_rest_usage, parse_usage

HOUR = 3600

# --- On the node -----------------------------------------------------------------------------------------------------


def node(folder: Path, cgroup: str, **files: str) -> Path:
    """A root with ``/proc/self/cgroup`` and files below ``/sys/fs/cgroup`` (``__`` for a slash)."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name.replace("__", "/").replace("--", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def process(
    folder: Path, pid: int, environ: str, ticks: tuple[int, int, int, int], pages: int, name: str = "x"
) -> None:
    place = folder / "proc" / str(pid)
    place.mkdir(parents=True)
    (place / "environ").write_bytes(environ.replace(" ", "\0").encode())
    fields = ["S", *["0"] * 10, *map(str, ticks), *["0"] * 6, str(pages), "0"]
    (place / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


def test_the_job_s_own_group_is_read_in_version_2(tmp_path: Path) -> None:
    root = node(
        tmp_path,
        "0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0\n",
        **{
            "system--slice__slurmstepd--scope__job_7__cpu--stat": "usage_usec 2500000\nuser_usec 1\n",
            "system--slice__slurmstepd--scope__job_7__memory--current": f"{300 << 20}\n",
            "system--slice__slurmstepd--scope__job_7__memory--stat": f"anon 5\ninactive_file {100 << 20}\n",
        },
    )
    totals = Meter({"SLURM_JOB_ID": "7"}, root).totals()
    assert (totals.cpu_seconds, totals.memory_mb) == (2.5, 200)


def test_the_job_s_own_group_is_read_in_version_1(tmp_path: Path) -> None:
    root = node(
        tmp_path,
        "9:name=systemd:/\n4:memory:/slurm/uid_5/job_7/step_batch/task_0\n3:cpu,cpuacct:/slurm/uid_5/job_7/step_batch\n",
        **{
            "memory__slurm__uid_5__job_7__memory--usage_in_bytes": f"{64 << 20}\n",
            "cpu,cpuacct__slurm__uid_5__job_7__cpuacct--usage": "1500000000\n",
        },
    )
    totals = Meter({"SLURM_JOB_ID": "7"}, root).totals()
    assert (totals.cpu_seconds, totals.memory_mb) == (1.5, 64)


@pytest.mark.parametrize(
    "cgroup", ["", "0::/\n", "0::/job_77/x\n", "0::/a/../job_7/x\n", "rubbish\n", "0::/slurm/job_8\n"]
)
def test_a_group_that_is_not_the_job_s_is_none_of_ours(tmp_path: Path, cgroup: str) -> None:
    root = node(tmp_path, cgroup, **{"job_77__memory--current": "1048576", "slurm__job_8__memory--current": "1048576"})
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    process(tmp_path, 10, "A=1 SLURM_JOB_ID=7", (tick, tick, 3 * tick, 0), (8 << 20) // page, name="a) b (c")
    process(tmp_path, 11, "SLURM_JOB_ID=77", (9 * tick, 0, 0, 0), 1000)
    totals = Meter({"SLURM_JOB_ID": "7"}, root).totals()
    assert (totals.cpu_seconds, totals.memory_mb) == (5.0, 8)


def test_outside_a_job_there_is_no_figure(tmp_path: Path) -> None:
    totals = Meter({}, node(tmp_path, "0::/\n")).totals()
    assert (totals.cpu_seconds, totals.memory_mb) == (None, None)


def test_this_very_process_can_be_measured() -> None:
    totals = Meter({"SLURM_JOB_ID": "0"}).totals()
    assert totals.cpu_seconds == 0, "no process of that job"


@pytest.mark.parametrize(
    ("last", "now", "cpus", "expected"),
    [
        (None, Totals(10, 5.0, 1), 2, None),
        (Totals(0, 0.0, 1), Totals(10, 5.0, 1), 2, 0.25),
        (Totals(0, 0.0, 1), Totals(10, 50.0, 1), 2, 1.0),
        (Totals(0, 9.0, 1), Totals(10, 5.0, 1), 2, 0.0),  # a program has ended that nobody waited for
        (Totals(0, None, 1), Totals(10, 5.0, 1), 2, None),
        (Totals(10, 1.0, 1), Totals(10, 5.0, 1), 2, None),
    ],
)
def test_the_use_of_cpus_is_between_two_readings(last: Totals | None, now: Totals, cpus: int, expected: object) -> None:
    assert share(last, now, cpus) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("37\n", 0.37),
        ("0\n100\n", 0.5),
        ("", None),
        ("[N/A]\n", None),
        ("3\n[N/A]\n", None),
        ("-1\n", None),
        ("400", 1.0),
    ],
)
def test_nvidia_smi_is_read_where_it_has_a_figure(output: str, expected: float | None) -> None:
    assert parse_gpus(output) == expected


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, "0,2"),
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_SHARDS_ON_NODE": "1"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0; rm -rf ~"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "--help\n"}, ""),
        ({}, ""),
    ],
)
def test_only_whole_gpus_of_one_s_own_are_asked(environ: dict[str, str], devices: str) -> None:
    assert Meter(environ).devices == devices


def test_the_gpus_are_asked_of_nvidia_smi(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.add("nvidia-smi", out="20\n40\n")
    monkeypatch.setenv("PATH", f"{programs.folder}:{os.environ['PATH']}")
    assert asyncio.run(Meter({"CUDA_VISIBLE_DEVICES": "0,1"}).gpu()) == pytest.approx(0.3)
    (call,) = programs.called("nvidia-smi")
    assert call.argv[1:3] == ["-i", "0,1"]
    programs.add("nvidia-smi", out="20\n", status=9)
    assert asyncio.run(Meter({"CUDA_VISIBLE_DEVICES": "0"}).gpu()) is None


class Still(Meter):
    """A meter that reads the same at each time, and needs no thread."""

    async def report(self) -> dict[str, float | int | None]:
        return {"cpu": 0.5, "memory_mb": 10, "gpu": None}


def test_the_hub_s_answer_is_the_end_and_the_pause() -> None:
    sent: list[object] = []

    def send(report: dict[str, Any]) -> object:
        sent.append(report)
        return {"ends": 5000, "pause": 20}

    reporter = Reporter(Still({}), send)
    assert asyncio.run(reporter.once()) == 20
    assert reporter.ends == 5000
    assert sent == [{"cpu": 0.5, "memory_mb": 10, "gpu": None}]


@pytest.mark.parametrize("failure", [OSError("away"), ValueError("no JSON"), None])
def test_a_hub_that_does_not_answer_is_told_later_and_the_end_is_kept(failure: Exception | None) -> None:
    def send(_report: dict[str, Any]) -> object:
        if failure:
            raise failure
        return ["nonsense"]

    reporter = Reporter(Still({}), send)
    reporter.ends = 7
    assert asyncio.run(reporter.once()) == reports.PAUSE_SECONDS
    assert reporter.ends == 7


def test_a_hub_that_does_not_know_the_end_takes_nothing_back() -> None:
    reporter = Reporter(Still({}), lambda _report: {"ends": None, "pause": 60})
    reporter.ends = 5000
    assert asyncio.run(reporter.once()) == 60
    assert reporter.ends == 5000


@pytest.mark.parametrize("answer", [None, [], {}, {"ends": "1", "pause": 3}, {"ends": True, "pause": 3}, {"ends": 1}])
def test_any_other_answer_is_none(answer: object) -> None:
    with pytest.raises(ValueError, match=r"no (object|end)"):
        read_answer(answer)


@pytest.mark.parametrize(("pause", "kept"), [(0, 5), (20, 20), (1e9, 3600), (-3, 5)])
def test_a_pause_is_never_too_short_or_too_long(pause: float, kept: float) -> None:
    assert read_answer({"ends": None, "pause": pause}) == (None, kept)


# --- At the hub ------------------------------------------------------------------------------------------------------


def test_the_most_of_all_reports_is_kept() -> None:
    first = learn(None, 0.9, 100, None, 1.0)
    second = learn(first, None, 50, 0.2, 2.0)
    third = learn(second, 0.1, 70, 0.1, 3.0)
    assert third == Usage(
        3.0, 0.1, 70, 0.1, most_cpu=0.9, most_memory_mb=100, most_gpu=0.2, gpu_looks=1, gpu_looked=third.gpu_looked
    )


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_a_report_is_a_figure_in_bounds_or_refused(value: object) -> None:
    for field in ("cpu", "memory_mb", "gpu"):
        try:
            read = report_of({"cpu": None, "memory_mb": None, "gpu": None, field: value})
        except ValueError as error:
            assert field in str(error)
            continue
        figure = next((one for one in read if one is not None), 0)
        assert math.isfinite(figure)
        assert figure >= 0


@pytest.mark.parametrize(
    ("left", "looked_ago", "pause"),
    [
        (None, 1e9, 300),
        (2 * HOUR, 1e9, 300),
        (2 * HOUR, 10, 20),
        (35 * 60, 1e9, 60),
        (35 * 60, 10, 20),
        (100, 10, 15),
        (-5, 1e9, 15),
    ],
)
def test_reports_are_rare_unless_somebody_looks_or_the_end_is_near(
    left: float | None, looked_ago: float, pause: int
) -> None:
    now = 1e9
    assert next_report(now, None if left is None else int(now + left), now - looked_ago) == pause


# --- By accounting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", {}),
        ("7|RUNNING|5|00:00:00||\n", {}),
        ("7|COMPLETED|5|00:01.5||\n7.batch|RUNNING|5|00:01.5||\n", {}),
        ("7|TIMEOUT|90000|1-01:00:00||\n7.batch|CANCELLED|90000|1-01:00:00|2048K|cpu=1,gres/gpuutil=40\n",
         {7: JobUsage(7, 90000, 90000.0, 2, 0.4)}),
        ("7|CANCELLED by 5|0|00:00:00||\n", {7: JobUsage(7, 0, 0.0)}),
        ("7|OUT_OF_MEMORY|5|INVALID|1.5G|\n", {7: JobUsage(7, 5, None, 1536)}),
        ("7|FAILED|x|01:02:03||\n", {7: JobUsage(7, 0, 3723.0)}),
    ],
)  # fmt: skip
def test_what_is_not_over_is_left_out(output: str, expected: dict[int, JobUsage]) -> None:
    assert parse_usage(output) == expected


@pytest.mark.parametrize("output", ["7|COMPLETED|5\n", "x|COMPLETED|5|00:00||\n"])
def test_half_an_answer_is_none(output: str) -> None:
    with pytest.raises(ValueError, match=r"half|invalid"):
        parse_usage(output)


def test_slurmrestd_tells_the_same() -> None:
    def step(seconds: int, held: int) -> dict[str, Any]:
        most = [{"type": "cpu", "count": 5}, {"type": "mem", "count": held}]
        return {"time": {"total": {"seconds": seconds, "microseconds": 500_000}}, "tres": {"requested": {"max": most}}}

    over = {
        "job_id": 7,
        "state": {"current": ["COMPLETED"]},
        "time": {"elapsed": 60},
        "steps": [step(2, 9 << 20), step(1, 1 << 20)],
    }
    runs = {"job_id": 8, "state": {"current": "RUNNING"}, "time": {"elapsed": 60}, "steps": []}
    bare = {
        "job_id": 9,
        "state": {"current": "FAILED"},
        "time": {"elapsed": {"set": True, "infinite": False, "number": 5}},
    }
    assert parse_rest_usage({"jobs": [over, runs, bare]}) == {
        7: JobUsage(7, 60, 4.0, 9),
        9: JobUsage(9, 5),
    }


# --- The smaller request ---------------------------------------------------------------------------------------------

ASKED = {"cpus": 8, "memory_mb": 64 * 1024, "gpus": 1, "shards": 0, "minutes": 480}


def used(**figures: object) -> dict[str, Any]:
    return Used(**{"seconds": 7200, **figures}).as_json()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "less"),
    [
        ({"seconds": 300, "cpus": 0.1, "memory_mb": 100}, {}),
        ({"seconds": 8 * HOUR, "cpus": 6.0, "memory_mb": 40 * 1024, "mean_gpu": 0.5}, {}),
        ({"seconds": 8 * HOUR}, {}),
        ({"seconds": 8 * HOUR, "cpus": 0.4}, {"cpus": 1}),
        ({"seconds": 8 * HOUR, "cpus": 0.4, "most_cpus": 3.2}, {"cpus": 4}),
        ({"seconds": 8 * HOUR, "cpus": 0.4, "most_cpus": 7.0}, {}),
        ({"seconds": 8 * HOUR, "memory_mb": 3000}, {"memory": 4096}),
        ({"seconds": 2 * HOUR}, {"minutes": 180}),
        ({"seconds": 8 * HOUR, "mean_gpu": 0.0}, {"gpus": 0}),
        ({"seconds": 8 * HOUR, "most_gpu": 0.0}, {"gpus": 0}),
        ({"seconds": 8 * HOUR, "mean_gpu": 0.01, "most_gpu": 0.9}, {}),
        ({"seconds": 8 * HOUR, "mean_gpu": None}, {}),
    ],
)
def test_the_smaller_request_is_told_where_half_would_have_done(figures: dict[str, Any], less: dict[str, int]) -> None:
    assert smaller(ASKED, used(**figures)) == less
    assert bool(advice(less)) == bool(less)


@given(
    st.integers(1, 64), st.integers(1, 1 << 20), st.integers(1, 10_000),
    st.integers(0, 10**6), st.none() | st.floats(0, 64), st.none() | st.integers(0, 1 << 20),
)  # fmt: skip
def test_a_smaller_request_is_smaller_and_holds_what_was_used(
    cpus: int, memory: int, minutes: int, seconds: int, mean: float | None, held: int | None
) -> None:
    asked = {"cpus": cpus, "memory_mb": memory, "gpus": 0, "shards": 0, "minutes": minutes}
    less = smaller(asked, Used(seconds, mean, None, held).as_json())
    assert less.get("cpus", 0) < cpus
    assert less.get("cpus", 65) >= math.floor(mean or 0)
    assert less.get("memory", 0) < memory
    assert less.get("memory", 1 << 30) >= (held or 0)
    assert less.get("minutes", 0) < minutes
    assert less.get("minutes", 10**6) * 60 >= min(seconds, 60 * 10**6)


def looked(times: int, apart: float, use: float | None = 0.0) -> Usage | None:
    """What the hub knows after so many reports of that use."""
    seen = None
    for number in range(times):
        seen = learn(seen, 0.5, 100, use, NOW + number * apart)
    return seen


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("seen", "hours", "advised"),
    [
        (looked(96, 300), 8, True),
        (looked(94, 306), 8, True),  # a slow node
        (looked(24, 300), 2, True),
        (looked(24, 300), 8, False),  # the hub was restarted, and knows the last two hours alone
        (looked(19, 300), 1, False),
        (looked(2, 300), 0.2, False),
        (looked(360, 20), 8, False),  # two hours with a page open
        (looked(96, 300, 0.05), 8, False),
        (looked(96, 300, None), 8, False),
        (None, 8, False),
    ],
    ids=["all", "slow", "short", "restarted", "few", "two", "bunched", "used", "no figure", "none"],
)
def test_no_gpu_is_advised_of_looks_only_where_they_cover_the_session(
    seen: Usage | None, hours: float, advised: bool
) -> None:
    used = Used.found(JobUsage(7, int(hours * HOUR)), seen, 8).as_json()
    assert ("gpus" in smaller(ASKED, used)) == advised


@pytest.mark.parametrize(
    ("mean", "seen", "advised"),
    [
        (0.0, None, True),
        (0.0, looked(2, 300), True),
        (0.01, None, False),
        (0.4, looked(96, 300), False),
        (0.0, looked(1, 300, 0.9), False),
    ],  # fmt: skip,
)
def test_accounting_s_word_on_gpus_needs_no_looks_though_one_may_speak_against_it(
    mean: float, seen: Usage | None, advised: bool
) -> None:
    used = Used.found(JobUsage(7, HOUR, gpu=mean), seen, 8).as_json()
    assert ("gpus" in smaller(ASKED, used)) == advised


def test_advice_names_each_field() -> None:
    words = advice({"gpus": 0, "cpus": 2, "memory": 4096, "minutes": 90})
    assert (
        words
        == "Less would have done (no GPU, CPUs: 2, memory: 4 GB, time: 1 h 30 min): it starts sooner, and costs less."
    )


def test_what_is_kept_is_plain_json(site: Site) -> None:
    request = check({"profile": next(iter(site.profiles))}, site)
    told = Used.found(JobUsage(7, 100, 50.0, 900, None), learn(None, 0.9, 1200, None, 1.0), request.cpus)
    assert told.memory_mb == 1200
    assert told.most_cpus == pytest.approx(0.9 * request.cpus)
    kept = record("x", {"profile": request.profile, "odd": object()}, request, told, 5.5)
    assert json.loads(json.dumps(kept)) == kept
    assert kept["options"] == {"profile": request.profile}
    assert kept["asked"] == asked_of(request)


class Accounting:
    """Knows of a job from its n-th question on."""

    def __init__(self, known_at: dict[int, int]) -> None:
        self.known_at, self.asked = known_at, list[list[int]]()

    async def used(self, jobs: Iterable[int]) -> dict[int, JobUsage]:
        self.asked.append(sorted(jobs))
        if self.known_at.get(0) == len(self.asked):
            raise SlurmUnavailable("look", "no answer")
        return {job: JobUsage(job, 60) for job in self.asked[-1] if len(self.asked) >= self.known_at.get(job, 99)}


def test_accounting_is_asked_once_for_all_that_end_together(virtually: Callable[[Any], Any]) -> None:
    accounting = Accounting({1: 1, 2: 1, 3: 1})

    async def end() -> list[JobUsage | None]:
        look = LookBack(accounting)
        return await asyncio.gather(*(look.usage(job) for job in (3, 1, 2)))

    assert virtually(end()) == [JobUsage(3, 60), JobUsage(1, 60), JobUsage(2, 60)]
    assert accounting.asked == [[1, 2, 3]]


def test_a_job_that_accounting_learns_of_late_is_asked_for_again_and_one_it_never_knows_is_given_up(
    virtually: Callable[[Any], Any],
) -> None:
    accounting = Accounting({0: 1, 1: 2})

    async def end() -> list[JobUsage | None]:
        look = LookBack(accounting)
        return await asyncio.gather(look.usage(1), look.usage(5))

    assert virtually(end()) == [JobUsage(1, 60), None]
    assert accounting.asked == [[1, 5], [1, 5], [5]]


def test_a_session_that_ends_meanwhile_costs_an_earlier_one_none_of_its_time(
    virtually: Callable[[Any], Any],
) -> None:
    accounting = Accounting({})

    async def end() -> tuple[JobUsage | None, JobUsage | None]:
        look = LookBack(accounting)
        first = asyncio.ensure_future(look.usage(1))
        await asyncio.sleep(10)
        second = asyncio.ensure_future(look.usage(2))
        await asyncio.sleep(50)  # only now accounting hears of both
        accounting.known_at |= {1: 1, 2: 1}
        return await first, await second

    assert virtually(end()) == (JobUsage(1, 60), JobUsage(2, 60))


def test_a_session_that_ends_while_another_is_waited_for_is_asked_about_as_soon(
    virtually: Callable[[Any], Any],
) -> None:
    accounting = Accounting({2: 1})

    async def end() -> float:
        look, clock = LookBack(accounting), asyncio.get_running_loop().time
        waiting = asyncio.ensure_future(look.usage(1))
        await asyncio.sleep(25)  # job 1 is due again in almost a minute
        begun = clock()
        assert await look.usage(2) == JobUsage(2, 60)
        waiting.cancel()
        return clock() - begun

    assert virtually(end()) == pytest.approx(LookBack.PAUSES[0])
