#!/usr/bin/python3 -I
"""The privileged piece: submit or cancel a job as the person who runs it. All that the hub may do through sudo.

Installed as ``libexec/studiolo-launch`` and started by the hub as ``sudo -u PERSON studiolo-launch ACTION CONF
COMMANDS``; a sudoers rule fixes all three arguments, so nothing of a request ever stands on a command line. The
request comes as JSON on standard input::

    submit  {"script": TEXT, "environment": {"STUDIOLO_…": TEXT}}   -> sbatch's answer on standard output
    cancel  {"jobs": [NUMBER, …]}

Runs with the standard library alone, as the person and never as root; it reads no file and keeps nothing of the
caller's environment. Exit status: that of the Slurm command, or 64 for a request that makes no sense.
"""

import json
import os
import pwd
import re
import subprocess
import sys

MAX_INPUT = 1 << 20
VARIABLE = re.compile(r"STUDIOLO_[A-Z_]{1,40}", re.ASCII)


def main(arguments: "list[str]") -> int:
    """Act on one request; ``arguments`` are action, slurm.conf and the folder of Slurm's commands."""
    if len(arguments) != 3 or arguments[0] not in ("submit", "cancel"):
        return refuse("usage: studiolo-launch submit|cancel SLURM_CONF COMMANDS")
    if os.getuid() == 0:
        return refuse("never for root")
    action, conf, commands = arguments
    text = sys.stdin.read(MAX_INPUT + 1)
    if len(text) > MAX_INPUT:
        return refuse("the request is too long")
    try:
        request = json.loads(text)
    except ValueError:
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
    if action == "cancel":
        return cancel(request, commands, environment)
    return submit(request, commands, environment, person.pw_dir)


def submit(request: object, commands: str, environment: "dict[str, str]", home: str) -> int:
    """Hand the script to sbatch with a small, known environment, in the person's home."""
    if not isinstance(request, dict) or set(request) != {"script", "environment"}:
        return refuse("submit needs script and environment")
    script, extra = request["script"], request["environment"]
    if not isinstance(script, str) or not script.startswith("#!/bin/bash"):
        return refuse("the script is not one")
    if not isinstance(extra, dict) or not all(
        VARIABLE.fullmatch(key) and isinstance(value, str) and "\0" not in value for key, value in extra.items()
    ):
        return refuse("the environment may only hold texts named STUDIOLO_…")
    try:
        os.chdir(home)
    except OSError as error:
        return refuse("your home folder %s can not be entered: %s" % (home, error.strerror), 73)
    # The session's log is readable by the hub's group (the folder's), so that a failure can be quoted, and by nobody else.
    os.umask(0o027)
    done = subprocess.run(
        [commands + "/sbatch", "--parsable"], input=script, env={**environment, **extra}, text=True, check=False
    )
    return done.returncode


def cancel(request: object, commands: str, environment: "dict[str, str]") -> int:
    """Cancel jobs by number; Slurm itself sees to it that they are this person's."""
    jobs = request.get("jobs") if isinstance(request, dict) and set(request) == {"jobs"} else None
    if not isinstance(jobs, list) or not jobs or not all(type(job) is int and job > 0 for job in jobs):
        return refuse("cancel needs jobs, a list of numbers")
    return subprocess.run(
        [commands + "/scancel", *map(str, jobs)], stdin=subprocess.DEVNULL, env=environment, check=False
    ).returncode


def refuse(why: str, status: int = 64) -> int:
    """Say why on standard error; the hub passes it on."""
    print("studiolo-launch: " + why, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
