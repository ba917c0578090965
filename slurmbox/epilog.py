#!/usr/bin/python3 -IS
"""Slurm epilog, run by root on the node when a job has ended.

Kills what the job's owner left running (a process that detached itself escapes Slurm where there are no control
groups) and removes the job's scratch folder, and those that earlier jobs of this owner have left where a node died.
Nothing a user wrote is evaluated: the job's number and owner come from slurmd and must be numbers; a process counts only
if it belongs to that owner and bears this cluster's name; the folder is removed with the owner's own rights. Always ends
with 0: another status would take the node out of service.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
import time

SCRATCH_FOLDER = "/tmp"


def belongs(pid: int, job: bytes, uid: int, cluster: bytes) -> bool:
    """Whether this process lives, is this owner's, and its environment names this job of this cluster."""
    wanted = {b"SLURM_JOB_ID=" + job, b"SLURM_CLUSTER_NAME=" + cluster}
    folder = f"/proc/{pid}"
    try:
        # Not the owner of /proc/PID, which is root for a process that made itself undumpable.
        with open(folder + "/status", "rb") as stream:
            status = dict(line.split(b":", 1) for line in stream.read().splitlines() if b":" in line)
        if int(status[b"Uid"].split()[0]) != uid or status[b"State"].split()[0] == b"Z":
            return False
        with open(folder + "/environ", "rb") as stream:
            return wanted <= set(stream.read().split(b"\0"))
    except (OSError, KeyError):
        return False  # ended meanwhile


def kill_leftovers(job: bytes, uid: int, cluster: bytes, patience_s: float = 5.0) -> None:
    """Kill until a look at all processes finds none, as one may have started another meanwhile."""
    deadline = time.monotonic() + patience_s
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for pid in processes():
            if not belongs(pid, job, uid, cluster):
                continue
            found = True
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                if belongs(pid, job, uid, cluster):  # again, while we hold it: the number can't pass to another now
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            except OSError:
                continue
            finally:
                os.close(handle)
        if found:
            time.sleep(0.02)


def scratch_folders(uid: int, cluster: bytes) -> list[str]:
    """The owner's folders /tmp/studiolo-<job>-<random> whose job has no process: real ones; no link, nobody else's."""
    return [
        entry.path
        for entry in os.scandir(SCRATCH_FOLDER)
        if (name := re.fullmatch(r"studiolo-([0-9]+)-.*", entry.name))
        and entry.is_dir(follow_symlinks=False)
        and entry.stat(follow_symlinks=False).st_uid == uid
        and not any(belongs(pid, name[1].encode(), uid, cluster) for pid in processes())
    ]


def processes() -> list[int]:
    """Numbers of all processes of this host."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def remove_scratch(folder: str, uid: int, gid: int) -> None:
    """Remove a scratch folder with its owner's rights: no link in it can lead to another's files."""
    if not _as_owner(["rm", "-rf", "--one-file-system", "--", folder], uid, gid):
        # A folder within that even its owner may not enter. chmod -R follows no link that it finds on its way.
        _as_owner(["chmod", "-R", "u+rwX", "--", folder], uid, gid)
        _as_owner(["rm", "-rf", "--one-file-system", "--", folder], uid, gid)


def _as_owner(command: list[str], uid: int, gid: int) -> bool:
    done = subprocess.run(
        command,
        user=uid,
        group=gid,
        extra_groups=(),
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


def main() -> None:
    job, uid = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_JOB_UID", "")
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    if not (job.isascii() and job.isdigit() and uid.isascii() and uid.isdigit() and int(uid) > 0 and cluster):
        return
    kill_leftovers(job.encode(), int(uid), cluster.encode())
    for folder in scratch_folders(int(uid), cluster.encode()):
        remove_scratch(folder, int(uid), pwd.getpwuid(int(uid)).pw_gid)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - told to slurmd's log; see the top for why it ends with 0
        print(f"epilog: {type(error).__name__}: {error}", file=sys.stderr)
