"""The tests on another generation of Slurm: Debian 13, which brings Slurm 24.11, in a folder of its own.

``debootstrap`` makes the folder once, and it is kept: a Debian with Python, then whatever an installation
on it needs. A run enters it with mounts and processes of its own (:mod:`deploy.enclosure`) and does there what
`make test` does; afterwards neither a process nor a mount is left, only the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import apt, checks, enclosure, facts, lock, stamps
from deploy.errors import DeployError, Interrupted, Refused
from deploy.python_env import SYSTEM_CERTIFICATES
from deploy.runner import Log, ask, run
from deploy.settings import BASE_PACKAGES, CHECKOUT
from deploy.steps import Steps
from deploy.sudo import ALSO_PASSED, NETWORK_VARIABLES

SUITE = "trixie"
SYSTEM = "Debian 13"
SLURM = "24.11"
TESTS = ("tests/slurm", "tests/hub")

DEFAULT_FOLDER = Path("/var/cache/studiolo/slurm24")
FOLDER_VARIABLE = "STUDIOLO_SLURM24_FOLDER"
MIRROR_VARIABLE = "STUDIOLO_DEBIAN_MIRROR"
MARK = "made-by-studiolo"
STAMP = "root"
NEW_MB = 3_000
AGAIN_MB = 1_000

HOST_PACKAGES = ("debian-archive-keyring", "debootstrap", "gpgv")
INCLUDED = ("python3", *BASE_PACKAGES)

PREFIX = Path("/opt/studiolo-slurm24")  # within the folder

PATIENCE_S = 90  # for the inside to take its instance down after Ctrl-C

# How this machine reaches the registries; what of it holds passwords is lent to a run and not copied.
COPIED = (Path("/etc/hosts"), Path("/etc/resolv.conf"), SYSTEM_CERTIFICATES)
LENT = ("/etc/pip.conf", "/etc/uv/uv.toml", "~/.config/pip/pip.conf", "~/.pip/pip.conf", "~/.config/uv/uv.toml",
        "~/.netrc", "~/.npmrc")  # fmt: skip
APT_SETTINGS = re.compile(r"Acquire::(https?::|Check-|Retries |ForceIPv)")
APT_PROGRAMS = "Proxy-Auto-Detect"  # names a program of this machine
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
PASSED_PREFIXES = ("PIP_", "npm_config_", "NPM_CONFIG_")
NOT_PASSED = frozenset({"KEEP", "SSL_CERT_DIR"})


@dataclass(frozen=True)
class Place:
    """Where the other Debian lies, and the mirror that a person named for it ('' for the machine's own)."""

    folder: Path
    mirror: str = ""

    @property
    def root(self) -> Path:
        """The top of the other Debian's files. Its parent is closed to all but root, for the sake of its setuid programs."""
        return self.folder / "root"

    @property
    def state(self) -> Path:
        """The instance's state, as a path within the folder; its own for each folder, and the same at each run.

        An instance is named after it, and control groups bear that name outside of all folders: two folders must not
        share one, and the next run is to find those that a killed one left.
        """
        return Path(f"/var/lib/studiolo-slurm24-{stamps.digest([str(self.folder)])[:6]}")


def place_from(environ: Mapping[str, str]) -> Place:
    """The place that the environment names, or the usual one."""
    return Place(Path(environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER), environ.get(MIRROR_VARIABLE, ""))


def test(environ: Mapping[str, str], pytest_arguments: Sequence[str]) -> int:
    """Tests on Slurm 24.11; returns pytest's exit status."""
    place = place_from(environ)
    steps = Steps(Log(None), 2)
    with steps.step("Checks"):
        look(place)
    claim(place)
    with lock.held(place.folder):
        steps.log = Log(place.folder / "make.log")
        with steps.step(f"{SYSTEM} in {place.folder}"):
            if is_usable(place):
                steps.note("there already")
            else:
                make(steps.log, place)
            bring_up_to_date(place.root, environ)
        steps.say("")
        status = enter(place.root, CHECKOUT, test_command(pytest_arguments), inner_environment(environ, place.state))
        tell_end(steps, place.root, status)
    return status


def tell_end(steps: Steps, root: Path, status: int) -> None:
    """Say on what the tests ran. A DeployError where that was not the Slurm that was meant."""
    version = installed_version(root, "slurmctld")
    steps.say(f"On {SYSTEM} with Slurm {version or '(not installed)'}, in {root.parent}, which is kept.")
    if status == 0 and not version.startswith(f"{SLURM}."):
        raise DeployError(f"These were no tests of Slurm {SLURM}: {SYSTEM}'s mirror has another version.")


# -- checks -------------------------------------------------------------------------------------------


def look(place: Place) -> None:
    """Refuse, with all reasons at once, what would fail later."""
    folder = facts.look_at_folder(place.folder, MARK)
    busy = lock.holder(place.folder)
    made = stamps.matches(place.folder, STAMP, wanted()) if folder.is_ours else False
    found = check_place(folder, made) + checks.Findings(problems=(busy,) if busy else ())
    if ask(["unshare", "--mount", "--pid", "--fork", "true"]) is None:
        found += checks.problem(
            "This machine does not let root have mounts and processes of its own (`unshare --mount --pid`): "
            "in a container, ask its owner for the capability SYS_ADMIN, or use another machine."
        )
    if found.problems:
        raise Refused(found.problems)


def check_place(folder: facts.FolderFacts, made: bool) -> checks.Findings:
    """Whether the folder will do: ours or empty, safe, on a disk with room where programs may run."""
    # That other users can't pass it is what we want here.
    found = checks.check_folder(FOLDER_VARIABLE, replace(folder, closed_parent=None))
    if folder.noexec:
        found += checks.problem(
            f"{folder.path} is on a file system mounted noexec, where no program runs: set {FOLDER_VARIABLE} to another one."
        )
    need = AGAIN_MB if made else NEW_MB
    if folder.free_mb < need:
        found += checks.problem(
            f"{folder.path} needs {need} MB of disk space, and {folder.free_mb} MB are free: "
            f"free some, or set {FOLDER_VARIABLE} to a larger disk."
        )
    return found


def is_usable(place: Place) -> bool:
    """Whether the folder was made to its end, and the last run in it tidied up after itself."""
    left = place.root / place.state.relative_to("/")
    return stamps.matches(place.folder, STAMP, wanted()) and not left.exists()


def wanted() -> str:
    """What the folder's stamp has to say."""
    return stamps.digest([SUITE, *INCLUDED])


# -- making the folder --------------------------------------------------------------------------------


def claim(place: Place) -> None:
    """Make the outer folder, closed to others, and mark it as ours."""
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(place.folder, 0o700)
    (place.folder / MARK).write_text("Made by Studiolo's `make test-slurm24`; safe to remove while none runs.\n")


def make(log: Log, place: Place) -> None:
    """Make the other Debian anew; what an interrupted run left of an earlier one goes first."""
    stamps.drop(place.folder, STAMP)
    remove(place.root)
    journal = place.folder / ".services-before.json"
    missing = apt.missing_packages(HOST_PACKAGES)
    if missing or journal.exists():
        apt.install(log, missing, HOST_PACKAGES, journal)
    mirror = place.mirror or own_mirror(log)
    place.root.mkdir(mode=0o755)
    run(
        log,
        debootstrap_command(place.root, mirror),
        f"debootstrap could not make a {SYSTEM} from {without_password(mirror)}. If that mirror has no {SUITE}, "
        f"name one that has it in {MIRROR_VARIABLE}; else look at network and disk and try again.",
        env=debootstrap_environment(os.environ, apt_configuration()),
    )
    stamps.write(place.folder, STAMP, wanted())


def remove(root: Path) -> None:
    """Remove the folder's content, unless something of the machine is mounted there."""
    inside = mounted_below(root, Path("/proc/self/mountinfo").read_text())
    if inside:
        raise DeployError(f"{inside[0]} is a mount: `umount` what lies below {root} first, nothing there is removed.")
    if root.exists():
        shutil.rmtree(root)


def mounted_below(folder: Path, mountinfo: str) -> tuple[str, ...]:
    """Mount points in a folder, itself included, from the kernel's list."""
    points = [line.split()[4] for line in mountinfo.splitlines() if len(line.split()) > 4]
    return tuple(p for p in points if p == str(folder) or p.startswith(f"{folder}/"))


def debootstrap_command(root: Path, mirror: str) -> list[str]:
    """debootstrap's arguments. Signatures are checked, always: without its keys it would go on without."""
    options = ["--variant=minbase", "--force-check-gpg", f"--include={','.join(INCLUDED)}"]
    return ["debootstrap", *options, SUITE, str(root), mirror]


def debootstrap_environment(environ: Mapping[str, str], configuration: str) -> dict[str, str]:
    """apt's proxy for debootstrap too, which fetches by itself and knows nothing of apt's settings."""
    proxies = {
        f"{scheme}_proxy": found[1]
        for scheme in ("http", "https")
        if (found := re.search(rf'^Acquire::{scheme}::Proxy "([^"]+)";$', configuration, re.MULTILINE))
        and found[1] != "DIRECT"
    }
    return {**proxies, **environ, "PATH": apt.ROOT_PATH, "LC_ALL": "C.UTF-8"}


def own_mirror(log: Log) -> str:
    """The mirror that this machine's apt uses for Debian. Refused where it has none."""
    mirror = debian_mirror(index_targets())
    if mirror is None:  # a fresh image has sources, but no lists yet that tell which of them is Debian
        apt.refresh(log)
        mirror = debian_mirror(index_targets())
    if mirror is None:
        raise Refused([f"This machine's apt has no mirror of Debian: name one that has {SUITE} in {MIRROR_VARIABLE}."])
    return mirror


def index_targets() -> str:
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    return ask(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]) or ""


