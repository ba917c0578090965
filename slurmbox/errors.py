"""Every error that slurmbox raises on purpose: one sentence on what is wrong, one on what to do."""

from __future__ import annotations


class BoxError(Exception):
    """Something an operator can mend; the message says how."""


class InstanceError(BoxError):
    """``instance.json`` or the state folder can't be used as it is."""


class MissingPackages(BoxError):
    """Programs of the embedded cluster are not installed."""


class NotReady(BoxError):
    """A daemon did not answer in time; the message quotes the end of its log."""


class CommandFailed(BoxError):
    """A helper program ended with an error; the message holds its own words."""


class SupervisorError(BoxError):
    """The process supervisor can't be reached or refused a request."""
