"""The spawner: one person's session as one Slurm job, over batchspawner's.

From batchspawner it keeps the traits, the place of the job's number in the state, and its role; how a job is rendered,
submitted, followed, reported and cancelled is ours, because stock leaves open what a centre can not: options from
REST reach the script unchecked, every error of ``squeue`` counts as "gone", a number is only saved once the server
runs, a job that dies before its server answers is waited for until the time-out.

The way of a start::

    options ──gate──> Request ──script──> sbatch (as the person) ──> job number
        job ──one-time secret──> hub: environment with the API token   (spawners/handlers.py)
        job ──API token, port──> hub: it listens
    watcher ──state, node──> here ──> address of the server

What a restarted hub needs is in the database before each step that can not be taken back: the session's name before the
submission, the job's number after it, the node once the server listens. So a start that a hub's end has cut off is taken
up again by the next hub process (spawners/adoption.py), whatever it had come to.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import batchspawner
from jupyterhub import orm
from jupyterhub.utils import url_escape_path, url_path_join
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session
from tornado import web
from traitlets import Dict, Integer, Unicode, default

from spawners import form, sessionlog
from spawners.adoption import CutOff, begin_again
from spawners.causes import Cause
from spawners.certificates import authority_in, public_key, session_names
from spawners.engine import Engine, digest, engine_for
from spawners.explain import Explanation, WhoCancelled, explain
from spawners.failure import RequestRefused, SessionFailed, ended, not_saved, not_submitted, silent
from spawners.metrics import ESTIMATE_ERROR, QUEUE_WAIT
from spawners.progress import STEPS, Forecast, Moment, asked_words, news
from spawners.release import limit_of, released_minutes
from spawners.rightsize import Used, record
from spawners.room import must_have_room
from spawners.tidy import tidy_up
from spawners.usage import Usage
from studiolo.errors import RequestError, SlurmError, SlurmUnavailable
from studiolo.language import _
from studiolo.request import Request, carried, check
from studiolo.script import render
from studiolo.session_job import session_job, session_log
from studiolo.slurm.states import JobState, Tagged

__all__ = ["NotPlaced", "StudioloSpawner"]

STOP_SECONDS = 60
PLACE_SECONDS = 10  # at most twice in a row: less than the node waits for an answer
FIRST_ANSWER_SECONDS = 5  # JupyterHub gives all sessions together 10 s when it starts
SUBMISSION_SECONDS = 30  # the launcher's own limit is shorter: beyond it, nobody is submitting any more
SEARCH_PAUSE_SECONDS = 2
NEWS_SECONDS = 2
BEGIN_AGAIN_SECONDS = 900  # lifetime of the token with which the hub asks itself to go on with a start


class NotPlaced(Exception):
    """Slurm does not say (yet) on which node a job runs."""

    def __init__(self) -> None:
        super().__init__("Slurm does not say yet where this job runs: ask again")


class StudioloSpawner(batchspawner.BatchSpawnerBase):  # type: ignore[misc]  # batchspawner has no types
    """Starts, follows and stops one session. Configured by the site file alone."""

    site_file = Unicode(help="Path of the site file.", config=True)

    cluster = Unicode(help="The cluster that the job runs on.")
    session_id = Unicode(help="Random name of this start, in the job's comment; no secret.")
    log_id = Unicode(help="Random name of its log, which nobody can know before the log is there.")
    secret_digest = Unicode(help="Digest of the one-time secret that the job brings.")
    node = Unicode(help="The node that the session runs on, once its server listens.")
    address = Unicode(help="How the hub reaches that node.")
    served_port = Integer(help="The port that the server listens on there; 0 until it does.")
    asked_at = Integer(help="When the session was asked for, in seconds since 1970.")
    last_end = Dict(
        help="How the last session ended that its owner did not stop: job, state, node, its log, or who stopped it."
    )
    last_use = Dict(help="What the last session asked for and used (spawners/rightsize.py).")

    request: Request | None = None
    usage: Usage | None = None  # as the session's own server last reported it
    looked_at = 0.0  # when its owner last looked at it, in seconds since 1970
    extend_from = 0.0  # no further extension before, by the monotonic clock
    _listening: asyncio.Future[int] | None = None
    _recorded: asyncio.Future[None] | None = None
    _submission: asyncio.Task[int] | None = None
    _end: asyncio.Task[None] | None = None
    _keep_log = False
    _tidying = False
    _ticket = ""  # at the door to the scheduler
    _submitted: float | None = None  # when, if by this hub process
    _foretold: float | None = None  # when it would start, by what its owner could know then
    _forecast = Forecast()
    last_cluster = ""  # of the last start, which a failed one forgets
    waited_for = ""  # Slurm's last word for why the last start waited
    has_listened = False  # the last start had come to a server that listens
    ending: tuple[object, Cause | None] | None = None  # why the last start or session ended, once somebody has asked
    released: tuple[float, int] | None = None  # when it reported that nobody came within so many minutes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.who_cancelled = WhoCancelled()

    @property
    def engine(self) -> Engine:
        """What all spawners of this hub share."""
        return engine_for(self.site_file)

    @property
    def job(self) -> int | None:
        """The job's number while there is one."""
        return int(self.job_id) if self.job_id else None

    @property
    def last_state(self) -> JobState | None:
        """What Slurm last said of the job; ``None`` without one, or before it said anything."""
        watcher = self.engine.watchers.get(self.cluster)
        return watcher.state(self.job) if watcher is not None and self.job is not None else None

    # --- Options: the gate -------------------------------------------------------------------------------------------

    @default("apply_user_options")
    def _default_gate(self) -> Callable[..., None]:
        return StudioloSpawner.take_options

    def take_options(self, options: Mapping[str, object] | None) -> None:
        """Pass options through the gate; they set :attr:`request` and nothing else. Raises :class:`RequestRefused`."""
        self.request = None
        try:
            self.request = self.checked(options)
        except RequestRefused:
            # The site has changed while the hub was away: what waits to go on is not granted any more.
            self._give_up(self.engine.cut_off.take(self.user.name, self.name))
            raise

    def checked(self, options: Mapping[str, object] | None) -> Request:
        """Return the request that options describe. Raises :class:`RequestRefused` (400)."""
        try:
            return check(options, self.engine.site)
        except RequestError as error:
            raise RequestRefused(error) from error

    @property
    def request_now(self) -> Request | None:
        """What this session asks for; of one that an earlier hub process started, what its options ask for today."""
        if self.request is None and self.job is not None:
            with suppress(RequestRefused):
                self.request = self.checked(self.user_options)
        return self.request

    @default("options_form")
    def _default_form(self) -> Callable[..., str]:
        return StudioloSpawner.render_form

    def render_form(self) -> str:
        """The bare form with the last choice. The start page makes its own (spawners/named.py)."""
        return form.render(self.engine.site, self.user_options or {})

    @default("options_from_form")
    def _default_options_from_form(self) -> Callable[..., dict[str, object]]:
        return self.read_form

    def read_form(self, data: Mapping[str, list[str]]) -> dict[str, object]:
        """Form data -> options, refused here already so that the page can say so."""
        options = form.options(data)
        self.checked(options)
        must_have_room(self.engine.site)
        return options

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, object]:
        """Options in an address never start anything: the start page takes them itself, and nobody else may."""
        raise SessionFailed(_("A link can not start a session."), _("Open the start page."), reason="link", status=400)

    # --- Start -------------------------------------------------------------------------------------------------------

    @default("server_token_scopes")
    def _default_token_scopes(self) -> Callable[..., object]:
        return StudioloSpawner.take_turn

    def take_turn(self) -> Awaitable[list[str]]:
        """Wait at the door to the scheduler, before JupyterHub writes a start down some ten times.

        It asks here which scopes a server's token shall have: its own choice, says the empty list. With sixty starts at
        once the last one's paperwork would otherwise be done before the first one's job is submitted, on one processor
        while the others have nothing to do.
        """
        self._commit()  # whatever waits with uncommitted changes has them rolled back by the next request
        start = asyncio.current_task()
        assert start is not None
        ticket = self._ticket = secrets.token_hex(8)
        start.add_done_callback(
            lambda _done: self.engine.door.leave(ticket)
        )  # whatever becomes of it before it submits
        return self._own_turn(ticket)

    async def _own_turn(self, ticket: str) -> list[str]:
        await self.engine.door.enter(ticket)
        return []

    async def start(self) -> str:
        """Submit the job, or take up one that was cut off, and wait until its server listens; return the address."""
        if self.request is None:
            self.take_options(self.user_options)
        assert self.request is not None
        self._keep_log = False
        self.last_end = {}
        self._submitted = None
        self._forecast, self.waited_for, self.has_listened, self.released = Forecast(), "", False, None
        listening = self._listening = asyncio.get_running_loop().create_future()
        recorded = self._recorded = asyncio.get_running_loop().create_future()
        cut_off = self.engine.cut_off.take(self.user.name, self.name)
        if cut_off is not None and dict(cut_off.options) != dict(self.user_options):
            self._give_up(cut_off)
            cut_off = None  # its owner was faster than the hub, and wants something else now
        try:
            work = self._submit(self.request) if cut_off is None else self._take_up(self.request, cut_off)
            self._submission = asyncio.ensure_future(work)
            try:
                job = await asyncio.shield(self._submission)
                state = await self._until_listening(job)
            except SlurmError as error:
                self.log.error("%s: %s", self._log_name, error)
                raise not_submitted(error, self.engine.site.support) from error
            self.address = await self._find_address(state.node)
            self.node, self.served_port = state.node, listening.result()
            self._save()
        except BaseException:
            recorded.cancel()
            raise
        finally:
            self.engine.withdraw(self.secret_digest)
        recorded.set_result(None)
        if self._submitted and state.start:
            QUEUE_WAIT.labels(self.cluster).observe(max(0.0, state.start - self._submitted))
            if self._foretold is not None:
                ESTIMATE_ERROR.labels(self.cluster).observe(state.start - self._foretold)
        self.has_listened = True
        self.engine.watchers[self.cluster].settle(job)
        self.log.info("%s listens: job %d on %s port %d", self._log_name, job, self.node, self.served_port)
        return self._url()

    def _url(self) -> str:
        return f"{'https' if self.internal_ssl else 'http'}://{_bracketed(self.address)}:{self.served_port}"

    async def get_url(self) -> str:
        """The server's address, for a hub that finds it running: the last one may have ended before it knew."""
        return f"{self._url()}{self.server.base_url}" if self.served_port else str(await super().get_url())

    async def _submit(self, request: Request) -> int:
        """Submit a new job. Its name is in the database before it is in the queue, its number as soon as there is one."""
        site = self.engine.site
        self.cluster = request.cluster
        self.asked_at = int(time.time())
        self.session_id, self.log_id = secrets.token_hex(8), secrets.token_hex(16)
        self.job_id = ""
        secret = secrets.token_urlsafe(32)
        self.secret_digest = digest(secret)
        self._save()
        self._expect()
        script = render(request, site, session_job(site, request, self.session_id, self.log_id))
        environment = {"STUDIOLO_HUB": self.hub_url(), "STUDIOLO_BOOTSTRAP": secret, **self.visitor()}
        await self.engine.door.enter(self._ticket)
        self._foretold = self.engine.choosing.expected(request, self.user.name)
        try:
            job = await self.engine.slurm[self.cluster].submit(self.user.name, script, environment)
        except SlurmUnavailable:
            self.engine.look_for_orphans(self.cluster)  # Slurm may have taken it all the same
            raise
        finally:
            self.engine.door.leave(self._ticket)
        self._submitted = time.time()
        self._follow(job)
        self.log.info("%s submitted as job %d on %s", self._log_name, job, request.partition)
        return job

    async def _take_up(self, request: Request, cut_off: CutOff) -> int:
        """Go on with a start of an earlier hub process: with its job, or, where none came of it, with a new one."""
        self.engine.door.leave(self._ticket)  # it may wait in the queue for hours, and a new submission enters again
        self.load_state(dict(cut_off.state))
        self._expect()
        job = self.job or await self._search()
        if job is None:
            self.log.info("%s: the start that was cut off had not come to a job; submitting anew", self._log_name)
            self.engine.withdraw(self.secret_digest)
            return await self._submit(request)
        self._follow(job)
        self.log.info("%s goes on with job %d, which the last hub process submitted", self._log_name, job)
        return job

    async def _search(self) -> int | None:
        """Find the job of a submission whose answer nobody has heard, by its comment; ``None`` where there is none."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SUBMISSION_SECONDS
        while True:
            try:
                found = await self.engine.slurm[self.cluster].tagged()
                if jobs := [tagged.job for tagged in found if self._is_mine(tagged)]:
                    return jobs[0]
                if loop.time() > deadline:
                    return None
            except SlurmUnavailable as error:
                self.log.warning("%s: %s", self._log_name, error)
            await asyncio.sleep(SEARCH_PAUSE_SECONDS)

    async def _find_address(self, node: str) -> str:
        """How the hub reaches the node. While Slurm does not answer, the session runs on and is asked for again."""
        while True:
            try:
                return await self.engine.slurm[self.cluster].node_address(node)
            except SlurmError as error:
                self.log.warning("%s: %s", self._log_name, error)
            await asyncio.sleep(SEARCH_PAUSE_SECONDS)

    def _is_mine(self, tagged: Tagged) -> bool:
        """Whether this is the session's own job. Anybody can write its comment into a job, but only into their own."""
        return (tagged.kind, tagged.person, tagged.name) == ("session", self.user.name, self.session_id)

    def _give_up(self, cut_off: CutOff | None) -> None:
        """Leave a start that was cut off to the sweeper of orphans."""
        if cut_off is not None:
            self.engine.look_for_orphans(str(cut_off.state["cluster"]))

    def _expect(self) -> None:
        self.last_cluster = self.cluster
        self.ip = self.engine.site.clusters[self.cluster].listen
        self.engine.expect(self.secret_digest, self)

    def _follow(self, job: int) -> None:
        self.job_id = str(job)
        self._save()
        self.engine.watchers[self.cluster].follow(job)

    def _save(self) -> None:
        """Commit the state now."""
        self.orm_spawner.state = self.get_state()
        self._commit()

    def _commit(self) -> None:
        """Write down what has changed. Not through Spawner.db, which JupyterHub means to remove."""
        database = object_session(self.orm_spawner)
        if database is None:  # the hub has deleted this server
            return
        try:
            database.commit()
        except SQLAlchemyError as error:
            database.rollback()
            self.log.error("%s: the hub's database can not be written: %s", self._log_name, error)
            if self.job is None:  # else stop() sees to it, once the job is over
                self._see_tidied()
            raise not_saved(self.engine.site.support) from error

    def _see_tidied(self) -> None:
        """Have JupyterHub's cleaning up repeated until it has succeeded."""
        if not self._tidying:
            self._tidying = True
            self.engine.keep(tidy_up(self))

    def hub_url(self) -> str:
        """The hub's API as compute nodes reach it."""
        return str(self.get_env()["JUPYTERHUB_API_URL"])

    async def _until_listening(self, job: int) -> JobState:
        """Wait for the server to listen on a running job. Raises :class:`SessionFailed` as soon as the job is over."""
        assert self._listening is not None
        watcher = self.engine.watchers[self.cluster]
        changes = watcher.changes(job)
        limit = self.engine.site.hub.listen_limit * 60
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        state: JobState | None = None
        change: asyncio.Task[JobState] | None = None
        try:
            while not (self._listening.done() and state and state.node and not state.is_pending):
                change = change or asyncio.ensure_future(_next(changes))
                waiting_for: set[asyncio.Future[Any]] = (
                    {change} if self._listening.done() else {change, self._listening}
                )
                timeout = None if deadline is None else max(0.0, deadline - loop.time())
                done, _rest = await asyncio.wait(waiting_for, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if change in done:
                    state, change = change.result(), None
                    if state.is_pending:
                        self.waited_for = state.reason
                        self._forecast = self._forecast.heard(state.start, time.time())
                    if state.is_over:
                        self.log.error(
                            "%s: job %d ended as %s before its server answered", self._log_name, job, state.state
                        )
                        self._preserve_log()
                        raise ended(state, self.log_tail(), self.engine.site.support)
                    if state.is_pending and deadline is not None:
                        self.log.warning("%s: job %d was put back into the queue", self._log_name, job)
                        self.engine.expect(self.secret_digest, self)  # its server will begin once more
                        deadline = None
                    if state.state == "RUNNING" and deadline is None:
                        deadline = loop.time() + limit
                elif self._listening.done():
                    watcher.kick()
                elif not done:
                    self._preserve_log()
                    where, limits = state.node if state else "", self.engine.site.hub
                    raise silent(job, where, limits.listen_limit, self.log_tail(), self.engine.site.support)
            return state
        finally:
            if change is not None:
                change.cancel()

    @property
    def ports(self) -> range:
        """The ports that this session's server may listen on."""
        first, last = self.engine.site.clusters[self.cluster].ports
        return range(first, last + 1)

    async def listening(self, port: int) -> bool:
        """Take the port that this session's own server reports; no second one. ``False`` where none is awaited.

        Returns when it is in the database: a server that has heard this need not ask again, whatever the hub's fate. One
        that gave up waiting for the answer, since Slurm is slow to name the node, says the same once more.
        """
        listening, recorded = self._listening, self._recorded
        if listening is None or recorded is None or not self.secret_digest:
            return False
        if not listening.done():
            listening.set_result(port)
        elif listening.cancelled() or listening.result() != port:
            return False
        await asyncio.wait([recorded])
        return not recorded.cancelled()

    def session_environment(self) -> dict[str, str]:
        """The environment of the session's server, handed to its job in exchange for the one-time secret."""
        site = self.engine.site
        assert self.request is not None
        environment = {key: str(value) for key, value in self.get_env().items()}
        environment |= {
            "STUDIOLO_PORTS": f"{self.ports[0]}-{self.ports[-1]}",
            "STUDIOLO_MINUTES": str(self.request.minutes),
            "STUDIOLO_SCRATCH": site.paths.scratch,
            "STUDIOLO_MODELS": os.pathsep.join(site.catalogue.model_folders),
            "STUDIOLO_WORKDIR": self.request.workdir or "",
            "STUDIOLO_SESSION": self.session_id,
            "STUDIOLO_REQUEST": carried(self.request),
            "STUDIOLO_UNATTENDED_MINUTES": str(limit_of(site, self.user_options)),
        }
        return environment

    # --- TLS between hub and node ------------------------------------------------------------------------------------

    async def create_certs(self) -> dict[str, str]:
        """Nothing yet: the session makes its own key on its node, and the hub signs for it then (:meth:`certify`)."""
        return {}

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Nothing to move."""
        return paths

    def visitor(self) -> dict[str, str]:
        """What the job needs in its environment to trust the hub and to be let in to it; nothing without TLS inside."""
        if not self.internal_ssl:
            return {}
        hub = self.engine.site.hub
        return authority_in(self.internal_certs_location).visitor(hub.start_limit + hub.listen_limit)

    async def certify(self, request: str) -> dict[str, str]:
        """Sign a certificate for this session's server, for the node that Slurm runs its job on and for no other.

        Returns ``certificate`` and ``authorities`` (PEM). Raises ``RequestNotUsable``, :class:`NotPlaced`.
        """
        assert self.request is not None
        key = public_key(request)
        node = await self._node()
        try:
            address = await self.engine.slurm[self.cluster].node_address(node)
        except SlurmError as error:
            raise NotPlaced from error
        authority = authority_in(self.internal_certs_location)
        # Its owner may extend it, where the site allows that.
        minutes = self.request.minutes + self.engine.site.partitions[self.request.partition].max_extension
        certificate = authority.session(key, session_names(node, address), minutes)
        return {"certificate": certificate, "authorities": authority.trusted}

    async def _node(self) -> str:
        """The node that this session's job runs on, by Slurm's word; the watcher may know it a moment after the job does."""
        if self._submission is not None:
            await asyncio.wait([self._submission], timeout=PLACE_SECONDS)
        if self.job is None:
            raise NotPlaced
        watcher = self.engine.watchers[self.cluster]
        state = watcher.state(self.job)
        if not (state and state.runs_somewhere):
            watcher.kick()
        try:
            return await asyncio.wait_for(_place(watcher.changes(self.job)), PLACE_SECONDS)
        except asyncio.TimeoutError as error:
            raise NotPlaced from error

    # --- Its log -----------------------------------------------------------------------------------------------------

    def _preserve_log(self) -> None:
        """Keep this start's log for whoever has to explain the failure; old ones make room."""
        self._keep_log = True
        self.engine.sweep_logs()

    def log_path(self) -> str:
        """Where this session's log is, as the batch script names it; empty where the hub can not read it."""
        site = self.engine.site
        return session_log(site, self.session_id, self.log_id) if site.paths.logs and self.session_id else ""

    def log_tail(self, session_id: str = "", log_id: str = "") -> list[str]:
        """The last lines of a session's log, this one's if none is named; where the hub can not read it, where it is."""
        site = self.engine.site
        session_id, log_id = session_id or self.session_id, log_id or self.log_id
        if not session_id:
            return []
        if not site.paths.logs:
            return [_("(in your home folder: %(file)s)", file=session_log(site, session_id, log_id))]
        try:
            uid = pwd.getpwnam(self.user.name).pw_uid
        except KeyError:
            return []
        return sessionlog.tail(session_log(site, session_id, log_id), uid)

    # --- While it runs, and its end ----------------------------------------------------------------------------------

    def start_polling(self) -> None:
        """Learn of the session's end from the watcher, at once; JupyterHub would ask every server in turn."""
        self.stop_polling()
        self._end = asyncio.get_running_loop().create_task(self._notice_end())

    def stop_polling(self) -> None:
        """Care no longer."""
        if self._end is not None:
            self._end.cancel()
            self._end = None

    async def _notice_end(self) -> None:
        if self.job is None:
            return
        async for state in self.engine.watchers[self.cluster].changes(self.job):
            if state.is_over or state.is_pending:
                self.log.warning("%s: job %d is %s", self._log_name, state.job, state.state)
                self._end = None  # what comes now ends with stop_polling(), which must not cut it off
                await self.poll_and_notify()
                return

    async def poll(self) -> int | None:
        """``None`` while the job is, or may be, alive; else an exit status. Asks nobody: the watcher knows."""
        if self._submission is not None and not self._submission.done():
            return None
        if self._listening is None and (self.engine.cut_off.holds(self.user.name, self.name) or self._lay_aside()):
            return 1
        if self.job is None:
            return 0
        watcher = self.engine.watchers[self.cluster]
        watcher.follow_quietly(self.job)
        # Only a restarted hub knows nothing yet, and it asks before it opens: a job gone meanwhile must not look alive.
        state = watcher.state(self.job) or await watcher.first_answer(self.job, FIRST_ANSWER_SECONDS)
        if state is not None and state.is_pending and self.served_port:
            # An operator or a preemption has put it back into the queue: its server is gone, and its secret used up.
            self.last_end = {"job": state.job, "state": "REQUEUED", "node": "", "at": int(time.time())}
            await self.engine.cancel(self.cluster, self.user.name, state.job)
            return 1
        if state is None or not state.is_over:
            return None
        self.last_end = self._end_of(state)
        self._see_tidied()
        return state.exit_code or (0 if state.state == "COMPLETED" else 1)

    def _end_of(self, state: JobState) -> dict[str, Any]:
        """What is kept of an end, for whoever comes back: in the database, and the log where it may say why."""
        end: dict[str, Any] = {"job": state.job, "state": state.state, "node": state.node, "cluster": self.cluster}
        end |= {"served": bool(self.served_port), "at": int(state.end or time.time())}
        if minutes := released_minutes(self.released, state.state, state.end or time.time()):
            end["unattended"] = minutes
        if not self.served_port or state.state not in ("COMPLETED", "CANCELLED"):
            self._preserve_log()
            end |= {"session": self.session_id, "log": self.log_id}
        return end

    def _lay_aside(self) -> bool:
        """Have a start that the last hub process left behind go on, once JupyterHub has tidied up after it."""
        if not self.session_id or self.served_port:
            return False
        start = CutOff(self.user.name, self.name, self.get_state(), dict(self.user_options))
        if not self.engine.cut_off.lay_aside(start):
            return False
        self.log.warning("%s was being started when the hub ended; it goes on in a moment", self._log_name)
        self.engine.keep(self._begin_again(start))
        return True

    async def _begin_again(self, start: CutOff) -> None:
        scope = f"servers!server={start.person}/{start.server_name}"
        token = self.user.new_api_token(
            note="Going on with a start after the hub's own", expires_in=BEGIN_AGAIN_SECONDS, scopes=[scope]
        )
        try:
            taken_up = await begin_again(
                self.hub.api_url, token, start, lambda: self.engine.cut_off.holds(start.person, start.server_name)
            )
        finally:
            self._revoke(orm.APIToken.find(self._database, token))
        if not taken_up and self.engine.cut_off.take(start.person, start.server_name):
            self.engine.look_for_orphans(start.state["cluster"])

    async def stop(self, now: bool = False) -> None:
        """Cancel the job, pending or running, and wait until Slurm says it is over (not where ``now``)."""
        if self._submission is not None and not self._submission.done():
            await asyncio.wait([self._submission])
            if not self._submission.cancelled():
                self._submission.exception()  # whoever would have told it is gone: else asyncio complains of that
        job = self.job
        if job is None:
            return
        await self.engine.cancel(self.cluster, self.user.name, job)
        watcher = self.engine.watchers[self.cluster]
        watcher.follow(job)
        watcher.hurry(job)
        if not now:
            await self._until_over(job)
        self._see_tidied()

    async def _until_over(self, job: int) -> None:
        async def follow() -> None:
            async for state in self.engine.watchers[self.cluster].changes(job):
                if state.is_over:
                    return

        try:
            await asyncio.wait_for(follow(), STOP_SECONDS)
        except asyncio.TimeoutError:
            self.log.warning("job %d is cancelled, but Slurm did not confirm its end within %d s", job, STOP_SECONDS)

    def run_post_stop_hook(self) -> Any:
        """Revoke every token of this server: JupyterHub forgets one that an earlier hub process made."""
        for token in list(self.user.orm_user.api_tokens):
            if token.note == self.token_note:
                self._revoke(token)
        return super().run_post_stop_hook()

    async def _look_back(self, cluster: str, job: int, request: Request, seen: Usage | None) -> None:
        """Once accounting knows it, write down what a session used that has just ended."""
        ended, options = time.time(), dict(self.user_options)
        told = await self.engine.lookback[cluster].usage(job)
        kept, database = self.orm_spawner, self._database
        if told is None or object_session(kept) is None:  # deleted meanwhile
            return
        used = record(self.name, options, request, Used.found(told, seen, request.cpus), ended)
        # Meanwhile another session of this name may have begun, with a spawner object of its own.
        for spawner in (self, self.user.spawners.get(self.name)):
            if spawner is not None:  # its name may be deleted at this moment
                spawner.last_use = used
        kept.state = {**(kept.state or {}), "last_use": used}
        try:
            database.commit()
        except SQLAlchemyError as error:
            database.rollback()
            self.log.warning("%s: what it used was not written down: %s", self._log_name, error)

    # --- What is told meanwhile --------------------------------------------------------------------------------------

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Tell the waiting person what happens, from what is asked for everybody: each of them costs the scheduler nothing."""
        told: dict[str, Any] | None = None
        while (event := self.event()) is not None:
            news = {**event, "now": 0}
            if news != told:
                told = news
                yield event
            if self.job is None:
                await asyncio.sleep(NEWS_SECONDS / 4)
            else:
                watcher = self.engine.watchers[self.cluster]
                await watcher.change(self.job, NEWS_SECONDS)
                if self.job is not None and (state := watcher.state(self.job)) and state.is_pending:
                    await self.engine.facts[self.cluster].get()  # for the place in the line, which may change

    def event(self) -> dict[str, Any] | None:
        """What the waiting person is told at this moment, in words; ``None`` once the start is over."""
        event = news(moment := self._moment())
        return event and {**event, "asked_at": self.asked_at or None, "now": int(moment.now)}

    def _moment(self) -> Moment:
        now = time.time()
        if self.engine.door.holds(self._ticket) or (self._submission is not None and not self._submission.done()):
            return Moment(True, now, self.engine.door.ahead(self._ticket))
        if self.job is None:
            return Moment(False, now)
        watcher = self.engine.watchers[self.cluster]
        state, facts = watcher.state(self.job), self.engine.facts[self.cluster].last.facts
        place = facts.place(self.job) if facts else None
        answers = watcher.trouble is None
        return Moment(False, now, job=self.job, state=state, place=place, answers=answers, forecast=self._forecast)

    def steps(self) -> list[tuple[str, str]]:
        """The way of a start, each step's name and its words."""
        return [(name, _(words)) for name, words in STEPS.items()]

    def asked(self) -> list[str]:
        """What was asked for, in words; nothing before it is known."""
        return asked_words(self.request, self.engine.site) if self.request else []

    @property
    def goes_on(self) -> bool:
        """Whether a start that the last hub process left behind is about to go on."""
        return self.engine.cut_off.holds(self.user.name, self.name)

    async def explanation(self, error: BaseException | None = None) -> Explanation | None:
        """Why the last start failed, with ``error``, or what ended the last session: for the page that says so."""
        return await explain(self, error)

    # --- State -------------------------------------------------------------------------------------------------------

    @property
    def _database(self) -> Any:
        return object_session(self.user.orm_user)

    def _revoke(self, token: orm.APIToken | None) -> None:
        if token is not None:
            self._database.delete(token)
            self._database.commit()

    @property
    def server_base_url(self) -> str:
        """The path below which this server is, as JupyterHub writes it into the notes of its tokens."""
        return str(url_path_join(self.user.base_url, url_escape_path(self.name), "/"))

    @property
    def token_note(self) -> str:
        """How JupyterHub marks the tokens of this server; an earlier hub process's too."""
        return f"Server at {self.server_base_url}"

    def get_state(self) -> dict[str, Any]:
        """What a restarted hub needs to find the job again."""
        state: dict[str, Any] = super().get_state()
        if self.session_id:
            state |= {key: getattr(self, key) for key in _RECORD}
        for key in ("last_end", "last_use"):
            if kept := getattr(self, key):
                state[key] = dict(kept)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up the job of an earlier hub process."""
        super().load_state(state)
        for key in _RECORD:
            setattr(self, key, state.get(key, 0 if key in _NUMBERS else ""))
        self.last_end, self.last_use = state.get("last_end", {}), state.get("last_use", {})
        if self.cluster not in self.engine.site.clusters:
            self.job_id = self.session_id = ""

    def clear_state(self) -> None:
        """Forget the job; its log goes too, unless a failed start may still have to be explained from it."""
        if self.engine.cut_off.holds(self.user.name, self.name):
            return  # JupyterHub tidies up after the last hub process; this start goes on in a moment
        if self.job is not None:
            self.engine.watchers[self.cluster].forget(self.job)
            if self.served_port and (request := self.request_now):
                self.engine.keep(self._look_back(self.cluster, self.job, request, self.usage))
        self.usage = None
        self.engine.withdraw(self.secret_digest)
        log = "" if self._keep_log else self.log_path()
        ended = self.cluster if self.served_port else ""
        super().clear_state()
        for key in _RECORD:
            setattr(self, key, 0 if key in _NUMBERS else "")
        self._listening = self._recorded = self._submission = None
        if ended:
            self.engine.look_for_orphans(ended)  # what has been submitted from within it for it alone: Dask's workers
        if log:
            sessionlog.remove(log)


_NUMBERS = ("served_port", "asked_at")
_RECORD = ("cluster", "session_id", "log_id", "secret_digest", "node", "address", *_NUMBERS)


async def _next(changes: AsyncIterator[JobState]) -> JobState:
    """The next state; a job that is followed no longer will never have one."""
    async for state in changes:
        return state
    raise web.HTTPError(409, "this session was stopped")


async def _place(changes: AsyncIterator[JobState]) -> str:
    """The node, as soon as the job runs on one."""
    async for state in changes:
        if state.runs_somewhere:
            return state.node
    raise NotPlaced


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
