"""The ways in which a command ends early, each with its exit status."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_NOT_RUNNING = 3  # as the Linux Standard Base has it for `status`
EXIT_INTERRUPTED = 130


class DeployError(Exception):
    """Something went wrong that a person can mend; the message is a sentence that says how."""

    exit_status = EXIT_FAILED


class Refused(DeployError):
    """The machine or the settings will not do; nothing was changed."""

    exit_status = EXIT_REFUSED

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CommandFailed(DeployError):
    """A program ended with an error. ``tail`` holds the end of what it said."""

    def __init__(self, sentence: str, tail: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.tail = tuple(tail)


class Shown(DeployError):
    """A failure that was already explained on the terminal; carries only its exit status."""

    def __init__(self, exit_status: int) -> None:
        super().__init__("")
        self.exit_status = exit_status


class Interrupted(BaseException):
    """Ctrl-C, or a polite request to end (SIGTERM, SIGHUP): clean up and go."""
