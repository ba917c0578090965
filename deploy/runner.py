"""Running other programs: their words go to the log, and the end of them into the error."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.errors import CommandFailed

LARGEST_LOG = 5 * 2**20  # bytes; then it becomes up.log.1
TAIL = 15  # lines


class Log:
    """A file of lines with their times, added to by every command; None: nowhere."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is None:
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            os.replace(path, path.with_name(f"{path.name}.1"))

    def line(self, text: str) -> None:
        if self.path is None:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def run(
    log: Log,
    command: Sequence[str | Path],
    sorry: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a program to its end. CommandFailed says ``sorry`` and quotes its last lines."""
    arguments = [str(word) for word in command]
    log.line(f"$ {' '.join(arguments)}")
    tail: deque[str] = deque(maxlen=TAIL)
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise CommandFailed(f"{sorry} ({arguments[0]}: {error.strerror})") from error
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                tail.append(line.rstrip())
                log.line(f"  {line.rstrip()}")
        except BaseException:
            # Interrupted: the program has had the same signal, or gets it now; let it end first.
            process.terminate()
            raise
    if process.returncode != 0:
        raise CommandFailed(f"{sorry} (exit status {process.returncode})", tail)


def ask(command: Sequence[str | Path]) -> str | None:
    """What a program prints; None where it is missing or fails."""
    try:
        answer = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
