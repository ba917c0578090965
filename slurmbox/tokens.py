"""JSON Web Tokens for Slurm (``auth/jwt``), made from the cluster's own key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

from slurmbox.instance import Instance


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mint(key: bytes, user: str, *, lifetime_s: int, now: float | None = None) -> str:
    """A token with which slurmrestd takes its bearer for ``user``, for ``lifetime_s`` seconds. HS256."""
    issued = int(time.time() if now is None else now)
    head = _b64(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
    body = _b64(json.dumps({"iat": issued, "exp": issued + lifetime_s, "sun": user}, separators=(",", ":")).encode())
    signature = hmac.new(key, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{_b64(signature)}"


def token(instance: Instance, user: str, *, lifetime_s: int = 60) -> str:
    """A token for one account of this instance. Only root may read the key."""
    return mint(instance.jwt_key.read_bytes(), user, lifetime_s=lifetime_s)
