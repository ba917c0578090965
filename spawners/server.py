"""The spawner: one person's session as one Slurm job, over batchspawner's.

From batchspawner it keeps the traits, the place of the job's number in the state, and its role; how a job is rendered,
submitted, followed, reported and cancelled is ours, because stock leaves open what a centre can not: options from
REST reach the script unchecked, every error of ``squeue`` counts as "gone", a number is only saved once the server
runs, a job that dies before its server answers is waited for until the time-out.

The way of a start::

    options ──gate──> Request ──script──> sbatch (as the person) ──> job number, committed at once
        job ──one-time secret──> hub: environment with the API token   (spawners/handlers.py)
        job ──API token, port──> hub: it listens
    watcher ──state, node──> here ──> address of the server
"""

from __future__ import annotations

import asyncio
import pwd
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import batchspawner
from sqlalchemy.orm import object_session
from tornado import web
from traitlets import Unicode, default

from spawners import form, sessionlog
from spawners.engine import Engine, digest, engine_for
from spawners.failure import RequestRefused, SessionFailed
from studiolo.errors import LauncherFailed, RequestError, SlurmError, SlurmRefused
from studiolo.request import Request, check
from studiolo.script import render
from studiolo.session_job import session_job, session_log
from studiolo.slurm.states import JobState, ended_words, pending_words
from studiolo.units import minutes_words

__all__ = ["StudioloSpawner"]

STOP_SECONDS = 60
FIRST_ANSWER_SECONDS = 5  # JupyterHub gives all sessions together 10 s when it starts


