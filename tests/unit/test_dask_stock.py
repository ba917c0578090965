"""Importing Dask's part leaves Ctrl-C as it was, on whatever thread it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = "import signal, threading\nbefore = signal.getsignal(signal.SIGINT)\n"
LOOK = "assert signal.getsignal(signal.SIGINT) is before, signal.getsignal(signal.SIGINT)"
IMPORTS = {
    "main": BEFORE + "import studiolo.dask\n",
    "thread": BEFORE + "def load():\n    global done\n    import studiolo.dask\n    done = True\n"
    "thread = threading.Thread(target=load); thread.start(); thread.join()\nassert done\n",
}


@pytest.mark.parametrize("where", IMPORTS)
def test_ctrl_c_is_left_alone(where: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS[where] + LOOK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
