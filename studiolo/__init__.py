"""Studiolo: notebooks on a supercomputer's GPU nodes. The names here are the ones that notebook users type."""

from studiolo.session import Session, session

__all__ = ["Session", "session"]
