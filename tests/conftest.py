"""Fixtures for all tests. Those that need a running platform bring it up once, by the very code of `make up`."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Platform:
    """A running platform: its folders, and the commands of the Makefile for it."""

    state: Path
    prefix: Path

    def make(self, word: str, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run one of the Makefile's commands on this platform; never raises for a failed one."""
        command = ["/usr/bin/python3", "-B", "-m", "deploy", word, *arguments]
        environment = {**os.environ, "STUDIOLO_STATE": str(self.state), "STUDIOLO_PREFIX": str(self.prefix)}
        return subprocess.run(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        """`make up`, keeping the tests' own packages in the environment that they run from."""
        return self.make("up", "--group", "test")


@pytest.fixture(scope="session")
def platform() -> Platform:
    """The platform of this test run, up. `make test` says where it lives, and removes it."""
    import studiolo

    try:
        found = Platform(Path(os.environ["STUDIOLO_STATE"]), Path(os.environ["STUDIOLO_PREFIX"]))
    except KeyError:
        pytest.fail("needs a platform of its own: run it with `make test ARGS=...`", pytrace=False)
    if found.prefix not in Path(studiolo.__file__).parents:
        pytest.fail(f"tests the checkout, not what is installed in {found.prefix}", pytrace=False)
    done = found.up()
    if done.returncode != 0:
        pytest.fail(f"`make up` failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return found


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
