"""A Dask cluster from a notebook, in one line: each worker is a job of Slurm's, and one sees what becomes of it.

dask-jobqueue keeps the plan of workers and Dask's scheduler, which live in the notebook's own process; how jobs are asked
for, followed and ended is ours. Each passes the gate that a session passes (:mod:`studiolo.desk`), one question follows them all,
and a worker that is lost is asked for anew. No worker outlives its notebook (:mod:`studiolo.dask_worker`).

Whatever changes the cluster runs on Dask's event loop; Slurm is asked on the desk's.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import dask.utils
from distributed.core import Status
from distributed.security import Security

from studiolo import dask_numbers as numbers
from studiolo import script
from studiolo.cost import ceiling, held
from studiolo.dask_adaptive import CalmAdaptive, surplus
from studiolo.dask_crew import Event, Phase, Worker, handover_seconds, how_lost, sentence
from studiolo.dask_folder import ClusterFolder, folders
from studiolo.dask_jobs import CLOSED, ClusterJobs
from studiolo.dask_leftovers import end_leftovers
from studiolo.dask_losses import Losses
from studiolo.dask_planned import WorkerJob
from studiolo.dask_pulse import Pulse
from studiolo.dask_roster import Roster
from studiolo.dask_scheduler import SecretScheduler, address_of
from studiolo.dask_shape import capped, worker_options
from studiolo.dask_stock import JobQueueCluster
from studiolo.dask_waiting import TooFewWorkers, fail_waiting
from studiolo.dask_worker import Handover
from studiolo.desk import desk
from studiolo.errors import (
    Fault,
    NoWorkers,
    RequestError,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
    StudioloError,
    shown,
)
from studiolo.request import Request
from studiolo.slurm.reasons import limit_words, never_starts, pending_words
from studiolo.slurm.states import JobState
from studiolo.units import minutes_words, parse_minutes
from studiolo.views import Action, JobView, State, announce

__all__ = ["Cluster", "cluster"]

SILENCE_SECONDS = 120.0
"""A notebook that says nothing for so long hangs: its workers end. A cell may hold Python's lock that long."""

WAIT = "30m"
MOST_WORKERS = 10_000
LOOK_SECONDS = 1.0
TOLD_SECONDS = 5.0
OURS = re.compile(r"worker-\d+")  # people may connect workers of their own, under other names
SHORTEST_SECONDS = 30.0
LONGEST_PAUSE = 60.0
OVER = "This cluster is closed: make another one with `studiolo.cluster()`."
CLOSE_SECONDS = 3.0
"""So long a cluster that is closed waits for Slurm to cancel its jobs."""


def cluster(
    workers: int | None = None,
    *,
    gpus: int | None = None,
    profile: str | None = None,
    wait: object = WAIT,
    silence: float = SILENCE_SECONDS,
    asynchronous: bool = False,
    **options: object,
) -> Cluster:
    """Start a Dask cluster for this notebook: ``studiolo.cluster(workers=8)``, ``cluster(gpus=4)``, ``cluster(profile="big")``.

    ``workers`` is how many to begin with, ``gpus`` means as many workers with one GPU each. ``profile`` is one of the site's, as
    on the start page; without one, each worker is like this session. ``options`` change what a worker has: ``cpus``, ``memory``
    (``"16G"``), ``minutes`` or ``hours``, ``partition``, ``account``, ``environment`` …: :data:`studiolo.request.FIELDS`.

    ``wait`` (minutes, or ``"2h"``) is how long work may wait for a first worker before it fails; the jobs stay in the queue.
    ``silence`` is after how many seconds without a sign of life from this notebook workers end.

    Raises :class:`~studiolo.errors.RequestError` for what can not be had, :class:`~studiolo.errors.SlurmRefused` with Slurm's
    words, :class:`~studiolo.errors.OutsideSession` outside of a session.
    """
    own = desk()
    if gpus is not None:
        if workers is not None:
            raise RequestError([Fault("gpus", shown(gpus), "as many workers with one GPU each: leave `workers` out")])
        workers = numbers.whole("gpus", gpus, MOST_WORKERS)
        options = {**options, "gpus": 1}
    try:
        seconds = 60.0 * parse_minutes(wait)
    except ValueError as error:
        raise RequestError([Fault("wait", shown(wait), str(error))]) from None
    planned = numbers.whole("workers", 0 if workers is None else workers, MOST_WORKERS)
    still = numbers.silence(silence)
    asked = own.check(worker_options(own.site, own.session, {"profile": profile, **options}))
    return Cluster(
        asked,
        workers=planned,
        wait=seconds,
        silence=still,
        asynchronous=asynchronous,
    )


