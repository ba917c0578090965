"""How soon a submitted job starts on an idle node: our scheduler settings, Slurm's own as shipped, and the floor.

Ours and stock run on one cluster, one after the other: the line ``SchedulerParameters`` is what differs. The floor is
``srun``, whose jobs the controller starts without waiting for its once-a-second loop.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from ground import Ground
from results import Row, row

from slurmbox.instance import Instance

QUIET_SECONDS = 1.3  # between runs, so that none profits or suffers from the one before; no multiple of a second


def rows(ground: Ground, runs: int) -> list[Row]:
    """Measure on a platform that is up and idle."""
    shell = Shell(ground.box)
    measured: dict[str, dict[str, list[float]]] = {}
    for way in ("ours", "stock"):
        if way == "stock":
            shell.without_our_settings()
        try:
            measured[way] = {"alone": repeat(shell.batch, runs), "following": repeat(shell.batch_after_another, runs)}
        finally:
            shell.with_our_settings()
    floor = repeat(shell.srun, runs)
    return [
        row(f"job-start-{name}", "s", measured["ours"][name], measured["stock"][name], floor)
        for name in ("alone", "following")
    ]


def repeat(measure: Callable[[], float], runs: int) -> list[float]:
    """The seconds of so many runs."""
    seconds = []
    for _ in range(runs):
        seconds.append(measure())
        time.sleep(QUIET_SECONDS)
    return seconds


class Shell:
    """Submits as a demo person, as the hub's launcher would."""

    def __init__(self, box: Instance) -> None:
        self.box = box
        person = next(person for person in box.people if person.role == "researcher")
        self.person = person.name
        self.folder = box.homes / person.name
        self.conf = box.slurm_conf
        self.original = self.conf.read_text(encoding="utf-8")

    def batch(self) -> float:
        """Seconds from before ``sbatch`` to the script's first line."""
        mark = self.folder / f"started-{time.monotonic_ns()}"
        began = time.time()
        self._run("sbatch", "--wait", "--quiet", "--output=/dev/null", f"--wrap=date +%s.%N > {mark}")
        started = float(mark.read_text(encoding="utf-8"))
        mark.unlink()
        return started - began

    def batch_after_another(self) -> float:
        """The same for a job that follows another one at once."""
        self._run("sbatch", "--quiet", "--output=/dev/null", "--wrap=true")
        return self.batch()

    def srun(self) -> float:
        """Seconds from before ``srun`` to the program's first moment."""
        began = time.time()
        return float(self._run("srun", "--quiet", "date", "+%s.%N")) - began

    def without_our_settings(self) -> None:
        """The same cluster with the scheduler's parameters as Slurm ships them."""
        kept = [line for line in self.original.splitlines() if not line.startswith("SchedulerParameters=")]
        self._configure("\n".join(kept) + "\n")

    def with_our_settings(self) -> None:
        """Back to what `make up` wrote."""
        self._configure(self.original)

    def _configure(self, text: str) -> None:
        self.conf.write_text(text, encoding="utf-8")
        self._scontrol("reconfigure")
        time.sleep(2)

    def _scontrol(self, *arguments: str) -> None:
        environment = {"SLURM_CONF": str(self.conf), "PATH": "/usr/bin:/bin"}
        subprocess.run(["scontrol", *arguments], env=environment, check=True)

    def _run(self, *argv: str) -> str:
        command = ["setpriv", f"--reuid={self.person}", f"--regid={self.person}", "--init-groups", *argv]
        environment = {"SLURM_CONF": str(self.conf), "PATH": "/usr/bin:/bin", "HOME": str(self.folder)}
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout
