"""A folder with a whole Linux in it, entered with mounts and processes of its own.

``unshare`` starts this module as the first process of a new PID namespace, with a private view of the mounts. It
mounts what a Linux needs into the folder, starts the command in there and waits. When it ends, the kernel ends
every process of the namespace, and the mounts go with the last of them: however a run dies, nothing is left.

Its standard input is the lifeline: once it is closed, by purpose or because whoever held it died, the command is
asked to end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import DeployError
from deploy.runner import Log, run
from deploy.signals import exit_status_of

CHECKOUT_INSIDE = Path("/studiolo")
CHROOT = "/usr/sbin/chroot"
NAMESPACES = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")


def command(
    python: Path,
    root: Path,
    checkout: Path,
    lent: Sequence[tuple[Path, Path]],
    inner: Sequence[str],
) -> list[str]:
    """The command line that runs ``inner`` in ``root``, with the checkout as its folder; to be started in the checkout."""
    lending = [word for source, target in lent for word in ("--lend", str(source), str(target))]
    here = [str(python), "-B", "-m", "deploy.enclosure", "--root", str(root), "--checkout", str(checkout), *lending]
    return ["unshare", *NAMESPACES, "--", *here, "--", *inner]


def mounts(root: Path, checkout: Path, lent: Sequence[tuple[Path, Path]]) -> tuple[tuple[str, ...], ...]:
    """The calls of ``mount``, in their order. All are private to the namespace; what is lent can't be written to."""
    calls: list[tuple[str, ...]] = [
        ("--types", "proc", "proc", f"{root}/proc"),
        ("--rbind", "/sys", f"{root}/sys"),
        ("--rbind", "/dev", f"{root}/dev"),
        ("--types", "tmpfs", "--options", "mode=1777", "tmpfs", f"{root}/dev/shm"),
        ("--types", "tmpfs", "--options", "mode=1777", "tmpfs", f"{root}/tmp"),
        ("--types", "tmpfs", "--options", "mode=755", "tmpfs", f"{root}/run"),
    ]
    for source, target in ((checkout, CHECKOUT_INSIDE), *lent):
        place = f"{root}{target}"
        calls += [("--bind", str(source), place), ("--options", "remount,bind,ro", place)]
    return tuple(("mount", *call) for call in calls)


def make_mount_points(root: Path, lent: Sequence[tuple[Path, Path]]) -> None:
    """Folders and empty files to mount on, which stay."""
    (root / CHECKOUT_INSIDE.relative_to("/")).mkdir(mode=0o755, exist_ok=True)
    for _, target in lent:
        place = root / target.relative_to("/")
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()  # mount would follow it out of the folder
        place.touch(mode=0o600)


def serve(words: Sequence[str], lifeline: int) -> int:
    """Run a command as the first process of a namespace does: reap every orphan, end when the command does.

    When ``lifeline``, a descriptor to read from, reports its end, the command gets SIGTERM. Returns its exit status,
    128 and the signal's number where a signal ended it.
    """
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    child = os.posix_spawn(words[0], list(words), os.environ, file_actions=[nothing])
    ended = threading.Lock()

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        with ended:
            if child in alive:
                os.kill(child, signal.SIGTERM)

    alive = {child}
    threading.Thread(target=watch, daemon=True).start()
    while True:
        # Looked at, then reaped under the lock: no other process can have its number when the signal is sent.
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert found is not None
        with ended:
            pid, status = os.waitpid(found.si_pid, 0)
            alive.discard(pid)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount, run, wait; the inner command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.enclosure", description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--lend", type=Path, nargs=2, action="append", default=[], metavar=("FILE", "INSIDE"))
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)  # argparse would look for more of them behind the first
    options, inner = parser.parse_args(words[:cut]), words[cut + 1 :]
    lent = [(source, target) for source, target in options.lend]

    def act() -> int:
        if os.getpid() != 1:
            raise DeployError("This is started by `unshare`, as the first process of a namespace.")
        make_mount_points(options.root, lent)
        for call in mounts(options.root, options.checkout, lent):
            run(Log(None), call, f"{call[-1]} could not be mounted: look at the machine's settings for containers.")
        return serve([CHROOT, str(options.root), "/usr/bin/env", f"--chdir={CHECKOUT_INSIDE}", *inner], 0)

    return exit_status_of(act)


if __name__ == "__main__":
    sys.exit(main())
