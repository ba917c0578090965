"""Ending early, in order: signals become exceptions, exceptions become a sentence and an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from deploy.errors import EXIT_FAILED, EXIT_INTERRUPTED, CommandFailed, DeployError, Interrupted, Refused, Shown
from deploy.runner import Log

NO_LOG = Log(None)


@contextlib.contextmanager
def polite() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into ``Interrupted``, so that temporary files go; fix the umask.

    The files that we install are for all users, whatever umask the caller has.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    os.umask(0o022)
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status_of(
    act: Callable[[], int],
    log: Log = NO_LOG,
    *,
    also: tuple[type[Exception], ...] = (),
    interrupted: str = "",
) -> int:
    """Run a command and explain an expected failure on standard error. Bugs keep their traceback.

    ``also`` are exceptions of other packages whose message is such an explanation.
    ``interrupted`` is the sentence for a person who pressed Ctrl-C; empty where another process says it.
    """
    expected: tuple[type[Exception], ...] = (DeployError, *also)
    try:
        return act()
    except (KeyboardInterrupt, Interrupted):
        if interrupted:
            print(f"\n{interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (`| head`) has gone: end like other programs, without a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except expected as error:
        return tell(error, log)


def tell(error: Exception, log: Log) -> int:
    """Explain an expected failure, once; returns its exit status."""
    match error:
        case Shown():
            pass
        case Refused():
            explain("Nothing was changed:", [f"- {problem}" for problem in error.problems])
        case CommandFailed():
            explain(str(error), [f"  {line}" for line in error.tail], log)
        case _:
            explain(str(error), (), log)
    return error.exit_status if isinstance(error, DeployError) else EXIT_FAILED


def explain(sentence: str, lines: list[str] | tuple[str, ...], log: Log = NO_LOG) -> None:
    """What went wrong, the last words of who failed, and where to read all of it."""
    sys.stdout.flush()
    print(f"\n{sentence}", *lines, sep="\n", file=sys.stderr)
    log.line(sentence)
    if log.path is not None:
        print(f"The whole log: {log.path}", file=sys.stderr)
