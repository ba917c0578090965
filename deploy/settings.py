"""Which instance a command is about: its folders and what goes into its environment."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_STATE = Path("/var/lib/studiolo")
DEFAULT_PREFIX = Path("/opt/studiolo")
DEFAULT_TEST_PREFIX = Path("/opt/studiolo-test")

EXTRAS = ("hub", "lab", "slurmbox")
# PostgreSQL for the hub's tests with it; its service is named by postgresql-common, so that it is kept from starting
# like all others.
TEST_PACKAGES = ("postgresql", "postgresql-common")
# A font so that screenshots have letters.
BROWSER_PACKAGES = ("chromium", "fonts-dejavu-core")
BASE_PACKAGES = ("ca-certificates", "python3-venv", "sudo")


@dataclass(frozen=True)
class Settings:
    """One instance: where it keeps its state, where its software lies, what the latter holds."""

    state: Path
    prefix: Path
    groups: tuple[str, ...] = ()  # dependency groups beside the extras, e.g. ("test",)
    browser: bool = True  # whether the group "test" brings a browser
    class_size: int | None = None  # learners among the demo people; None: as many as usual

    @property
    def test_packages(self) -> tuple[str, ...]:
        """The system packages that the tests need."""
        if "test" not in self.groups:
            return ()
        return (*TEST_PACKAGES, *BROWSER_PACKAGES) if self.browser else TEST_PACKAGES

    @property
    def log(self) -> Path:
        return self.state / "log" / "up.log"

    @property
    def venv(self) -> Path:
        return self.prefix / "venv"

    @property
    def python(self) -> Path:
        """The installed environment's interpreter."""
        return self.venv / "bin" / "python"

    @property
    def site_file(self) -> Path:
        return self.state / "site.toml"

    @property
    def access_file(self) -> Path:
        return self.state / "access.json"

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"

    @property
    def is_default(self) -> bool:
        return self.state == DEFAULT_STATE and self.prefix == DEFAULT_PREFIX

    def command(self, word: str) -> str:
        """``make up`` with what a person must type before it to mean this instance."""
        state = "" if self.state == DEFAULT_STATE else f"STUDIOLO_STATE={self.state} "
        prefix = "" if self.prefix == DEFAULT_PREFIX else f"STUDIOLO_PREFIX={self.prefix} "
        return f"{state}{prefix}make {word}"


def from_environment(environ: Mapping[str, str], groups: tuple[str, ...] = ()) -> Settings:
    """The instance that ``STUDIOLO_STATE`` and ``STUDIOLO_PREFIX`` name, or the default one."""
    return Settings(
        state=Path(environ.get("STUDIOLO_STATE") or DEFAULT_STATE),
        prefix=Path(environ.get("STUDIOLO_PREFIX") or DEFAULT_PREFIX),
        groups=groups,
        browser=with_browser(environ),
    )


def for_tests(environ: Mapping[str, str]) -> Settings:
    """The instance of one `make test`: a state folder of its own, a prefix kept from run to run.

    ``STUDIOLO_TEST_STATE`` and ``STUDIOLO_TEST_PREFIX`` name others; the state and prefix of a
    running platform are never used, whatever ``STUDIOLO_STATE`` says.
    """
    fresh = f"{DEFAULT_STATE}-test-{secrets.token_hex(3)}"
    return Settings(
        state=Path(environ.get("STUDIOLO_TEST_STATE") or fresh),
        prefix=Path(environ.get("STUDIOLO_TEST_PREFIX") or DEFAULT_TEST_PREFIX),
        groups=("test",),
        browser=with_browser(environ),
    )


def with_browser(environ: Mapping[str, str]) -> bool:
    """Whether tests get a browser: ``STUDIOLO_TEST_BROWSER=no`` saves those their time that need none."""
    return environ.get("STUDIOLO_TEST_BROWSER") != "no"
