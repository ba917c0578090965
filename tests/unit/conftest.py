"""What the unit tests share: a good site, fake programs that say how they were called, and a clock that needs no time."""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

from studiolo.site import Site, parse

Value = TypeVar("Value")

# No deadline: these tests assert what happens, never how fast. The same examples each time, so that a red run can be
# repeated as it was; fixtures used with @given here are frozen values or make their own folder. More examples, and
# other ones each time: STUDIOLO_HYPOTHESIS=thorough.
COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],  # not Phase.explain, which takes a minute
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("quick", max_examples=40, derandomize=True, **COMMON)
settings.register_profile("thorough", max_examples=2000, **COMMON)
settings.load_profile(os.environ.get("STUDIOLO_HYPOTHESIS", "quick"))


# --- The site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site_text() -> str:
    return (Path(__file__).parent / "site_for_tests.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def site(site_text: str) -> Site:
    return parse(site_text)


@pytest.fixture(scope="session")
def edited(site_text: str) -> Callable[..., str]:
    """``edited((old, new), …)``: the text of the test site with each ``old``, which must occur once, replaced."""

    def edit(*changes: tuple[str, str]) -> str:
        text = site_text
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
            text = text.replace(old, new)
        return text

    return edit


# --- Fake programs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """How a fake program was called."""

    argv: list[str]
    environment: dict[str, str]
    stdin: str
    folder: str
    umask: int


class FakePrograms:
    """A folder of programs that note how they were called, then say what they are told to say.

    Everybody may enter the folder, so that programs started as another account find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.mkdir(mode=0o777)
        self.calls.chmod(0o777)

    def add(self, name: str, out: str | bytes = "", err: str = "", status: int = 0, then: str = "") -> str:
        """Write one; ``then`` is shell that runs after it has spoken. Returns its path."""
        said = self.folder / f"{name}.out"
        said.write_bytes(out if isinstance(out, bytes) else out.encode())
        warned = self.folder / f"{name}.err"
        warned.write_text(err, encoding="utf-8")
        note = self.calls / name
        # /proc tells the environment and the arguments as they were handed over, before the shell adds its own.
        self._install(
            name,
            # Two at the same moment are two calls.
            f"n=0; until mkdir {note}.$n 2>/dev/null || [ $n -gt 999 ]; do n=$((n + 1)); done\n"
            f"cat /proc/$$/environ >{note}.$n.environ\n"
            f"pwd -P >{note}.$n.folder\n"
            f"umask >{note}.$n.umask\n"
            f"cat >{note}.$n.stdin\n"
            f"cat /proc/$$/cmdline >{note}.$n.argv\n"
            f"cat {said}\ncat {warned} >&2\n{then}\nexit {status}\n",
        )
        return str(self.folder / name)

    def add_script(self, name: str, body: str) -> str:
        """Write one that runs ``body`` and notes nothing."""
        self._install(name, body)
        return str(self.folder / name)

    def called(self, name: str) -> list[Call]:
        """All calls of one program, in order."""
        calls = []
        # The last thing that is written of each.
        for number in sorted(int(path.suffixes[-2][1:]) for path in self.calls.glob(f"{name}.*.argv")):
            base = f"{self.calls}/{name}.{number}"
            argv = Path(f"{base}.argv").read_text(encoding="utf-8").split("\0")[:-1]
            pairs = Path(f"{base}.environ").read_text(encoding="utf-8").split("\0")[:-1]
            calls.append(
                Call(
                    argv=argv[1:],  # without the shell that reads the program
                    environment=dict(pair.partition("=")[::2] for pair in pairs),
                    stdin=Path(f"{base}.stdin").read_text(encoding="utf-8"),
                    folder=Path(f"{base}.folder").read_text(encoding="utf-8").strip(),
                    umask=int(Path(f"{base}.umask").read_text(encoding="utf-8"), 8),
                )
            )
        return calls

    def _install(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
        path.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every account may enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="studiolo-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def programs(open_folder: Path) -> FakePrograms:
    folder = open_folder / "programs"
    folder.mkdir()
    folder.chmod(0o755)
    return FakePrograms(folder)


# --- Time ------------------------------------------------------------------------------------------------------------


class _Impatient(selectors.DefaultSelector):  # type: ignore[valid-type,misc]  # one of several classes, by platform
    """Never waits: where the loop would, its clock is moved on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits for something that never happens")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour passes at once."""

    now = 0.0

    def __init__(self) -> None:
        selector = _Impatient()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def _run_virtually(coroutine: Coroutine[Any, Any, Value]) -> Value:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def virtually() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """``virtually(coroutine)``: run it in virtual time; fails where everything would wait for ever."""
    return _run_virtually


# --- Messages --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def assert_harmless() -> Callable[[str], None]:
    """A message may break its lines between faults and hold nothing else that a terminal or log would act on."""

    def check(message: str) -> None:
        for line in message.split("\n"):
            assert line.isprintable(), f"control characters in {line!r}"
            assert len(line) <= 1000, f"a line of {len(line)} characters"
        message.encode()
        assert not re.search(r"0x[0-9a-f]{8,}", message), "the address of an object is no message"

    return check
