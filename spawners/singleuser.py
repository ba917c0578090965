"""On the compute node: exchange the job's one-time secret for an environment, serve, and say when the server listens.

Started by the batch script as ``python -I -m spawners.singleuser``. The port is bound once and kept (choosing one,
closing it and binding it again, as stock does, loses it to a neighbour on a shared node), and reported from the event
loop's first turn, when the server does listen.

The hub may be away for a while: what can not be told or asked now is tried again for some minutes. A hub that came back
and does not know this server's token awaits its secret again: then this program begins once more from the start.
"""

from __future__ import annotations

import atexit
import errno
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spawners.identity import VISITOR, Identity, certificate_request, keep, session_context, visitor_context
from studiolo import modelcache

EXCHANGE_SECONDS = 30
HUB_AWAY_SECONDS = 120  # a hub that is away longer is not just being restarted
LONGEST_PAUSE_SECONDS = 5.0
GIVEN = ("STUDIOLO_HUB", "STUDIOLO_BOOTSTRAP", *VISITOR)
ONLY_THE_HUB = "this program starts a session's server; only the hub can start it"
# People can not write to the shared environment, and nodes may not reach PyPI: offer no extensions to install. Executed
# notebooks of batch runs lie in a hidden folder of their home: what is opened by its address is shown, the file browser
# still lists it only for those who have chosen so.
SERVER_ARGUMENTS = [
    "--LabApp.extension_manager=readonly",
    "--ContentsManager.allow_hidden=True",
    # What passes between server and kernels is signed, and readable: over TCP by everybody on the node. Files are their owner's.
    "--KernelManager.transport=ipc",
]
LONGEST_RUNTIME = 50
"""Of the 107 bytes that the name of a socket may have, Jupyter adds some fifty to that of the folder."""
TRIES = 200


def main() -> None:
    """Become this session's notebook server. Every failure is one sentence in the job's log and exit status 1."""
    begun_with = dict(os.environ)
    try:
        given = {name: os.environ.pop(name, "") for name in GIVEN}
        door = front_door(given)
        granted = exchange(given["STUDIOLO_HUB"], given["STUDIOLO_BOOTSTRAP"], door)
        os.environ.update(granted.environment)
        if minutes := os.environ.pop("STUDIOLO_MINUTES", ""):
            os.environ["STUDIOLO_ENDS"] = str(int(time.time()) + 60 * int(minutes))
        os.environ.update(scratch_environment(os.environ.pop("STUDIOLO_SCRATCH", "/tmp")))
        if granted.identity is not None:
            os.environ.update(keep(granted.identity, os.environ["TMPDIR"]))
        os.environ.update(keep_outline(granted.outline, os.environ["TMPDIR"]))
        # Beside everything else: a slow file system of models is no reason to keep somebody waiting.
        threading.Thread(target=find_models, args=(os.environ.pop("STUDIOLO_MODELS", ""),), daemon=True).start()
        enter(os.environ.pop("STUDIOLO_WORKDIR", ""))
        ports = os.environ.pop("STUDIOLO_PORTS", "")
    except SessionError as error:
        sys.exit(f"studiolo: {error}")
    serve(ports, begun_with)


class SessionError(Exception):
    """Why the session can not begin, as a sentence for its owner."""


def front_door(given: Mapping[str, str]) -> ssl.SSLContext | None:
    """How the hub is reached with what came with the job: ``None`` where hub and sessions talk plain http."""
    if not given["STUDIOLO_HUB"].startswith("https://"):
        return None
    try:
        return visitor_context(given)
    except (ValueError, OSError) as error:
        raise SessionError(ONLY_THE_HUB) from error


@dataclass(frozen=True)
class Granted:
    """What the hub gives a session that has begun: its environment, what proves it to others (``None`` without TLS), and what
    it may know of the site (:mod:`studiolo.outline`)."""

    environment: dict[str, str]
    identity: Identity | None
    outline: str