def debian_mirror(targets: str) -> str | None:
    """The first address whose signed index calls itself Debian, in lines of origin, label, component, address."""
    for line in targets.splitlines():
        origin, _, rest = line.partition("|")
        label, _, rest = rest.partition("|")
        component, _, address = rest.partition("|")
        if (origin, label, component) == ("Debian", "Debian", "main") and address.startswith(("http", "file:")):
            return address
    return None


def without_password(address: str) -> str:
    """An address as it may be shown."""
    return re.sub(r"//[^/@]*@", "//", address)


def apt_configuration() -> str:
    return ask(["apt-config", "dump"]) or ""


def apt_settings(configuration: str) -> str:
    """How this machine's apt reaches its mirrors, as a file of settings for the other one."""
    lines = [line for line in configuration.splitlines() if APT_SETTINGS.match(line) and APT_PROGRAMS not in line]
    return "\n".join(["// From the machine's own apt, at each run.", *lines, ""])


# -- entering it --------------------------------------------------------------------------------------


def bring_up_to_date(root: Path, environ: Mapping[str, str]) -> None:
    """Give the folder the machine's names, certificates and apt settings as they are now."""
    (root / "etc/apt/apt.conf.d/90machine").write_text(apt_settings(apt_configuration()))
    for file in (*COPIED, *certificates(environ)):
        if file.is_file():
            target = root / file.relative_to("/")
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a link there would lead out of the folder
            shutil.copyfile(file, target)


