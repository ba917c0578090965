#!/usr/bin/python3 -I
"""The privileged piece: submit or cancel a job as the person who runs it. All that the hub may do through sudo.

Installed as ``libexec/studiolo-launch`` and started by the hub as ``sudo -u PERSON studiolo-launch ACTION CONF
COMMANDS``; a sudoers rule fixes all three arguments, so nothing of a request ever stands on a command line. The
request comes as JSON on standard input::

    submit  {"script": TEXT, "environment": {"STUDIOLO_…": TEXT}, "log": PATH}   -> sbatch's answer
    cancel  {"jobs": [NUMBER, …]}

Runs with the standard library alone, as the person and never as root; it reads no file and keeps nothing of the
caller's environment. Exit status: that of the Slurm command, 64 for a request that makes no sense, 73 where a folder
or file is in the way, 75 where Slurm did not answer in time.
"""

import json
import os
import pwd
import re
import subprocess
import sys

MAX_INPUT = 1 << 20
MAX_VALUE = 4096
SECONDS = 25  # less than the hub waits: who goes beyond is ended here, where that is allowed
VARIABLE = re.compile(r"STUDIOLO_[A-Z_]{1,40}", re.ASCII)


def main(arguments: "list[str]") -> int:  # noqa: PLR0911 - each refusal has its sentence
    """Act on one request; ``arguments`` are action, slurm.conf and the folder of Slurm's commands."""
    if len(arguments) != 3 or arguments[0] not in ("submit", "cancel"):
        return refuse("usage: studiolo-launch submit|cancel SLURM_CONF COMMANDS")
    if os.getuid() == 0:
        return refuse("never for root")
    action, conf, commands = arguments
    try:
        text = sys.stdin.read(MAX_INPUT + 1)
        if len(text) > MAX_INPUT:
            return refuse("the request is too long")
        request = json.loads(text)
    except (ValueError, RecursionError):
        return refuse("the request is not JSON")
    person = pwd.getpwuid(os.getuid())
    environment = {
        "HOME": person.pw_dir,
        "LANG": "C.UTF-8",
        "LOGNAME": person.pw_name,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SHELL": person.pw_shell or "/bin/sh",
        "SLURM_CONF": conf,
        "USER": person.pw_name,
    }
    try:
        if action == "cancel":
            return cancel(request, commands, environment)
        return submit(request, commands, environment, person.pw_dir)
    except subprocess.TimeoutExpired:
        return refuse("Slurm did not answer within %d seconds" % SECONDS, 75)
    except OSError as error:
        return refuse("%s can not be run: %s" % (error.filename or commands, error.strerror))


def submit(request: object, commands: str, environment: "dict[str, str]", home: str) -> int:  # noqa: PLR0911
    """Hand the script to sbatch with a small, known environment, in the person's home."""
    if not isinstance(request, dict) or set(request) - {"log"} != {"script", "environment"}:
        return refuse("submit needs script and environment")
    script, extra = request["script"], request["environment"]
    if not plain(script) or not script.startswith("#!/bin/bash"):
        return refuse("the script is not one")
    if not isinstance(extra, dict) or not all(
        VARIABLE.fullmatch(key) and plain(value) and len(value) <= MAX_VALUE for key, value in extra.items()
    ):
        return refuse("the environment may only hold texts named STUDIOLO_…")
    try:
        os.chdir(home)
    except OSError as error:
        return refuse("your home folder %s can not be entered: %s" % (home, error.strerror), 73)
    # The session's log is readable by the hub's group (the folder's), so that a failure can be quoted, and by nobody else.
    os.umask(0o027)
    log = request.get("log")
    if log is not None:
        if not plain(log) or not log.startswith("/"):
            return refuse("the log must be an absolute path")
        # Made here, before anybody can know its name: Slurm would follow whatever somebody else had put in its place.
        try:
            os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640))
        except OSError as error:
            return refuse("the log %s can not be made: %s" % (log, error.strerror), 73)
    done = subprocess.run(
        [commands + "/sbatch", "--parsable"],
        input=script.encode(),
        env={**environment, **extra},
        timeout=SECONDS,
        check=False,
    )
    return done.returncode


def cancel(request: object, commands: str, environment: "dict[str, str]") -> int:
    """Cancel jobs by number; Slurm itself sees to it that they are this person's."""
    jobs = request.get("jobs") if isinstance(request, dict) and set(request) == {"jobs"} else None
    if not isinstance(jobs, list) or not jobs or not all(type(job) is int and 0 < job < 2**32 for job in jobs):
        return refuse("cancel needs jobs, a list of numbers")
    argv = [commands + "/scancel", *map(str, jobs)]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, env=environment, timeout=SECONDS, check=False).returncode


def plain(value: object) -> bool:
    """Whether a value is text that can be handed on: no NUL, no half of a letter."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse(why: str, status: int = 64) -> int:
    """Say why on standard error; the hub passes it on."""
    print("studiolo-launch: " + why, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