class Cluster(JobQueueCluster):  # type: ignore[misc]
    """A Dask cluster whose workers are jobs; made by :func:`cluster`. All that Dask's clusters can, this one can too.

    ``failure`` is why no workers are asked for any more, ``None`` as long as they are; ``folder`` holds their logs.
    """

    job_cls = WorkerJob
    failure: NoWorkers | None = None

    def __init__(
        self, request: Request, *, workers: int = 0, wait: float, silence: float, asynchronous: bool = False
    ) -> None:
        self._desk = desk()
        self._pid = os.getpid()
        self.site = self._desk.site
        self.request = request
        self.wait, self.silence = wait, silence
        self.id = secrets.token_hex(4)
        name = f"{self._desk.owner}.{self.id}"
        self.tag = self.site.tag("dask", name)
        self._jobs = ClusterJobs(self._desk, request.cluster, name)
        self.began = time.time()
        self.ended: float | None = None
        self._folder = ClusterFolder(folders(), self.id)
        self.folder = self._folder.path
        self._crew = Roster(held(request, self.site), self.site.prices)
        self._numbers = itertools.count()
        self._initial = workers
        self._losses = Losses()
        self._asked_anew = 0
        self._alone_since: float | None = None
        self._follows: dict[str, Future[None]] = {}
        self._errands: set[asyncio.Future[Any]] = set()
        self._closing: asyncio.Future[None] | None = None
        self._secret = secrets.token_hex(16)
        security = Security.temporary()
        self._pulse = Pulse(security.get_listen_args("scheduler")["ssl_context"], every=max(0.1, silence / 24))
        try:
            super().__init__(
                asynchronous=asynchronous,
                security=security,
                name=f"studiolo-{self.id}",
                config_name=WorkerJob.config_name,
                scheduler_cls=SecretScheduler,
                scheduler_options={
                    "dashboard_address": "127.0.0.1:0",
                    "secret": self._secret,
                    "host": address_of(self.site.clusters[request.cluster].interface),
                },
                cores=request.cpus,
                memory=f"{request.memory}MiB",
                crew=self,
            )
        except BaseException:
            if not asynchronous:
                self._loop_runner.stop()
            raise
        announce(self)

    # --- What people use ---------------------------------------------------------------------------------------------

    def scale(self, n: int | None = None, jobs: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Have ``n`` workers (or so many ``cores``, so much ``memory`` in all). Asks now, and raises what is said against it."""
        wanted = max(numbers.whole("n", 0 if n is None else n, MOST_WORKERS), numbers.whole("jobs", jobs, MOST_WORKERS))
        if memory is not None:
            wanted = max(wanted, math.ceil(numbers.amount("memory", memory) / self._memory_per_worker()))
        if cores is not None:
            wanted = max(wanted, math.ceil(numbers.whole("cores", cores) / self._threads_per_worker()))
        wanted = numbers.whole("workers", wanted, MOST_WORKERS)
        if self.status == Status.closed and wanted:
            raise NoWorkers(OVER)
        if self.status in (Status.closing, Status.closed):
            self.worker_spec.clear()
            return _done() if self.asynchronous else None
        if self._adaptive is not None:
            self._adaptive.stop()
        self._forgive()
        if self.asynchronous:
            self._plan(wanted)
            return self._errand(self.ask_for(wanted))
        return self.sync(self.ask_for, wanted)

    def adapt(
        self, minimum: int = 0, maximum: float = math.inf, *, idle: object = "1m", keep: object = "30m", **kwargs: Any
    ) -> Any:
        """Have as many workers as there is work for, between ``minimum`` and ``maximum``.

        One without work stays for ``idle``; one that still waits in the queue keeps its place there for ``keep``, whether or
        not there is work at the moment (minutes, or texts such as ``"90s"``). Other options are those of Dask's ``Adaptive``.
        """
        patience = {"idle": numbers.seconds("idle", idle), "keep": numbers.seconds("keep", keep)}
        # Each job is one worker: what dask-jobqueue says of jobs, it says of workers.
        minimum, maximum = kwargs.pop("minimum_jobs", minimum), kwargs.pop("maximum_jobs", maximum)
        most = numbers.whole("maximum", MOST_WORKERS if maximum == math.inf else maximum, MOST_WORKERS)
        least = numbers.whole("minimum", minimum, most)
        if self.status == Status.closed:
            raise NoWorkers(OVER)
        self._forgive()
        return super().adapt(Adaptive=CalmAdaptive, minimum=least, maximum=most, **patience, **kwargs)

    def workers_now(self) -> list[Worker]:
        """Every worker that is planned, waits or runs, in the order in which they were asked for."""
        return list(self._crew)

    def history(self) -> list[Event]:
        """What has happened to this cluster, oldest first: the last thousand events. Print them."""
        return list(self._crew.events)

    def view(self) -> JobView:
        """What is known of it now, for panels."""
        known = self.workers_now()
        jobs = tuple(worker.job for worker in known if worker.job)
        first = min((worker.expected for worker in known if worker.expected), default=None)
        return JobView(
            kind="cluster",
            identity=self.id,
            name="Dask cluster",
            state=self._state(known),
            words=self._words(known),
            jobs=jobs,
            cluster=self.request.cluster,
            asked=self.began,
            started=min((worker.started for worker in known if worker.started), default=None),
            expected=first,
            ended=self.ended,
            done=sum(worker.phase == "running" for worker in known),
            of=len(self.worker_spec),
            unit="workers",
            resources=self._crew.resources,
            spent=self._crew.spent(),
            ceiling=ceiling(self.request, self.site, len(self.worker_spec)),
            link=self.dashboard_link,
            link_words="Dashboard",
            actions=() if self.ended else (Action("close", "Close", destroys=True),),
        )

    def act(self, action: str) -> None:
        """Do one of the view's actions: ``"close"``."""
        if action != "close":
            raise RequestError([Fault("action", shown(action), "close")])
        self.close()

    @property
    def dashboard_link(self) -> str:
        """Where Dask's dashboard is: through the hub, or on this node where there is none."""
        try:
            port = self.scheduler_info["services"]["dashboard"]
        except KeyError:
            return ""
        base = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
        front = f"{base}proxy/{port}" if base else f"http://127.0.0.1:{port}"
        return f"{front}/{self._secret}/status"

    def close(self, timeout: float | None = None) -> Any:
        """End all workers, waiting ones too, and the scheduler. A forked child does nothing: the cluster is its parent's."""
        if os.getpid() != self._pid:
            return None
        return super().close(timeout)

    # --- What a job is -----------------------------------------------------------------------------------------------

    def request_now(self) -> Request:
        """What a worker asks for now: no more time than the notebook has left."""
        own = self._desk.session
        return capped(self.request, own.seconds_left if own else None)

    def job(self, name: str, request: Request) -> script.Job:
        """The job of the worker of that name."""
        environment = self.site.environments[self.request.environment]
        own = self._desk.session
        mine = own is not None and own.asked.get("environment") == self.request.environment
        python = sys.executable if mine else environment.python or self.site.python
        walltime = request.minutes * 60.0
        # The notebook renews it before; one that it does not get to hands over by itself.
        lifetime = walltime - handover_seconds(walltime)[1] / 2
        command = [python, "-I", "-m", "studiolo.dask_worker", self.folder, name, f"{lifetime:.0f}"]
        return script.Job("dask-worker", self.tag, self._folder.log(name), command)

    def _handover(self, port: int) -> Handover:
        interface = self.site.clusters[self.request.cluster].interface
        own = self._desk.session
        return Handover(
            scheduler=self.scheduler.address,
            pulse=(self.scheduler.ip, port),
            silence=self.silence,
            interface=interface,
            scratch=self.site.paths.scratch,
            folder=os.getcwd(),
            python=sys.executable,
            path=tuple(entry or os.getcwd() for entry in sys.path),
            threads=self.request.cpus,
            memory=self.request.memory << 20,
            gpus=self.request.gpus,
            ends=float(own.ends or 0) if own else 0.0,
            owner=self._desk.owner,
            node=socket.gethostname(),
        )

    # --- Its life ----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self.status != Status.created:
            return await super()._start()  # type: ignore[no-any-return]
        await super()._start()
        try:
            port = await self._at_desk(self._pulse.start(self.scheduler.ip))
            credentials = f"{self.security.tls_worker_key}{self.security.tls_worker_cert}"
            self._folder.open(self._handover(port), credentials)
            self._errand(self._watch())
            self._errand(self._listen())
            self._errand(self._end_leftovers())
            if self._initial:
                await self.ask_for(self._initial)
        except BaseException as error:
            await self._close()
            if isinstance(error, OSError):
                raise NoWorkers(
                    f"{self.folder} can not be written ({error.strerror}), from which workers learn where this notebook is: "
                    "make room in your home folder."
                ) from error
            raise
        return None

    async def _close(self) -> None:
        # Once, and to its end, whoever asks for it: half of it would leave those who ask again waiting for ever.
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close_once())
        await asyncio.shield(self._closing)

    async def _close_once(self) -> None:
        self.ended = time.time()
        self._folder.shut()
        self.worker_spec.clear()  # a correction that is under way opens no more
        for worker in self._crew:
            self._crew.leave(worker.name, "the cluster is closed")
        for job in self.workers.values():
            if job.status == Status.running:
                job.status = Status.closing
        for errand in tuple(self._errands):
            errand.cancel()
        for follow in self._follows.values():
            follow.cancel()
        await self._cancel_all()
        for job in self._created:
            if job.status == Status.created:  # one that was just planned, in place of a lost one say: it never begins
                job.status = Status.closed
        try:
            await super()._close()
        finally:
            await self._at_desk(self._pulse.close())
        for worker in self._crew:
            self._end(worker.name, "released", "released")
        if not any(event.phase == "lost" for event in self._crew.events):
            self._folder.remove()

    async def _cancel_all(self) -> None:
        """Cancel all jobs, those too that are just being asked for; a Slurm that does not answer holds nobody up."""
        try:
            if not await self._at_desk(self._jobs.close(CLOSE_SECONDS)):
                self._crew.say(
                    "", "Slurm does not answer: jobs are cancelled as soon as it does, and do nothing until then"
                )
        except SlurmError as error:
            self._crew.say("", f"jobs were not cancelled, and end by themselves: {error}")

    async def _watch(self) -> None:
        """Look after it once a second: work that waits in vain, workers whose time is almost over."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.status != Status.running:
                continue
            self._look_at_waiting()
            for worker in self._crew:
                if worker.phase == "running" and worker.ends:
                    self._look_at_end(worker, worker.ends - time.time())

    async def _listen(self) -> None:
        """End once somebody has told so: who stops everything from another notebook, or has cancelled it in a panel."""
        while True:
            await asyncio.sleep(TOLD_SECONDS)
            if await self._told_to_end():
                return

    async def _end_leftovers(self) -> None:
        """End what a killed kernel of this session has left, and say so."""
        try:
            ended = await self._at_desk(end_leftovers(self._desk))
        except SlurmError as error:
            self._crew.say("", str(error))
            return
        if ended:
            self._crew.say("", f"jobs {', '.join(map(str, ended))} of a notebook that was killed are cancelled")

    async def _told_to_end(self) -> bool:
        """Look whether this cluster was told to end, and end it then."""
        if not await asyncio.to_thread(self._folder.is_shut) or self.ended is not None:
            return False
        self._crew.say("", "told to end, not by this notebook")
        await self._close()
        return True

    def _look_at_waiting(self) -> None:
        if self.scheduler.workers or not (self.worker_spec or self.failure):
            self._alone_since = None
            return
        if self.failure is not None:
            fail_waiting(self.scheduler, self.failure)
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > self.wait:
            self._alone_since = None  # who tries again waits again
            fail_waiting(self.scheduler, self._too_long())

    def _too_long(self) -> NoWorkers:
        limit = minutes_words(max(1, round(self.wait / 60)))
        return NoWorkers(
            f"No worker has started within {limit}: {sentence(self.workers_now(), len(self.worker_spec))}. "
            "Their jobs stay in the queue: run the cell again to go on waiting, or close the cluster."
        )

    def _look_at_end(self, worker: Worker, left: float) -> None:
        """Ask for a successor in time, and hand over to it when it has come, or when there is no time left."""
        lead, hand_over = handover_seconds(worker.ends - worker.started if worker.started and worker.ends else 0.0)
        if left > lead or self._is_ending(lead):  # the last ones end with the notebook
            return
        if not (worker.successor or self._is_adaptive or self.failure):
            planned = self.new_worker_spec()
            self.worker_spec.update(planned)
            self._crew.succeed(worker.name, next(iter(planned)))
            self._errand(self._fill())
            return
        follower = self._crew.get(worker.successor)
        if left <= hand_over or (follower is not None and follower.phase == "running"):
            self._crew.leave(worker.name, "hands over at the end of its time")
            self._errand(self.scale_down([worker.name]))

    @property
    def _is_adaptive(self) -> bool:
        return self._adaptive is not None and self._adaptive.state in ("starting", "running")

    def _is_ending(self, lead: float) -> bool:
        """Whether the notebook itself ends too soon for another worker."""
        own = self._desk.session
        return own is not None and own.seconds_left is not None and own.seconds_left < 2 * lead

    # --- Asking for workers, and letting them go ---------------------------------------------------------------------

    async def ask_for(self, n: int) -> None:
        """Have ``n`` workers planned, and their jobs asked for or ended. Raises the first refusal; what was accepted stays."""
        too_many = len(self.worker_spec) - n
        if too_many > 0:
            there = {str(worker.name) for worker in self._there()}
            names = surplus([name for name in self.worker_spec if name not in there], too_many)
            if len(names) < too_many:
                names += self.scheduler.workers_to_close(n=too_many - len(names), attribute="name")
            await self.scale_down(names)
            return
        self._plan(n)
        await self._correct_state()

    def _plan(self, n: int) -> None:
        while len(self.worker_spec) < n:
            self.worker_spec.update(self.new_worker_spec())

    async def scale_down(self, workers: Any) -> None:
        """Have these workers (names) hand over what they hold, and end."""
        names = [name for name in map(str, workers) if self._crew.get(name)]
        for name in names:
            self._crew.leave(name, "not needed any more")
        there = {str(worker.name) for worker in self._there()}
        if moving := [name for name in names if name in there]:
            seconds = handover_seconds(self.request.minutes * 60.0)[1]
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    self.scheduler_comm.retire_workers(names=moving, remove=True, close_workers=True), seconds
                )
        for name in names:
            self.worker_spec.pop(name, None)
        await self._correct_state()

    def _correct_state(self) -> asyncio.Future[None]:
        # Whoever waits for it may be cancelled, it is not: cut in the middle it would leave jobs that are in no plan.
        return asyncio.shield(super()._correct_state())

    async def _correct_state_internal(self) -> None:
        try:
            await super()._correct_state_internal()
        finally:
            for name, job in list(self.workers.items()):
                if job.status == Status.failed:
                    del self.workers[name]
                    self.worker_spec.pop(name, None)

    async def submit(self, name: str) -> int:
        """Ask Slurm for a worker, and follow its job."""
        self._crew.ask(name)
        try:
            request = self.request_now()
            number = await self._at_desk(self._jobs.submit(request, self.job(name, request)))
            if self.ended is not None:
                raise NoWorkers(CLOSED)
        except SlurmRefused as refused:
            words = limit_words(refused.words)
            error = SlurmRefused("start a worker", f"{words} ({refused.words})" if words else refused.words)
            self._end(name, "lost", str(error))
            raise error from None
        except NoWorkers:  # closed meanwhile, which ends all
            raise
        except StudioloError as error:
            self._end(name, "lost", str(error))
            raise
        self._crew.accept(name, number)
        self._follows[name] = self._desk.begin(self._jobs.follow(number, partial(self._tell, name)))
        return int(number)

    async def cancel(self, jobs: list[int]) -> None:
        """End jobs. Never fails: what can not be told to Slurm now is seen by the workers themselves, and by the hub."""
        try:
            with suppress(NoWorkers):  # closed meanwhile, which cancels all
                await self._at_desk(self._jobs.cancel(jobs))
        except SlurmError as error:
            self._crew.say("", f"jobs {', '.join(map(str, jobs))} were not cancelled, and end by themselves: {error}")

    def _new_worker_name(self, worker_number: int) -> str:
        """Never the name of one that was: Dask may not have forgotten it yet."""
        return f"worker-{next(self._numbers)}"

    def _get_worker_security(self, security: Security | None) -> None:
        """What a worker needs lies in the cluster's folder, on no command line."""

    async def _fill(self) -> None:
        """Have the plan's jobs asked for, again and again where Slurm does not answer."""
        pause = LOOK_SECONDS
        while self.status == Status.running:
            wanted = len(self.worker_spec)
            try:
                await self._correct_state()
                return
            except SlurmUnavailable as error:
                self._crew.say("", str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._plan(wanted)
            except StudioloError as error:
                await self.refused(error)
                return

    async def refused(self, error: StudioloError) -> None:
        """What nobody waits for was refused: work that waits is told. "I could not ask" is no refusal."""
        if self.ended is None and not isinstance(error, SlurmUnavailable):
            await self._give_up(str(error))

    async def _give_up(self, why: str) -> None:
        """Ask for no more workers, and take back those that have not come."""
        self.failure = NoWorkers(f"{why} No more workers are asked for until you call `scale` or `adapt` again.")
        self._crew.say("", str(self.failure))
        if self._adaptive is not None:
            self._adaptive.stop()
        there = {str(worker.name) for worker in self._there()}
        await self.scale_down([name for name in self.worker_spec if name not in there])

    def _forgive(self) -> None:
        self.failure, self._alone_since = None, None
        self._losses.begin()
        self._asked_anew += 1

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        began = time.monotonic()
        limit = dask.utils.parse_timedelta(timeout) if timeout else math.inf
        while (running := len(self.scheduler.running)) < n_workers:
            if self.failure is not None:
                raise self.failure
            if time.monotonic() - began > limit:
                raise TooFewWorkers(running, n_workers, limit, sentence(self.workers_now(), len(self.worker_spec)))
            if not running and time.monotonic() - began > self.wait:
                raise self._too_long()
            await asyncio.sleep(0.05)

    # --- What Slurm and Dask say of them -----------------------------------------------------------------------------

    def _tell(self, name: str, state: JobState) -> None:
        """On the desk's loop: have this notebook's hear it."""
        self.loop.add_callback(self._heard, name, state)

    def _heard(self, name: str, state: JobState) -> None:
        """Slurm said something of a worker's job."""
        worker = self._crew.get(name)
        if worker is None or self.status in (Status.closing, Status.closed):
            return
        if state.is_over:
            self._errand(self._over(worker, state))
            return
        self._crew.hear(name, state)
        if state.is_pending and never_starts(state.reason) and self.failure is None:
            self._errand(self._give_up(pending_words(state.reason)))

    async def _over(self, worker: Worker, state: JobState) -> None:
        """A worker's job has ended: as it was told to, or it is lost and another one takes its place."""
        name = worker.name
        job = self.workers.get(name)
        ours = job is None or job.status in (Status.closing, Status.closed)
        if ours and name not in self.worker_spec:
            self._end(name, "released", "released", state.end)
            return
        used = (
            await self._at_desk(self._jobs.used(worker.job)) if state.state == "OUT_OF_MEMORY" and worker.job else None
        )
        line = self._folder.last_words(name)
        words = how_lost(worker, state, self.request.memory, used, line, ours=ours)
        if self.status != Status.running:
            return
        self._end(name, "lost", words, state.end)
        for there in self._there():
            if there.name == name:  # on a node that is gone it would be missed minutes later
                await self.scheduler.remove_worker(address=there.address, stimulus_id=f"studiolo-lost-{time.time()}")
        wanted = self.worker_spec.pop(name, None) is not None
        if self.workers.get(name) is job:
            self.workers.pop(name, None)
        if job is not None:
            job.status = Status.closed
        self._losses.count(worker)
        if state.state == "CANCELLED" and not ours:
            anew = self._asked_anew
            if await self._told_to_end() or await self._unwanted() or anew != self._asked_anew:
                return
        if self._losses.too_many:
            await self._give_up(
                f"{self._losses.failed_starts} workers in a row ended before they could begin, the last one because {words}. "
                f"Their logs are in {self.folder}."
            )
        elif wanted and not worker.successor and not self._is_adaptive and not self._is_ending(SHORTEST_SECONDS):
            planned = self.new_worker_spec()
            self.worker_spec.update(planned)
            self._crew.say(name, f"replaced by {next(iter(planned))}")
            await self._fill()

    async def _unwanted(self) -> bool:
        """Whether somebody has cancelled not one worker of several: then others are no more wanted, until they are asked for."""
        anew = self._asked_anew
        together = await self._losses.cancelled_together()
        if together == 1 and any(True for _other in self._crew):
            return False
        if self.failure is None and anew == self._asked_anew:
            who = f"{together} workers were cancelled at once" if together > 1 else "The only worker was cancelled"
            await self._give_up(f"{who}, not by this notebook.")
        return True

    def _there(self) -> list[Any]:
        """What Dask's scheduler knows of the workers that it is connected with."""
        return list(self.scheduler.workers.values())

    def _update_worker_status(self, op: str, msg: Any) -> None:
        if op == "add":
            names = [str(there["name"]) for there in msg["workers"].values()]
            super()._update_worker_status(op, msg)
            for name in names:
                self._came(name)
        else:
            there = self.scheduler_info["workers"].get(msg, {})
            super()._update_worker_status(op, msg)
            self._went(str(there.get("name", "")))

    def _came(self, name: str) -> None:
        worker = self._crew.get(name)
        if worker is None and OURS.fullmatch(name) and self.ended is None:
            self._errand(self._send_away(name))
        if worker is not None:
            self._losses.begin()
            self._crew.come(name)
            self._jobs.settle(worker.job)

    async def _send_away(self, name: str) -> None:
        """End a worker that is in no plan: Slurm took its job without saying so, or could not be told to end it."""
        self._crew.say(name, "came though nobody waits for it any more, and is sent away")
        await self.scheduler_comm.retire_workers(names=[name], remove=True, close_workers=True)

    def _went(self, name: str) -> None:
        """Its connection is gone: Slurm will say why, and is asked at once."""
        if worker := self._crew.get(name):
            self._crew.leave(name, "its connection ended")
            self._jobs.hurry(worker.job)

    # --- Small things ------------------------------------------------------------------------------------------------

    def _end(self, name: str, phase: Phase, words: str, when: int | None = None) -> None:
        self._crew.end(name, phase, words, when)
        if follow := self._follows.pop(name, None):
            follow.cancel()

    def _words(self, known: list[Worker]) -> str:
        if self.failure:
            return str(self.failure)
        return "closed" if self.ended else sentence(known, len(self.worker_spec))

    def _state(self, known: list[Worker]) -> State:
        if self.ended:
            return "failed" if self.failure else "done"
        if any(worker.phase == "running" for worker in known):
            return "running"
        if self.failure:
            return "failed"
        if any(worker.phase in ("asked", "starting") for worker in known):
            return "starting"
        return "waiting" if known else "running"

    def _scaling_status(self) -> str:
        """What Dask's own widget shows of the workers, and a sentence that says why."""
        from html import escape

        return f"{super()._scaling_status()}<p>{escape(self.view().words)}</p>"

    async def _at_desk(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(self._desk.begin(work))

    def _errand(self, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        """Have something done beside, on Dask's loop."""
        errand = asyncio.ensure_future(work)
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)
        return errand


async def _done() -> None:
    return
