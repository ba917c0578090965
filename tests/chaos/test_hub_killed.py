"""``kill -9`` of the hub at each phase of a session: it is taken up again with the same job, or ended cleanly."""

from __future__ import annotations

import httpx
import pytest
from chaos import Chaos, listens
from hubclient import Hub, until

LEARN = {"profile": "learn"}


def answers(hub: Hub, user: str) -> bool:
    """Whether the person's server answers through the proxy."""
    return httpx.get(f"{hub.url}user/{user}/api", timeout=10).status_code == 200


def test_between_sbatch_and_the_commit(hub: Hub, chaos: Chaos, ada: str) -> None:
    """The job is submitted, and nobody has heard its number: it is found by its mark."""
    with chaos.mute("slurmctld"):
        hub.start(ada, LEARN)
        chaos.await_submission(ada)
        chaos.kill("hub")
    job = hub.job(ada)
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_between_sbatch_and_the_commit_of_a_start_that_is_given_up(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Nobody wants the job any more: it must not stay in the queue as an orphan."""
    with chaos.closed(), chaos.mute("slurmctld"):
        hub.start(ada, LEARN)
        chaos.await_submission(ada)
        chaos.kill("hub")
        until("the start to go on", lambda: hub.server(ada).get("pending") == "spawn")
        hub.call("DELETE", f"users/{ada}/server")
    chaos.no_trace(ada)


def test_while_it_waits_in_the_queue(hub: Hub, chaos: Chaos, ada: str) -> None:
    with chaos.closed():
        hub.start(ada, LEARN)
        job = hub.job(ada)
        chaos.kill("hub")
        until("the start to go on", lambda: hub.server(ada).get("pending") == "spawn")
        assert hub.jobs(ada) == [job]
    assert hub.events(ada)[-1].get("ready")
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_while_it_waits_and_is_stopped_afterwards(hub: Hub, chaos: Chaos, ada: str) -> None:
    with chaos.closed():
        hub.start(ada, LEARN)
        job = hub.job(ada)
        chaos.kill("hub")
        until("the start to go on", lambda: hub.server(ada).get("pending") == "spawn")
        hub.stop(ada)
    chaos.no_trace(ada, job)


def test_the_job_begins_while_there_is_no_hub(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Its program comes for the environment, finds nobody, and waits."""
    with chaos.closed():
        hub.start(ada, LEARN)
        job = hub.job(ada)
        with chaos.dead_hub():
            hub.slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
            until("the session's program", lambda: any("spawners.singleuser" in line for line in hub.processes(ada)))
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_while_it_runs_and_is_silent(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    job = hub.job(ada)
    chaos.freeze_session(ada, job)
    chaos.kill("hub")
    until("the start to go on", lambda: hub.server(ada).get("pending") == "spawn")
    assert hub.jobs(ada) == [job]
    chaos.thaw()
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_it_begins_to_listen_while_there_is_no_hub(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    job = hub.job(ada)
    chaos.freeze_session(ada, job)
    with chaos.dead_hub():
        chaos.thaw()
        log = hub.log(ada)
        until("the session's look for its hub", lambda: listens(ada) or "connect to my Hub" in log.read_text())
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_while_it_is_ready(hub: Hub, chaos: Chaos, ada: str) -> None:
    """People at work notice nothing: their pages do not pass the hub."""
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    with chaos.dead_hub():
        assert answers(hub, ada)
    assert hub.server(ada)["ready"]
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_while_it_is_ready_and_its_job_ends_meanwhile(hub: Hub, chaos: Chaos, ada: str) -> None:
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    with chaos.dead_hub():
        hub.slurm("scancel", str(job))
        until("the end of the job", lambda: hub.jobs(ada) == [])
    chaos.no_trace(ada, job)


def test_while_it_is_being_stopped(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Slurm has not yet been told when the hub dies: whoever asked for the end gets it, or can ask again."""
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    with chaos.mute("slurmctld"):
        with pytest.raises(httpx.TimeoutException):
            httpx.delete(
                f"{hub.url}hub/api/users/{ada}/server", headers={"Authorization": f"token {hub.token}"}, timeout=2
            )
        chaos.kill("hub")
    if hub.server(ada):
        hub.stop(ada)
    chaos.no_trace(ada, job)
