"""Fixtures for all tests. Those that need a running platform bring it up once, by the very code of `make up`.

`make test` may run several pytest workers beside each other; each has a platform of its own, of the same software.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FIRST_WORKER = "gw0"  # as pytest-xdist names them
PUTTING_DOWN_S = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many tests on the platform first, those that need none last: no worker is left with a long one at the end."""
    live = Counter(item.path for item in items if "platform" in getattr(item, "fixturenames", ()))
    items.sort(key=lambda item: -live[item.path])


@dataclass(frozen=True)
class Platform:
    """A running platform: its folders, and the commands of the Makefile for it."""

    state: Path
    prefix: Path

    def make(self, word: str, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run one of the Makefile's commands on this platform; never raises for a failed one."""
        command = ["/usr/bin/python3", "-B", "-m", "deploy", word, *arguments]
        environment = {**os.environ, "STUDIOLO_STATE": str(self.state), "STUDIOLO_PREFIX": str(self.prefix)}
        quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
        with (
            self._alone() if word == "up" else contextlib.nullcontext(),
            subprocess.Popen(
                command, cwd=CHECKOUT, env=environment, stdin=quiet, stdout=pipe, stderr=pipe, text=True
            ) as process,
        ):
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.terminate()  # it ends what it has begun, which a kill would leave at work
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=PUTTING_DOWN_S)
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One worker's `make up` at a time: it refuses to start while another is at work on the same software."""
        descriptor = os.open(self.prefix / ".up-for-tests", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def up(self) -> subprocess.CompletedProcess[str]:
        """`make up`, keeping the tests' own packages in the environment that they run from."""
        return self.make("up", "--group", "test")


@pytest.fixture(scope="session")
def platform() -> Platform:
    """The platform of this worker, up. `make test` says where they live, and removes them (``deploy.chores``)."""
    import studiolo

    try:
        found = Platform(own_state(os.environ["STUDIOLO_STATE"]), Path(os.environ["STUDIOLO_PREFIX"]))
    except KeyError:
        pytest.fail("needs a platform of its own: run it with `make test ARGS=...`", pytrace=False)
    if found.prefix not in Path(studiolo.__file__).parents:
        pytest.fail(f"tests the checkout, not what is installed in {found.prefix}", pytrace=False)
    done = found.up()
    if done.returncode != 0:
        pytest.fail(f"`make up` failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return found


def own_state(state: str) -> Path:
    """The state folder of this worker: the one that was chosen, for other workers than the first one beside it."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", FIRST_WORKER)
    return Path(state if worker == FIRST_WORKER else f"{state}-{worker}")


@pytest.fixture(scope="session")
def box(platform: Platform) -> Any:
    """The embedded cluster's ``slurmbox.instance.Instance``."""
    from slurmbox.instance import load

    return load(platform.state)


@pytest.fixture(scope="session")
def access(platform: Platform) -> dict[str, Any]:
    """The content of ``access.json``."""
    content: dict[str, Any] = json.loads((platform.state / "access.json").read_text())
    return content


@pytest.fixture(scope="session")
def site_file(platform: Platform) -> Path:
    """The site file of the embedded cluster."""
    return platform.state / "site.toml"
