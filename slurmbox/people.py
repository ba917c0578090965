"""The demo people: two small companies, a researcher, a trainer, an operator and a class, of thirty unless asked otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["company", "researcher", "trainer", "operator", "learner"]

CLASS_SIZE = 30


@dataclass(frozen=True)
class Person:
    """One demo person: a unix account of the name ``name``, charged to ``default_account`` unless they say otherwise."""

    name: str
    full_name: str
    role: Role
    group: str  # the company or institution, in words
    accounts: tuple[str, ...]  # Slurm accounts they may charge
    default_account: str


_PLAYGROUND = ("playground",)
_COMPANY = ("playground", "fast-lane")
_RESEARCH = ("playground", "fast-lane", "large-scale")
_TRAINING = ("playground", "large-scale")

_INDIVIDUALS = (
    Person("ada", "Ada Keller", "company", "Aurora Market", _COMPANY, "playground"),
    Person("ben", "Ben Rossi", "company", "Aurora Market", _COMPANY, "playground"),
    Person("clara", "Clara Weber", "company", "Lumen Orbit", _COMPANY, "playground"),
    Person("dan", "Dan Muller", "company", "Lumen Orbit", _COMPANY, "playground"),
    Person("emil", "Emil Novak", "researcher", "University", _RESEARCH, "playground"),
    Person("tess", "Tess Laurent", "trainer", "Training Centre", _TRAINING, "playground"),
    Person("otto", "Otto Brandt", "operator", "Computing Centre", _PLAYGROUND, "playground"),
)


def tagged(name: str, tag: str) -> str:
    """``name`` as it is on an instance with this tag: ``ada`` or ``ada-x3f2``."""
    return f"{name}-{tag}" if tag else name


def demo_people(tag: str = "", class_size: int = CLASS_SIZE) -> tuple[Person, ...]:
    """All demo people, their names carrying the instance's tag."""
    learners = tuple(
        Person(f"learner{n:02}", f"Learner {n:02}", "learner", "Class", _PLAYGROUND, "playground")
        for n in range(1, class_size + 1)
    )
    return tuple(
        Person(tagged(p.name, tag), p.full_name, p.role, p.group, p.accounts, p.default_account)
        for p in _INDIVIDUALS + learners
    )
