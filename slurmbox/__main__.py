"""``python -m slurmbox up|down|status|clean``: the embedded cluster alone, without the hub."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurmbox import box
from slurmbox import instance as instances
from slurmbox.errors import BoxError


@contextmanager
def show(step: str) -> Iterator[None]:
    """One line a step, with its time when it is done."""
    print(f"  {step} …", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - started:.1f} s", flush=True)


def table(status: box.Status) -> str:
    """The status for people's eyes."""
    if not status.running:
        return "The embedded cluster is down."
    lines = [f"{'daemon':<16}{'state':<10}{'process':>8}  up for"]
    for d in status.daemons:
        hours, rest = divmod(d.uptime_s, 3600)
        lines.append(f"{d.name:<16}{d.state:<10}{d.pid or '-':>8}  {hours}:{rest // 60:02}:{rest % 60:02}")
    if not status.controller:
        return "\n".join([*lines, "", "The controller does not answer."])
    lines += ["", f"{'node':<16}{'state':<18}{'CPUs free':>12}{'GPUs free':>12}{'shards free':>13}"]
    for n in status.nodes:
        gpus = f"{n.gpus_free}/{n.gpus}" if n.gpus else "-"
        shards = f"{n.shards_free}/{n.shards}" if n.shards else "-"
        lines.append(f"{n.name:<16}{n.state:<18}{f'{n.cpus_free}/{n.cpus}':>12}{gpus:>12}{shards:>13}")
    lines += ["", f"{status.jobs_running} jobs run, {status.jobs_pending} wait."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m slurmbox", description="An embedded Slurm cluster on this machine."
    )
    parser.add_argument("command", choices=("up", "down", "status", "clean"))
    parser.add_argument("--state", type=Path, default=instances.DEFAULT_STATE, help="state folder (%(default)s)")
    parser.add_argument("--prefix", type=Path, default=instances.DEFAULT_PREFIX, help="program folder (%(default)s)")
    parser.add_argument("--json", action="store_true", help="status as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.command == "up":
            box.up(instances.load_or_choose(options.state, options.prefix), show)
            return 0
        instance = instances.load(options.state.absolute())
        if options.command == "down":
            box.down(instance, show)
        elif options.command == "clean":
            box.clean(instance, show)
        else:
            status = box.status(instance)
            print(json.dumps(dataclasses.asdict(status), indent=2) if options.json else table(status))
            return 0 if status.controller else 1
    except BoxError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command again completes it.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
