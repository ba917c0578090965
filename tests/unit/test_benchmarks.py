"""What the benchmarks compute from what they measure: medians, aims, phases, counts. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import linux
import phases
import pytest
import results
import rpc_counts

HUB_LOG = """\
[I 2026-11-22 04:39:08.000 JupyterHub provider:744] Creating oauth client jupyterhub-user-ada
[I 2026-11-22 04:39:09.051 JupyterHub provider:744] Creating oauth client jupyterhub-user-adam
[I 2026-11-22 04:39:09.052 JupyterHub provider:744] Creating oauth client jupyterhub-user-ada
[I 2026-11-22 04:39:09.199 JupyterHub server:161] ada submitted as job 1500000 on cpu
Traceback of somebody
[I 2026-11-22 04:39:15.535 JupyterHub base:1192] User ada took 6.537 seconds to start
"""
SERVER_LOG = """\
a line of the login shell
[I 2026-11-22 04:39:13.536 ServerApp] Extension package jupyterlab took 0.2168s to import
[I 2026-11-22 04:39:15.375 ServerApp] Jupyter Server 2.21.1 is running at:
"""


def at(time: str) -> float:
    found = phases.stamp(f"[I 2026-11-22 {time} ")
    assert isinstance(found, float)
    return found


def test_a_row_holds_the_median_of_what_each_side_has() -> None:
    row = results.row("x", "s", [3.0, 1.0, 2.0], [None, 4.0], [])
    assert (row.ours, row.stock, row.floor, row.runs) == (2.0, 4.0, None, 3)


@pytest.mark.parametrize(
    ("aim", "verdicts"),
    [
        (results.Aim(of_stock=0.5), [("0.4 of stock's, at most 0.5", True)]),
        (
            results.Aim(of_stock=0.3, of_floor=1.3),
            [("0.4 of stock's, at most 0.3", False), ("2 of the floor, at most 1.3", False)],
        ),
        (results.Aim(at_most=4), [("4 s, at most 4", True)]),
        (results.Aim(), []),
    ],
)
def test_an_aim_is_told_part_by_part(aim: object, verdicts: list[tuple[str, bool]]) -> None:
    assert results.verdicts(results.Row("x", "s", 4.0, 10.0, 2.0, 1), aim) == verdicts


def test_what_was_not_measured_has_no_share_and_no_verdict() -> None:
    assert results.share(1.0, None) is None
    assert results.share(None, 1.0) is None
    assert results.share(1.0, 0.0) is None
    assert results.verdicts(results.Row("x", "s", 4.0, None, None, 1), results.Aim(of_stock=0.5)) == []


def test_the_table_shows_every_row_and_whether_its_aim_is_met() -> None:
    text = results.table(
        [results.Row("click-to-ready", "s", 2.0, 8.0, None, 3), results.Row("other", "s", 1.0, None, None, 3)]
    )
    lines = text.splitlines()
    assert lines[1].split() == ["click-to-ready", "s", "2.00", "8.00", "-", "0.25", "-", "3"]
    assert lines[2].split()[0] == "other"
    assert lines[-1].endswith("met")


def test_results_of_other_rows_are_kept_and_measured_ones_replaced(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.write([results.Row("a", "s", 1.0, None, None, 1), results.Row("b", "s", 2.0, None, None, 1)], file)
    results.write([results.Row("b", "s", 3.0, 4.0, None, 5)], file)
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert (rows["a"]["ours"], rows["b"]["ours"], rows["b"]["runs"]) == (1.0, 3.0, 5)
    assert set(rows["a"]) == {"name", "unit", "ours", "stock", "floor", "runs"}


def test_phases_are_read_from_the_logs_of_this_start_and_this_person() -> None:
    click = at("04:39:09.000")
    found = phases.moments(
        person="ada",
        times=(click, at("04:39:15.550"), at("04:39:15.650")),
        hub_log=HUB_LOG,
        server_log=SERVER_LOG,
        processes=[
            ("/bin/bash script", click + 0.3),
            ("srun batchspawner-singleuser", click + 0.35),
            ("python jupyterhub-singleuser", click + 0.4),
        ],
        paint=2.0,
    )
    spans = phases.durations(found)
    assert spans["request"] == pytest.approx(0.052, abs=1e-5)
    assert spans["submit"] == pytest.approx(0.147, abs=1e-5)
    assert spans["scheduling"] == pytest.approx(0.101, abs=1e-5)
    assert spans["process"] == pytest.approx(0.1, abs=1e-5)
    assert spans["imports"] == pytest.approx(4.136, abs=1e-5)
    assert spans["setup"] == pytest.approx(1.839, abs=1e-5)
    assert spans["notice"] == pytest.approx(0.16, abs=1e-5)
    assert spans["paint"] == pytest.approx(2.0, abs=1e-5)
    assert sum(spans.values()) == pytest.approx(found.answer - click + 2.0, abs=1e-5)


def test_a_phase_that_nothing_tells_joins_the_next_one() -> None:
    found = phases.Moments(0.0, 1.0, None, 3.0, None, None, None, None, 6.0, 7.0)
    spans = phases.durations(found)
    assert spans["submit"] is None
    assert (spans["scheduling"], spans["route"], spans["paint"]) == (2.0, 3.0, None)


def test_every_phase_is_explained_and_measured() -> None:
    assert all(phases.PHASES.values())
    assert set(phases.PHASES) == set(phases.Moments.__dataclass_fields__) - {"click"}


STAT = "4242 (a (odd) name) S 1 4242 4242 0 -1 4194304 1 0 0 0 150 50 300 100 20 0 1 0 {start} 0 0 0"


def test_processor_time_and_beginning_of_a_process_with_an_odd_name() -> None:
    stat = STAT.format(start=1000 * linux.TICKS)
    assert linux.cpu_seconds(stat) == 200 / linux.TICKS
    assert linux.cpu_of_children(stat) == 400 / linux.TICKS
    assert linux.began(stat, now=50_000.0, since_boot=1_500.0) == 49_500.0


SDIAG = """\
Remote Procedure Call statistics by message type
\tREQUEST_PARTITION_INFO                  ( 2009) count:15     ave_time:210    total_time:3151

Remote Procedure Call statistics by user
\tstudiolo-hub-is4k(     977) count:41     ave_time:259    total_time:10639
\troot            (       0) count:9      ave_time:326    total_time:2939

Pending RPC statistics
\tother           (       1) count:7      ave_time:326    total_time:2939
"""


def test_calls_are_counted_by_who_made_them() -> None:
    assert rpc_counts.calls_by_user(SDIAG) == {977: 41, 0: 9}
    with pytest.raises(ValueError, match="by user"):
        rpc_counts.calls_by_user("slurm_get_statistics: Connection refused")
