"""Slurm's daemons are gone for a while: "I could not ask" is never "it is gone"."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from chaos import Chaos, listens
from hubclient import Hub, until

LEARN = {"profile": "learn"}
QUARTER = {"profile": "quarter-gpu"}


def answers(hub: Hub, user: str) -> bool:
    """Whether the person's server answers through the proxy."""
    return httpx.get(f"{hub.url}user/{user}/api", timeout=10).status_code == 200


def test_the_controller_is_away_for_long(hub: Hub, chaos: Chaos, person: Callable[..., str]) -> None:
    """Away for so long that the hub has backed off several times, with sessions in every phase."""
    waiting, starting, running, stopping, newcomer = (person("learner", n) for n in range(5))
    with chaos.closed("gpu"):
        hub.start(waiting, QUARTER)
        hub.start(starting, LEARN)
        hub.start(running, LEARN)
        hub.start(stopping, LEARN)
        jobs = {name: hub.job(name) for name in (waiting, starting, running, stopping)}
        chaos.freeze_session(starting, jobs[starting])
        hub.ready(running)
        hub.ready(stopping)
        log = chaos.logged("hub")
        with chaos.stopped("slurmctld"):
            assert hub.call("DELETE", f"users/{stopping}/server").status_code in (202, 204)
            assert hub.start(newcomer, LEARN).status_code == 202
            told = hub.events(newcomer)[-1]
            assert told["failed"]
            assert "scheduler does not answer" in told["message"]
            assert "Try again" in told["message"]
            until("the third step of backing off", lambda: "(time 3 in a row" in log.text(), 120)
            hub.progress(waiting, "does not answer")
            assert hub.server(waiting)["pending"] == "spawn"
            assert hub.server(starting)["pending"] == "spawn"
            assert hub.server(running)["ready"]
            assert answers(hub, running)
    chaos.thaw()
    chaos.no_trace(stopping, jobs[stopping])
    chaos.no_trace(newcomer)
    for name in (waiting, starting, running):
        hub.ready(name)
        assert hub.jobs(name) == [jobs[name]]
        assert answers(hub, name)
    for name in (waiting, starting, running):
        hub.stop(name)
        chaos.no_trace(name, jobs[name])


def test_the_controller_goes_as_a_session_begins_to_listen(hub: Hub, chaos: Chaos, ada: str) -> None:
    """The hub has a port, and nobody tells it the address of the node: it knows that already, or waits."""
    chaos.kill("hub")  # which forgets the addresses that it knows
    hub.start(ada, LEARN)
    job = hub.job(ada)
    chaos.freeze_session(ada, job)
    hub.progress(ada, "Running on")
    log = chaos.logged("hub")
    with chaos.stopped("slurmctld"):
        chaos.thaw()
        until("the session's port", lambda: listens(ada))
        until("the hub's question", lambda: "Slurm did not answer" in log.text())
        server = hub.server(ada)
        assert server["ready"] or server["pending"] == "spawn"
    hub.ready(ada)
    assert hub.jobs(ada) == [job]
    assert answers(hub, ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_a_submission_that_got_no_answer_leaves_no_job(hub: Hub, chaos: Chaos, ada: str) -> None:
    """slurmctld reads the request after its sender has given up."""
    with chaos.mute("slurmctld"):
        hub.start(ada, LEARN)
        told = hub.events(ada)[-1]
        assert told["failed"]
        assert "scheduler does not answer" in told["message"]
    chaos.no_trace(ada)
    hub.start(ada, LEARN)
    hub.ready(ada)
    job = hub.job(ada)
    hub.stop(ada)
    chaos.no_trace(ada, job)


def test_accounting_is_away(hub: Hub, chaos: Chaos, ada: str) -> None:
    """Nobody notices; what was used meanwhile is charged once slurmdbd is back."""
    with chaos.stopped("slurmdbd"):
        hub.start(ada, LEARN)
        hub.ready(ada)
        job = hub.job(ada)
        assert answers(hub, ada)
        hub.stop(ada)
        chaos.no_trace(ada, job)
    assert chaos.ended_in_accounting(job).startswith("CANCELLED")
