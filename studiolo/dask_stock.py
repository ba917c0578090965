"""What is taken of dask-jobqueue, imported so that it leaves the process's signals alone.

Its module ``runner`` makes Ctrl-C end the process of whoever imports it (0.9.0, at its top), and so can not be imported on any
thread but the main one. Nothing of ours uses runners. This can go once importing sets no handler any more.
"""

from __future__ import annotations

import signal
from unittest import mock

with mock.patch.object(signal, "signal"):
    from dask_jobqueue.core import Job, JobQueueCluster

__all__ = ["Job", "JobQueueCluster"]