class StudioloSpawner(batchspawner.BatchSpawnerBase):  # type: ignore[misc]  # batchspawner has no types
    """Starts, follows and stops one session. Configured by the site file alone."""

    site_file = Unicode(help="Path of the site file.", config=True)

    cluster = Unicode(help="The cluster that the job runs on.")
    session_id = Unicode(help="Random name of this start, in the job's comment; no secret.")
    log_id = Unicode(help="Random name of this start's log: nobody else may know it before the log is there.")
    node = Unicode(help="The node that the session runs on, once it does.")
    secret_digest = Unicode(help="Digest of the one-time secret that the job brings.")

    request: Request | None = None
    _listening: asyncio.Future[int] | None = None
    _submission: asyncio.Task[int] | None = None
    _form_data: Mapping[str, Any] | None = None
    _keep_log = False

    @property
    def engine(self) -> Engine:
        """What all spawners of this hub share."""
        return engine_for(self.site_file)

    @property
    def job(self) -> int | None:
        """The job's number while there is one."""
        return int(self.job_id) if self.job_id else None

    # --- Options: the gate -------------------------------------------------------------------------------------------

    @default("apply_user_options")
    def _default_gate(self) -> Callable[..., None]:
        return StudioloSpawner.take_options

    def take_options(self, options: Mapping[str, object] | None) -> None:
        """Pass options through the gate; they set :attr:`request` and nothing else. Raises :class:`RequestRefused`."""
        self.request = None
        self.request = self.checked(options)

    def checked(self, options: Mapping[str, object] | None) -> Request:
        """Return the request that options describe. Raises :class:`RequestRefused` (400)."""
        try:
            return check(options, self.engine.site)
        except RequestError as error:
            raise RequestRefused(error) from error

    @default("options_form")
    def _default_form(self) -> Callable[..., str]:
        return StudioloSpawner.render_form

    def render_form(self) -> str:
        """The start page's form; what was just refused is filled in again."""
        shown, self._form_data = self._form_data, None
        return form.render(self.engine.site, shown or self.user_options or {})

    @default("options_from_form")
    def _default_options_from_form(self) -> Callable[..., dict[str, object]]:
        return self.read_form

    def read_form(self, data: Mapping[str, list[str]]) -> dict[str, object]:
        """Form data -> options, refused here already so that the page can say so."""
        options = form.options(data)
        self._form_data = options
        self.checked(options)
        self._form_data = None
        return options

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, object]:
        """A launch link fills the form in and never starts anything: a click on a stranger's link must not cost."""
        self._form_data = form.options(query_data)
        notice = SessionFailed(
            "This link has filled in the page for you.", "Look it over, then start.", reason="link", status=200
        )
        raise notice

    # --- Start -------------------------------------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the job and wait until its server listens; return the server's address."""
        if self.request is None:
            self.take_options(self.user_options)
        assert self.request is not None
        self._keep_log = False
        self.cluster = self.request.cluster
        self.ip = self.engine.site.clusters[self.cluster].listen
        self.session_id = secrets.token_hex(8)
        self.log_id = secrets.token_hex(16)
        self._listening = asyncio.get_running_loop().create_future()
        secret = secrets.token_urlsafe(32)
        self.secret_digest = digest(secret)
        self.engine.expect(self.secret_digest, self)
        try:
            self._submission = asyncio.ensure_future(self._submit(self.request, secret))
            try:
                job = await asyncio.shield(self._submission)
            except SlurmError as error:
                raise self._not_submitted(error) from error
            state = await self._until_listening(job)
            port = self._listening.result()
            try:
                address = await self.engine.slurm[self.cluster].node_address(state.node)
            except SlurmError as error:
                raise self._not_submitted(error) from error
        finally:
            self.engine.withdraw(self.secret_digest)
        self.node = state.node
        self.engine.watchers[self.cluster].settle(job)
        self.log.info("%s listens: job %d on %s port %d", self._log_name, job, state.node, port)
        return f"{'https' if self.internal_ssl else 'http'}://{_bracketed(address)}:{port}"

    async def _submit(self, request: Request, secret: str) -> int:
        """Submit and write the job's number to the database, in one piece: nothing may come between."""
        site = self.engine.site
        script = render(request, site, session_job(site, request, self.session_id, self.log_id))
        environment = {"STUDIOLO_HUB": self.hub_url(), "STUDIOLO_BOOTSTRAP": secret}
        job = await self.engine.slurm[request.cluster].submit(self.user.name, script, environment)
        self.job_id = str(job)
        self._save()
        self.engine.watchers[request.cluster].follow(job)
        self.log.info("%s submitted as job %d on %s", self._log_name, job, request.partition)
        return job

    def _save(self) -> None:
        """Commit the state now. Not through Spawner.db, which JupyterHub means to remove."""
        self.orm_spawner.state = self.get_state()
        database = object_session(self.orm_spawner)
        if database is not None:  # None once the hub has deleted this server
            database.commit()

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
                done, _ = await asyncio.wait(waiting_for, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if change in done:
                    state, change = change.result(), None
                    if state.is_over:
                        raise self._ended(state)
                    if state.state == "RUNNING" and deadline is None:
                        deadline = loop.time() + limit
                elif self._listening.done():
                    watcher.kick()
                elif not done:
                    raise self._silent(job, state)
            return state
        finally:
            if change is not None:
                change.cancel()

    @property
    def ports(self) -> range:
        """The ports that this session's server may listen on."""
        first, last = self.engine.site.clusters[self.cluster].ports
        return range(first, last + 1)

    def listening(self, port: int) -> bool:
        """Take the port that this session's own server reports; once. False where none is awaited."""
        if self._listening is None or self._listening.done() or not self.secret_digest:
            return False
        self._listening.set_result(port)
        return True

    def session_environment(self) -> dict[str, str]:
        """The environment of the session's server, handed to its job in exchange for the one-time secret."""
        site = self.engine.site
        assert self.request is not None
        environment = {key: str(value) for key, value in self.get_env().items()}
        environment |= {
            "STUDIOLO_PORTS": f"{self.ports[0]}-{self.ports[-1]}",
            "STUDIOLO_MINUTES": str(self.request.minutes),
            "STUDIOLO_SCRATCH": site.paths.scratch,
            "STUDIOLO_WORKDIR": self.request.workdir or "",
        }
        return environment

    # --- What is told when it fails ----------------------------------------------------------------------------------

    def _not_submitted(self, error: SlurmError) -> SessionFailed:
        self.log.error("%s: %s", self._log_name, error)
        support = self.engine.site.support
        if isinstance(error, SlurmRefused):
            advice = "Nothing was started. Choose something else, or ask the support to look at this answer."
            return SessionFailed(
                f"Slurm refused this session: {error.words}", advice, reason="refused", support=support, status=400
            )
        if isinstance(error, LauncherFailed):
            what = "Studiolo may not start sessions for your account on this machine."
            return SessionFailed(
                what, "Nothing was started. The support has to mend this.", reason="launcher", support=support
            )
        what = "The machine's scheduler does not answer at the moment."
        return SessionFailed(
            what, "Nothing was lost. Try again in a few minutes.", reason="scheduler", support=support, status=503
        )

    def _ended(self, state: JobState) -> SessionFailed:
        words = ended_words(state)
        self._preserve_log()
        self.log.error("%s: job %d ended as %s before its server answered", self._log_name, state.job, state.state)
        what = f"{words.what} Slurm's word for it is {state.state} (job {state.job}{f' on {state.node}' if state.node else ''})."
        return SessionFailed(
            what, words.advice, reason=state.state.lower(), log=self.log_tail(), support=self.engine.site.support
        )

    def _silent(self, job: int, state: JobState | None) -> SessionFailed:
        self._preserve_log()
        limit = minutes_words(self.engine.site.hub.listen_limit)
        where = f" on {state.node}" if state and state.node else ""
        return SessionFailed(
            f"Job {job} runs{where}, but its notebook server did not answer within {limit}.",
            "It has been stopped. Start again; if it happens twice, choose another environment or tell the support.",
            reason="silent",
            log=self.log_tail(),
            support=self.engine.site.support,
        )

    def _preserve_log(self) -> None:
        """Keep this start's log for whoever has to explain the failure; old ones make room."""
        self._keep_log = True
        self.engine.sweep_logs()

    def log_path(self) -> str:
        """Where this session's log is, as the batch script names it; empty where the hub can not read it."""
        site = self.engine.site
        return session_log(site, self.session_id, self.log_id) if site.paths.logs and self.log_id else ""

    def log_tail(self) -> list[str]:
        """The last lines of the session's log; where the hub can not read it, where its owner finds it."""
        if not self.log_path():
            return [f"(in your home folder: .studiolo-{self.session_id}.log)"] if self.session_id else []
        try:
            uid = pwd.getpwnam(self.user.name).pw_uid
        except KeyError:
            return []
        return sessionlog.tail(self.log_path(), uid)

    # --- While it runs, and its end ----------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """``None`` while the job is, or may be, alive; else an exit status. Asks nobody: the watcher knows."""
        if self._submission is not None and not self._submission.done():
            return None
        if self.job is None:
            return 0
        if not self.node and self._listening is None:
            # Left over by an earlier hub process before it listened: its secret died with that process.
            self.log.warning(
                "%s: job %s had not listened when the hub ended; cancelling it", self._log_name, self.job_id
            )
            self.engine.cancel_soon(self.cluster, self.user.name, self.job)
            return 1
        watcher = self.engine.watchers[self.cluster]
        watcher.follow_quietly(self.job)
        # Only a restarted hub knows nothing yet, and it asks before it opens: a job gone meanwhile must not look alive.
        state = watcher.state(self.job) or await watcher.first_answer(self.job, FIRST_ANSWER_SECONDS)
        if state is None or not state.is_over:
            return None
        return state.exit_code or (0 if state.state == "COMPLETED" else 1)

    async def stop(self, now: bool = False) -> None:
        """Cancel the job, pending or running, and wait until Slurm says it is over (not where ``now``)."""
        if self._submission is not None and not self._submission.done():
            await asyncio.wait([self._submission])
        job = self.job
        if job is None:
            return
        await self.engine.cancel(self.cluster, self.user.name, job)
        watcher = self.engine.watchers[self.cluster]
        watcher.follow(job)
        watcher.hurry(job)
        if not now:
            await self._until_over(job)

    async def _until_over(self, job: int) -> None:
        async def follow() -> None:
            async for state in self.engine.watchers[self.cluster].changes(job):
                if state.is_over:
                    return

        try:
            await asyncio.wait_for(follow(), STOP_SECONDS)
        except asyncio.TimeoutError:
            self.log.warning("job %d is cancelled, but Slurm did not confirm its end within %d s", job, STOP_SECONDS)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Tell the waiting person what happens, from the watcher: costs the scheduler nothing."""
        if self._submission is not None and not self._submission.done():
            yield {"progress": 5, "message": "Handing your request to the machine's scheduler."}
            await asyncio.wait([self._submission])
        if self.job is None:
            return
        yield {"progress": 10, "message": f"In the queue as job {self.job}."}
        async for state in self.engine.watchers[self.cluster].changes(self.job):
            if state.is_pending:
                yield {"progress": 20, "message": pending_words(state.reason)}
            elif state.is_over:
                return
            else:
                yield {"progress": 60, "message": f"Running on {state.node}: your notebook server is starting."}

    # --- State -------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """What a restarted hub needs to find the job again."""
        state: dict[str, Any] = super().get_state()
        if self.job_id:
            state |= {"cluster": self.cluster, "session_id": self.session_id, "log_id": self.log_id, "node": self.node}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up the job of an earlier hub process."""
        super().load_state(state)
        self.cluster = state.get("cluster", "")
        self.session_id = state.get("session_id", "")
        self.log_id = state.get("log_id", "")
        self.node = state.get("node", "")
        if self.cluster not in self.engine.site.clusters:
            self.job_id = ""

    def clear_state(self) -> None:
        """Forget the job; its log goes too, unless a failed start may still have to be explained from it."""
        if self.job is not None:
            self.engine.watchers[self.cluster].forget(self.job)
        log = "" if self._keep_log else self.log_path()
        super().clear_state()
        self.cluster = self.session_id = self.log_id = self.secret_digest = self.node = ""
        self._listening = self._submission = None
        if log:
            sessionlog.remove(log)


async def _next(changes: AsyncIterator[JobState]) -> JobState:
    """The next state; a job that is followed no longer will never have one."""
    async for state in changes:
        return state
    raise web.HTTPError(409, "this session was stopped")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
