"""JSON Web Tokens with which slurmrestd takes the hub for one account: short-lived, renewed in time, never shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jwt

from studiolo.errors import LauncherFailed

__all__ = ["Tokens"]

LIFETIME_SECONDS = 240
# A token must outlive its question: slurmctld looks at it last, after slurmrestd and all queues before it.
SPARE_SECONDS = 90
PROBE_SECONDS = 86400
MIN_KEY_BYTES = 32


@dataclass(frozen=True)
class _Token:
    text: str = field(repr=False)
    ends: float


class Tokens:
    """Mints tokens from the key file that slurmctld has too (``AuthAltParameters=jwt_key=…``); HS256, claim ``sun``.

    The key is read whenever a token is made, and kept nowhere: a changed key counts within minutes.
    """

    def __init__(self, key_file: Path, clock: Callable[[], float] = time.time) -> None:
        self.key_file = key_file
        self._clock = clock
        self._tokens: dict[str, _Token] = {}

    def token(self, person: str) -> str:
        """A token for ``person``, good for a minute and a half at least and four minutes at most.

        Raises :class:`LauncherFailed` where the key can not be read.
        """
        now = self._clock()
        known = self._tokens.get(person)
        # A clock that was set back must not keep a token alive that slurmctld's has outlived.
        if known is None or not now + SPARE_SECONDS <= known.ends <= now + LIFETIME_SECONDS:
            known = _Token(self._mint(person, now, LIFETIME_SECONDS), now + LIFETIME_SECONDS)
            self._tokens = {name: token for name, token in self._tokens.items() if token.ends > now}
            self._tokens[person] = known
        return known.text

    def probe(self, person: str) -> str:
        """A token that slurmctld takes though its clock is hours ahead, for asking how far ahead it is. Not kept."""
        return self._mint(person, self._clock(), PROBE_SECONDS)

    def _mint(self, person: str, now: float, seconds: int) -> str:
        action = "sign in to slurmrestd"
        try:
            key = self.key_file.read_bytes()
        except OSError as error:
            raise LauncherFailed(action, f"the key {self.key_file} can not be read: {error.strerror}") from None
        if len(key) < MIN_KEY_BYTES:
            raise LauncherFailed(action, f"the key {self.key_file} has {len(key)} bytes; {MIN_KEY_BYTES} are needed")
        return jwt.encode({"iat": int(now), "exp": int(now + seconds), "sun": person}, key, algorithm="HS256")
