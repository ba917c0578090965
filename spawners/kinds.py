"""What people are told of every way to fail or to end: what happened, why, what to do, and the one next thing to press."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spawners import remedies
from spawners.remedies import Action, Asked
from studiolo.language import later

__all__ = ["KINDS", "SILENT_SOMEWHERE", "Told"]


@dataclass(frozen=True)
class Told:
    """What happened, why, what to do; and what makes the next action of what was asked for.

    ``choosing`` is what to do instead where the site has several environments, ``unread`` where the job's log is in its
    owner's home, which the hub does not read.
    """

    what: str
    why: str
    advice: str
    next: Callable[[Asked], Action | None]
    choosing: str = ""
    unread: str = ""


SILENT_SOMEWHERE = later("Job %(job)s runs, but its notebook server did not answer within %(minutes)s.")
_UNREAD = later(
    "Its log says why. It is in your home folder, where the hub does not read: open it there, then start again or show it"
    " to the support."
)
_SUPPORT = later("Nothing was started. The support has to mend this.")

KINDS: Mapping[str, Told] = {
    # Not submitted
    "limit": Told(
        later("Slurm refused this session: %(words)s"),
        later("A limit of your project or its service class (QoS) stands against it."),
        later("Nothing was started. Choose less, stop another session, or ask whoever runs the project."),
        remedies.within_limit,
    ),
    "too-long": Told(
        later("Slurm refused this session: %(words)s"),
        later("It asks for more time than is allowed there."),
        later("Nothing was started. Choose less time."),
        remedies.less_time,
    ),
    "too-large": Told(
        later("Slurm refused this session: %(words)s"),
        later("No node there has what it asks for."),
        later("Nothing was started. Choose less, or another part of the machine."),
        remedies.other_partition,
    ),
    "reservation": Told(
        later("Slurm refused this session: %(words)s"),
        later("Its reservation can not be used: it may be over, or not for you."),
        later("Nothing was started. Choose again without it."),
        remedies.no_reservation,
    ),
    "account": Told(
        later("Slurm refused this session: %(words)s"),
        later("The project or its service class (QoS) may not be used there, or not by you."),
        later("Nothing was started. Choose something else, or ask the support to look at this answer."),
        remedies.other_account,
    ),
    "refused": Told(
        later("Slurm refused this session: %(words)s"),
        "",
        later("Nothing was started. Choose something else, or ask the support to look at this answer."),
        remedies.choose,
    ),
    "launcher": Told(
        later("Studiolo may not start sessions for your account on this machine."),
        later("Your account is not among those that it may act for."),
        _SUPPORT,
        remedies.report,
    ),
    "home": Told(
        "%(words)s",
        later("A session needs its owner's home folder."),
        _SUPPORT,
        remedies.report,
    ),
    "scheduler": Told(
        later("The machine's scheduler does not answer at the moment."),
        later("It may be restarting, or very busy."),
        later("Nothing was lost. Try again in a few minutes."),
        remedies.retry,
    ),
    "database": Told(
        later("The hub can not write down that your session starts."),
        later("Its disk is full, or its database does not answer."),
        later(
            "Nothing was started, or it is being cancelled. Tell the support: the hub's database or disk needs a look."
        ),
        remedies.report,
    ),
    "bug": Told(
        later("Something went wrong in the hub itself."),
        later("This is a fault of ours, not of yours."),
        later("Start again; copy the report for the support if it happens twice."),
        remedies.retry,
    ),
    # Submitted, and never reached
    "waited": Told(
        later("It waited in line longer than the hub waits, so it was cancelled."),
        later("The machine was too busy for what it asks for."),
        later("Ask for less, or for another part of the machine: that starts sooner."),
        remedies.sooner,
    ),
    "silent": Told(
        later("Job %(job)s runs on %(node)s, but its notebook server did not answer within %(minutes)s."),
        later("The node may be slow, or its environment does not work."),
        later("It has been stopped. Start again; tell the support if it happens twice."),
        remedies.retry,
        choosing=later(
            "It has been stopped. Start again; if it happens twice, choose another environment or tell the support."
        ),
    ),
    "unreachable": Told(
        later("Your notebook server runs, but the hub can not reach it."),
        later("Something between hub and node is in the way."),
        later("It has been stopped. Start again; tell the support if it happens twice."),
        remedies.retry,
    ),
    # The job ended
    "boot-fail": Told(
        later("The node could not be started."),
        later("Slurm tried to switch it on in vain."),
        later("Start again: Slurm will choose another node."),
        remedies.retry,
    ),
    "cancelled": Told(
        later("The job was cancelled."),
        "",
        later("If it was not you, ask the support; otherwise just start again."),
        remedies.retry,
    ),
    "cancelled-by": Told(
        later("The job was cancelled by the account %(who)s."),
        later("That is an operator, or somebody who may act for your project."),
        later("Ask the support why, or start again."),
        remedies.retry,
    ),
    "cancelled-by-you": Told(
        later("The job was cancelled by yourself."),
        later("Your own account ended it, here or with scancel."),
        later("Start again whenever you like."),
        remedies.retry,
    ),
    "cancelled-by-system": Told(
        later("The job was cancelled by an operator or by the system."),
        later("It was ended as the machine's own account (%(who)s)."),
        later("Ask the support why, or start again."),
        remedies.retry,
    ),
    "completed": Told(
        later("The job ended before its notebook server answered."),
        later("The program that should serve it ended without a word of failure."),
        later("Look at the log below, then start again; tell the support if it happens twice."),
        remedies.other_environment,
        choosing=later("Look at the log below, then start again or choose another environment."),
        unread=_UNREAD,
    ),
    "deadline": Told(
        later("The job's deadline passed before it could end."),
        later("It had to be over by a certain time."),
        later("Start again with less time."),
        remedies.less_time,
    ),
    "failed": Told(
        later("The job's program failed."),
        "",
        later("Look at the log below: it says why."),
        remedies.other_environment,
        choosing=later("Look at the log below: it says why. Another environment may help."),
        unread=_UNREAD,
    ),
    "quota": Told(
        later("There was no room left to write to."),
        later("Your home folder, or a disk that the session writes to, is full."),
        later("Remove files that you do not need, then start again; ask the support for more room."),
        remedies.make_room,
    ),
    "folder": Told(
        later("The folder that was asked for can not be opened."),
        later("It is not there on the node, or not yours to open."),
        later("Choose another folder, or leave it empty for your home."),
        remedies.no_folder,
    ),
    "hub-away": Told(
        later("The node could not reach the hub."),
        later("Something between node and hub is in the way."),
        later("Start again; tell the support if it happens twice."),
        remedies.retry,
    ),
    "environment": Told(
        later("The software environment does not work on the node."),
        later("A program, module or package that the notebook server needs is missing there."),
        later("Show the log below to the support: there is no other environment to choose."),
        remedies.mended_environment,
        choosing=later("Choose another environment, and show the log below to whoever made this one."),
    ),
    "launch-failed": Told(
        later("The node could not start the job."),
        later("Something on the node failed before any program of yours ran."),
        later("Start again; tell the support if it happens twice."),
        remedies.retry,
    ),
    "node-fail": Told(
        later("The node that it ran on failed."),
        later("Nothing that you did was the cause."),
        later("Start again: Slurm will choose another node."),
        remedies.retry,
    ),
    "out-of-memory": Told(
        later("The job needed more memory than it had."),
        later("Slurm ends what takes more than was asked for."),
        later("Start again with more memory."),
        remedies.more_memory,
    ),
    "preempted": Told(
        later("The job made way for one of higher priority."),
        later("Sessions like this one run only while nobody with a higher claim needs their place."),
        later("Start again; it will wait for its turn."),
        remedies.retry,
    ),
    "requeued": Told(
        later("The job was put back into the queue, which ended its notebook server."),
        later("An operator or the system did that, for a repair say."),
        later("Your files are safe: start again."),
        remedies.retry,
    ),
    "revoked": Told(
        later("The job was taken over by another cluster."),
        "",
        later("Start again."),
        remedies.retry,
    ),
    "timeout": Told(
        later("The job reached the end of its time."),
        later("It had as much as was asked for, and was not ready by then."),
        later("Start again, with more time if you need it."),
        remedies.more_time,
    ),
    "time-over": Told(
        later("The job reached the end of its time."),
        later("It had as much as was asked for."),
        later("Start again, with more time if you need it."),
        remedies.more_time,
    ),
    "vanished": Told(
        later("Neither Slurm's queue nor its accounting knows the job any more."),
        later("Slurm may have been restarted and have lost it."),
        later("Start again; tell the support if it happens twice."),
        remedies.retry,
    ),
    "ended": Told(
        later("The job ended (Slurm says: %(state)s)."),
        "",
        later("Start again."),
        remedies.retry,
    ),
    # Served, and ended by itself
    "shut-down": Told(
        later("The session was shut down from within: by you, or by a program in it."),
        "",
        later("Start again whenever you like."),
        remedies.retry,
    ),
    "server-failed": Told(
        later("The session's notebook server failed."),
        "",
        later("Start again; tell the support if it happens twice."),
        remedies.retry,
    ),
    "idle": Told(
        later("Nothing happened in it for %(minutes)s, so it was stopped."),
        later(
            "The hub stops idle sessions to free their place for others (after hub.idle_limit, which the site sets). What was"
            " saved is kept; what was only in memory is gone."
        ),
        later(
            "Start again whenever you like. What computes by itself or is typed counts as use; an open page does not."
        ),
        remedies.retry,
    ),
    "stopped-by": Told(
        later("It was stopped by %(who)s."),
        later("That is an operator or a service of the hub, and not you. What was saved is kept."),
        later("Ask the support why, or start again."),
        remedies.retry,
    ),
    "unattended": Told(
        later("Nobody came within %(minutes)s, so it was released."),
        later("A session that nobody opens keeps its place from others."),
        later("Start again when you are there."),
        remedies.retry,
    ),
}
"""Every way to fail or to end, by name."""