def certificates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files of certificates that the environment names."""
    named = {environ[name] for name in CERTIFICATE_VARIABLES if environ.get(name, "").startswith("/")}
    return tuple(Path(file) for file in sorted(named))


def lent_files(home: Path) -> tuple[tuple[Path, Path], ...]:
    """The registries' settings that there are: where each lies, and where root looks for it in the folder."""
    pairs = [(Path(name.replace("~", str(home), 1)), Path(name.replace("~", "/root", 1))) for name in LENT]
    return tuple((source, target) for source, target in pairs if source.is_file())


def inner_environment(environ: Mapping[str, str], state: Path) -> dict[str, str]:
    """The environment inside: how to reach the registries, and which instance to test on; nothing else of the caller's."""
    passed = {
        name: value
        for name, value in environ.items()
        if (name in NETWORK_VARIABLES | ALSO_PASSED or name.startswith(PASSED_PREFIXES)) and name not in NOT_PASSED
    }
    return {
        **passed,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": apt.ROOT_PATH,
        "TERM": environ.get("TERM", "dumb"),
        "STUDIOLO_TEST_STATE": str(state),
        "STUDIOLO_TEST_PREFIX": str(PREFIX),
        "STUDIOLO_TEST_BROWSER": environ.get("STUDIOLO_TEST_BROWSER", "no"),
    }


def test_command(pytest_arguments: Sequence[str]) -> list[str]:
    """`make test` as it is called inside."""
    return [str(facts.SYSTEM_PYTHON), "-B", "-m", "deploy", "test", "--", *(pytest_arguments or TESTS)]


def enter(root: Path, checkout: Path, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command inside to its end; its exit status. Interrupted, it is given the time to tidy up."""
    words = enclosure.command(facts.SYSTEM_PYTHON, root, checkout, lent_files(Path.home()), command)
    sys.stdout.flush()
    # A session of its own: Ctrl-C reaches this process alone, which then asks the inside to end by closing the pipe.
    process = subprocess.Popen(
        words, cwd=checkout, env=dict(environment), stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        status = process.wait()
    except (KeyboardInterrupt, Interrupted):
        assert process.stdin is not None
        process.stdin.close()
        print(f"\nStopping what runs in {root} …", file=sys.stderr)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        raise
    finally:
        if process.poll() is None:
            process.kill()  # and with it, all that runs inside
            process.wait()
    return status if status >= 0 else 128 - status


def installed_version(root: Path, package: str) -> str:
    """The version of a package in the folder; '' where it is not installed."""
    try:
        listing = (root / "var/lib/dpkg/status").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return package_version(listing, package)


def package_version(listing: str, package: str) -> str:
    """A package's version from dpkg's list of all; '' where it is not installed."""
    for paragraph in listing.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") == package and fields.get("Status", "").endswith(" installed"):
            return fields.get("Version", "")
    return ""