def exchange(hub: str, secret: str, door: ssl.SSLContext | None = None) -> Granted:
    """Fetch what this session is granted from the hub, for the one-time secret. Raises :class:`SessionError`.

    Where hub and sessions talk over TLS, ``door`` lets this program in, and the hub signs a certificate for a key that
    is made here and goes nowhere.
    """
    if not hub or not secret:
        raise SessionError(ONLY_THE_HUB)
    body, key = {"secret": secret}, ""
    if door is not None:
        key, body["csr"] = certificate_request()
    try:
        with persistently(lambda: post(f"{hub}/studiolo/bootstrap", body, context=door)) as told:
            answer = json.load(told)
    except urllib.error.HTTPError as error:
        raise SessionError(
            f"the hub refused this session ({error.code}): it was stopped, or has begun already"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SessionError(f"the hub at {hub} can not be reached from this node ({error}): tell the support") from error
    environment = answer.get("environment") if isinstance(answer, dict) else None
    names = ("outline", *(("certificate", "authorities") if key else ()))
    texts = [answer.get(name) for name in names] if isinstance(answer, dict) else []
    if not isinstance(environment, dict) or not all(isinstance(text, str) for text in texts):
        raise SessionError(f"something else than the hub answers at {hub}: tell the support")
    outline, *signed = map(str, texts)
    identity = Identity(key, *signed) if key else None
    return Granted({str(name): str(value) for name, value in environment.items()}, identity, outline)


def post(url: str, body: dict[str, Any], token: str = "", context: ssl.SSLContext | None = None) -> Any:
    """Send JSON and return the open answer. Goes straight to the hub, whatever proxy the environment names."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"token {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the hub's own address
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers).open(request, timeout=EXCHANGE_SECONDS)


def persistently(ask: Callable[[], Any], pause: float = 0.5) -> Any:
    """Ask the hub until it answers, for some minutes; what it refuses (4xx) is not asked twice."""
    deadline = time.monotonic() + HUB_AWAY_SECONDS
    told = False
    while True:
        try:
            return ask()
        except (OSError, http.client.HTTPException) as error:  # HTTPError is an OSError
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            # Whoever has no certificate of ours does not get one by waiting.
            stranger = isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
            if refused or stranger or time.monotonic() > deadline:
                raise
            if not told:
                told = True
                print(f"studiolo: the hub does not answer ({error}); asking again", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def scratch_environment(parent: str) -> dict[str, str]:
    """Make this session's own temporary folder, gone at its end, and point Jupyter's runtime files there.

    They hold the kernels' keys; in a home on a network file system they are slow and stay behind.
    """
    try:
        folder = tempfile.mkdtemp(prefix=f"studiolo-{os.environ.get('SLURM_JOB_ID', 'none')}-", dir=parent)
    except OSError as error:
        raise SessionError(f"the node's temporary folder {parent} can not be used ({error.strerror})") from error
    owner, made = os.getpid(), [folder]

    def clean() -> None:
        if os.getpid() == owner:  # not in a forked child
            for each in made:
                remove_scratch(each)

    atexit.register(clean)
    runtime = f"{folder}/runtime"
    if len(os.fsencode(runtime)) <= LONGEST_RUNTIME:
        os.mkdir(runtime, 0o700)
    else:
        runtime = tempfile.mkdtemp(prefix=f"studiolo-{os.environ.get('SLURM_JOB_ID', 'none')}-", dir="/tmp")
        made.append(runtime)
    return {"JUPYTER_RUNTIME_DIR": runtime, "TMPDIR": folder}


def keep_outline(outline: str, folder: str) -> dict[str, str]:
    """Write what the session may know of the site into its own folder, for its kernels."""
    path = f"{folder}/site.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(outline)
    return {"STUDIOLO_OUTLINE": path}


def find_models(folders: str) -> None:
    """Make the cache of models that the job's script names lead to all that are at hand (:mod:`studiolo.modelcache`)."""
    overlay = Path.home() / modelcache.OVERLAY
    if not folders or os.environ.get("HF_HUB_CACHE") != str(overlay):
        return  # the environment has a place of its own
    try:
        modelcache.fill(overlay, modelcache.sources(folders.split(os.pathsep), os.environ))
    except OSError as error:
        print(f"studiolo: models are not linked in {overlay} ({error.strerror})", file=sys.stderr, flush=True)


def remove_scratch(folder: str) -> None:
    """Remove the session's temporary folder; what is in use on a network file system may stay."""
    shutil.rmtree(folder, ignore_errors=True)


def enter(workdir: str) -> None:
    """Change to the folder that was asked for, or stay at home."""
    home = Path.home()
    target = home / ("" if workdir == "~" else workdir.removeprefix("~/"))
    try:
        os.chdir(target)
    except OSError as error:
        raise SessionError(f"the folder {target} can not be opened ({error.strerror}): choose another one") from error


def candidates(ports: str) -> Iterator[int]:
    """Ports to try, from a ``first-last`` range, in random order: neighbours on the node rarely meet."""
    first, last = map(int, ports.split("-"))
    return iter(random.sample(range(first, last + 1), min(TRIES, last - first + 1)))


def bind(ports: str, address: str = "") -> list[socket.socket]:
    """Bind the first free port of the range and keep it. Raises ``OSError`` where none is free."""
    from tornado.netutil import bind_sockets

    for port in candidates(ports):
        try:
            return bind_sockets(port, address, family=socket.AF_INET)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # an address that is not this node's, say: no port will help
                raise
    raise OSError(f"no free port among {ports} on this node")


def serve(ports: str, begun_with: Mapping[str, str]) -> None:
    """Run JupyterHub's server with our way of listening. ``begun_with`` is the environment to begin again with."""
    # Imported late: the exchange above must fail within milliseconds where it fails.
    from spawners.lean import import_server
    from spawners.tabs import let_tabs_in_together

    server_app, single_user = import_server()
    let_tabs_in_together()

    class SessionServer(server_app):  # type: ignore[misc, valid-type]  # imported late
        """A server whose port is bound once, kept, and reported when it listens."""

        def _find_http_port(self) -> None:
            try:
                self.bound = bind(ports, self.ip)
            except OSError as error:
                self.log.critical("studiolo: %s: tell the support", error)
                self.exit(1)
            self.port = self.bound[0].getsockname()[1]

        def _bind_http_server_tcp(self) -> bool:
            self.http_server.add_sockets(self.bound)
            self.io_loop.run_in_executor(None, report, self.port, begun_with)
            return True

    single_user.serverapp_class = SessionServer
    single_user.launch_instance(argv=SERVER_ARGUMENTS)


def report(port: int, begun_with: Mapping[str, str]) -> None:
    """Tell the hub the port. Where it refuses, begin again; where it stays away, end, with the reason in the log."""
    url = f"{os.environ['JUPYTERHUB_API_URL']}/studiolo/listening"
    try:
        persistently(lambda: post(url, {"port": port}, os.environ["JUPYTERHUB_API_TOKEN"], session_context()).close())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            begin_again(begun_with)
        end(error)
    except (OSError, http.client.HTTPException) as error:
        end(error)


def begin_again(begun_with: Mapping[str, str]) -> None:
    """Become this program anew: the hub has another token for this session, or none, which the exchange will tell."""
    print("studiolo: the hub was restarted meanwhile; beginning again", file=sys.stderr, flush=True)
    remove_scratch(os.environ["TMPDIR"])
    os.execve(sys.executable, sys.orig_argv, dict(begun_with))  # noqa: S606 - this very program


def end(error: Exception) -> None:
    """End the server: nobody will ever find it."""
    print(f"studiolo: the hub did not take this session's port ({error}); it ends here", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
