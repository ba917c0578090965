"""What an operator's Prometheus reads of the engine on ``/hub/metrics``, beside JupyterHub's own. Read when scraped: asks
Slurm nothing, keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spawners.engine import Engine

__all__ = ["ESTIMATE_ERROR", "QUEUE_WAIT", "EngineCollector"]

MINUTE, HOUR = 60, 3600
QUEUE_WAIT = Histogram(
    "studiolo_queue_wait_seconds",
    "From a session's submission to its job's start, for sessions that came to listen.",
    ["cluster"],
    buckets=(1, 2, 5, 10, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR),
)
ESTIMATE_ERROR = Histogram(
    "studiolo_estimate_error_seconds",
    "By how much later (or, below zero, sooner) a session's job started than its owner was told at submission.",
    ["cluster"],
    buckets=(-4 * HOUR, -HOUR, -15 * MINUTE, -5 * MINUTE, -MINUTE, 5, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR),
)


class EngineCollector(Collector):
    """Reads an engine each time it is scraped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The engine's numbers as they are now."""
        calls = CounterMetricFamily(
            "studiolo_slurm_calls", "Calls to Slurm since the hub began.", labels=["cluster", "call"]
        )
        silent = GaugeMetricFamily(
            "studiolo_slurm_silent_seconds", "How long Slurm has not answered; 0 if it does.", labels=["cluster"]
        )
        sessions = GaugeMetricFamily(
            "studiolo_sessions", "Sessions followed, by Slurm's word for their state.", labels=["cluster", "state"]
        )
        now = time.time()
        for cluster, client in self._engine.slurm.items():
            for call, number in client.calls.items():
                calls.add_metric([cluster, call], number)
            since = self._engine.choosing.silent_since(cluster)
            silent.add_metric([cluster], 0.0 if since is None else max(0.0, now - since))
            for state, number in self._engine.watchers[cluster].states().items():
                sessions.add_metric([cluster, state.lower()], number)
        yield from (calls, silent, sessions)
