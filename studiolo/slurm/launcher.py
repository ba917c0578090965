#!/usr/bin/python3 -IS
"""The privileged piece: submit, foretell or cancel a job as the person who runs it. All that the hub may do through sudo.

Installed as ``libexec/studiolo-launch`` and started by the hub as ``sudo -u PERSON studiolo-launch ACTION CONF
COMMANDS``; a sudoers rule fixes all three arguments, so nothing of a request ever stands on a command line. The
request comes on standard input, its parts separated by NUL, which no part can hold::

    submit    SCRIPT \\0 STUDIOLO_…=TEXT \\0 STUDIOLO_…=TEXT   -> becomes sbatch, which reads the script
    estimate  SCRIPT                                         -> becomes sbatch --test-only: when would it start?
    cancel    NUMBER \\0 NUMBER_TASK                           -> becomes scancel

Runs with the standard library alone (Python 3.8 or later), as the person and never as root; it reads no file and keeps
nothing of the caller's environment. A class of sixty waits for sixty of these: whatever takes long to import (json,
re, subprocess, signal) is done without. Exit status: that of the Slurm command, 64 for a request that makes no sense,
73 where the home can not be entered; the signal SIGALRM where Slurm did not answer in time.
"""

import os
import pwd
import sys

# The module signal would first make enums of them all, which takes half the time of all that is here.
from _signal import alarm  # type: ignore[import-not-found]

MAX_INPUT = 1 << 20
MAX_VALUE = 4096
MAX_NAME = 40
SECONDS = 25  # less than the hub waits, which may not end a process of the person's: the kernel does, at this alarm
NO_SCRIPT = "the script is not one"
LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_")


def main(arguments: "list[str]") -> int:
    """Act on one request; ``arguments`` are action, slurm.conf and the folder of Slurm's commands."""
    if len(arguments) != 3 or arguments[0] not in ("submit", "estimate", "cancel"):
        return refuse("usage: studiolo-launch submit|estimate|cancel SLURM_CONF COMMANDS")
    if os.getuid() == 0:
        return refuse("never for root")
    action, conf, commands = arguments
    alarm(SECONDS)
    with open(0, "rb", closefd=False) as stdin:
        text = stdin.read(MAX_INPUT + 1)
    if len(text) > MAX_INPUT:
        return refuse("the request is too long")
    person = pwd.getpwuid(os.getuid())
    environment = {
        b"HOME": os.fsencode(person.pw_dir),
        b"LANG": b"C.UTF-8",
        b"LOGNAME": os.fsencode(person.pw_name),
        b"PATH": b"/usr/local/bin:/usr/bin:/bin",
        b"SHELL": os.fsencode(person.pw_shell or "/bin/sh"),
        b"SLURM_CONF": os.fsencode(conf),
        b"USER": os.fsencode(person.pw_name),
    }
    if action == "cancel":
        return cancel(text.split(b"\0"), commands, environment)
    if action == "estimate":
        return estimate(text.split(b"\0"), commands, environment)
    return submit(text.split(b"\0"), commands, environment)


def submit(parts: "list[bytes]", commands: str, environment: "dict[bytes, bytes]") -> int:
    """Hand the script to sbatch with a small, known environment, in the person's home."""
    script, variables = parts[0], parts[1:]
    if not script.startswith(b"#!/bin/bash"):
        return refuse(NO_SCRIPT)
    for variable in variables:
        name, sign, value = variable.partition(b"=")
        rest = name[len(b"STUDIOLO_") :]
        known = name.startswith(b"STUDIOLO_") and 0 < len(rest) <= MAX_NAME and LETTERS.issuperset(rest)
        if not known or not sign or len(value) > MAX_VALUE:
            return refuse("the environment may only hold texts named STUDIOLO_…")
        environment[name] = value
    home = os.fsdecode(environment[b"HOME"])
    try:
        os.chdir(home)
    except OSError as error:
        return refuse("your home folder %s can not be entered: %s" % (home, error.strerror), 73)
    # A log that Slurm writes into the home is closed to others.
    os.umask(0o027)
    return become(["sbatch", "--parsable"], unnamed(script), commands, environment)


def estimate(parts: "list[bytes]", commands: str, environment: "dict[bytes, bytes]") -> int:
    """Have sbatch say when it would start the script, and start nothing. Slurm says it on standard error."""
    if len(parts) != 1 or not parts[0].startswith(b"#!/bin/bash"):
        return refuse(NO_SCRIPT)
    # No home is needed, and none is waited for: it may be on a file system that is mounted at that moment.
    os.chdir("/")
    # Seconds since 1970: the hub's zone, this host's and daylight saving play no part.
    environment[b"SLURM_TIME_FORMAT"] = b"%s"
    environment[b"TZ"] = b"UTC0"
    return become(["sbatch", "--test-only"], unnamed(parts[0]), commands, environment)


def unnamed(script: bytes) -> int:
    """A file without a name: the script is on no disk, and stays when this process becomes sbatch."""
    memory = os.memfd_create("script")
    with open(memory, "wb", closefd=False) as file:
        file.write(script)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def cancel(jobs: "list[bytes]", commands: str, environment: "dict[bytes, bytes]") -> int:
    """Cancel jobs by number; Slurm itself sees to it that they are this person's."""
    for job in jobs:
        number, sign, task = job.partition(b"_")
        known = number.isdigit() and len(number) <= 10 and 0 < int(number) < 2**32
        if not known or (sign and not (task.isdigit() and len(task) <= 10)):
            return refuse("cancel needs numbers of jobs")
    nothing = os.open("/dev/null", os.O_RDONLY)
    return become(["scancel", *map(os.fsdecode, jobs)], nothing, commands, environment)


def become(argv: "list[str]", stdin: int, commands: str, environment: "dict[bytes, bytes]") -> int:
    """Turn this process into a command of Slurm's; returns only where it can not be run."""
    os.dup2(stdin, 0)
    path = commands + "/" + argv[0]
    try:
        os.execve(path, [path, *argv[1:]], environment)  # noqa: S606 - without a shell, as is meant
    except OSError as error:
        return refuse("%s can not be run: %s" % (path, error.strerror))


def refuse(why: str, status: int = 64) -> int:
    """Say why on standard error; the hub passes it on."""
    sys.stderr.buffer.write(("studiolo-launch: " + why + "\n").encode("utf-8", "backslashreplace"))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
